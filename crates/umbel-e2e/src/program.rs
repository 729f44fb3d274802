//! The program as one uses it in a shell: arguments, pipes, signals.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};

use crate::node::program;
use crate::within;

/// A running command with a pipe at each end.
#[derive(Debug)]
pub struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: BufReader<ChildStderr>,
}

/// What a command left behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed that wasn't read before.
    pub stdout: String,
    /// What it said that wasn't read before.
    pub stderr: String,
}

impl Program {
    /// Starts the program.
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = program();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        Self {
            stdin: child.stdin.take(),
            stdout: child.stdout.take().map(BufReader::new),
            stderr: BufReader::new(child.stderr.take().unwrap()),
            child,
        }
    }

    /// Runs the program to its end, with this as its input.
    pub async fn run(arguments: &[&str], input: &[u8]) -> Output {
        let mut program = Self::start(arguments);
        program.write(input).await;
        program.finish().await
    }

    /// Writes to its input. A program that has ended meanwhile doesn't take it.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = within("the write", self.stdin.as_mut().unwrap().write_all(bytes)).await;
    }

    /// The next line that it prints.
    pub async fn line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.stdout.as_mut().unwrap();
        within("the next line", stdout.read_line(&mut line)).await.unwrap();
        assert_eq!(line.pop(), Some('\n'), "the output ended: {line:?}");
        line
    }

    /// Reads what it says until a line has this in it, and gives that line.
    pub async fn says(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            let read = within(text, self.stderr.read_line(&mut line)).await.unwrap();
            assert!(read > 0, "it ended without saying {text:?}");
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Nobody reads what it prints any more.
    pub fn close_output(&mut self) {
        self.stdout = None;
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        let kill = std::process::Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(kill.unwrap().success());
    }

    /// Waits for its end without reading what it prints, and gives its exit code.
    pub async fn abandon(mut self) -> Option<i32> {
        within("the program's end", self.child.wait()).await.unwrap().code()
    }

    /// Ends its input, reads what it prints and says until its end, and gives that.
    pub async fn finish(mut self) -> Output {
        self.stdin = None;
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let printed = async {
            match &mut self.stdout {
                Some(pipe) => pipe.read_to_string(&mut stdout).await,
                None => Ok(0),
            }
        };
        let said = self.stderr.read_to_string(&mut stderr);
        let end = async { tokio::join!(printed, said, self.child.wait()) };
        let (printed, said, status) = within("the program's end", end).await;
        printed.and(said).unwrap();
        Output { code: status.unwrap().code(), stdout, stderr }
    }
}
