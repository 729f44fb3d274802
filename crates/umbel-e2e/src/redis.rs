//! A Redis server of the test's own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{eventually, within};

/// A running `redis-server` on a port of its own, without persistence. Ended when dropped.
#[derive(Debug)]
pub struct Redis {
    child: Option<Child>,
    port: u16,
    arguments: Vec<String>,
    directory: PathBuf,
}

impl Redis {
    /// Starts a server and waits until it answers.
    pub async fn start(arguments: &[&str]) -> Self {
        let mut redis = Self::absent(arguments).await;
        redis.start_again().await;
        redis
    }

    /// A server that isn't started yet, whose port is known.
    pub async fn absent(arguments: &[&str]) -> Self {
        // Free a moment ago; nobody else on the machine is likely to take it meanwhile.
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let name = format!("umbel-e2e-redis-{}-{port}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { child: None, port, arguments, directory }
    }

    /// Starts the server, on the same port as before.
    pub async fn start_again(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .args(&self.arguments)
            .current_dir(&self.directory)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed (Debian: apt-get install redis-server)");
        self.child = Some(child);
        eventually("the Redis server", || async {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
            let answer = RedisClient { stream }.try_command(&["PING"]).await.ok()?;
            (!answer.is_empty()).then_some(())
        })
        .await;
    }

    /// Where it keeps its files.
    pub fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    /// Its URL, for `--broker`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection for commands.
    pub async fn client(&self) -> RedisClient {
        RedisClient::to(self.port).await
    }

    /// One command on a connection of its own; its answer as `redis-cli` would show it, roughly.
    pub async fn command(&self, words: &[&str]) -> String {
        self.client().await.command(words).await
    }

    /// The channels of topics that anyone is subscribed to, in order, without the probes'.
    pub async fn channels(&self) -> Vec<String> {
        let listed = self.command(&["PUBSUB", "CHANNELS"]).await;
        let mut channels: Vec<_> = listed
            .lines()
            .filter(|line| line.starts_with("umbel:") && !line.contains('!'))
            .map(str::to_owned)
            .collect();
        channels.sort();
        channels
    }

    /// Waits until exactly these channels have subscribers.
    pub async fn channels_become(&self, expected: &[&str]) {
        let seen = crate::wait::poll_until(|| async {
            let channels = self.channels().await;
            let done = channels == expected;
            (channels, done)
        });
        if let Err(last) = seen.await {
            panic!("{last:?} have subscribers, not {expected:?}");
        }
    }

    /// Ends the server at once, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends a signal, such as STOP, to the server.
    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        let status = Command::new("kill").arg(format!("-{name}")).arg(pid).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A connection to Redis, in plain bytes.
#[derive(Debug)]
pub struct RedisClient {
    stream: TcpStream,
}

impl RedisClient {
    pub(crate) async fn to(port: u16) -> Self {
        let stream = within("Redis", TcpStream::connect(("127.0.0.1", port))).await.unwrap();
        Self { stream }
    }

    /// One command and its answer: strings and numbers one per line, without types.
    pub async fn command(&mut self, words: &[&str]) -> String {
        let words: Vec<_> = words.iter().map(|word| word.as_bytes()).collect();
        self.command_bytes(&words).await
    }

    /// The same with any bytes.
    pub async fn command_bytes(&mut self, words: &[&[u8]]) -> String {
        within("an answer of Redis", self.exchange(words)).await.unwrap()
    }

    /// Sends many commands and waits for all their answers, which are not looked at.
    pub async fn pipeline(&mut self, commands: &[Vec<Vec<u8>>]) {
        let mut bytes = Vec::new();
        for command in commands {
            let words: Vec<_> = command.iter().map(Vec::as_slice).collect();
            write_command(&mut bytes, &words);
        }
        let (mut reader, mut writer) = self.stream.split();
        let write = async { writer.write_all(&bytes).await.unwrap() };
        let read = async {
            let mut input = Vec::new();
            let mut answers = 0;
            while answers < commands.len() {
                while let Some(used) = skip_value(&input) {
                    input.drain(..used);
                    answers += 1;
                }
                if answers < commands.len() {
                    assert_ne!(reader.read_buf(&mut input).await.unwrap(), 0, "Redis hung up");
                }
            }
        };
        within("the answers of Redis", async { tokio::join!(write, read) }).await;
    }

    /// The next value that comes by itself, such as a message after SUBSCRIBE.
    pub async fn next(&mut self) -> String {
        within("a message of Redis", self.answer()).await.unwrap()
    }

    async fn try_command(&mut self, words: &[&str]) -> std::io::Result<String> {
        let words: Vec<_> = words.iter().map(|word| word.as_bytes()).collect();
        self.exchange(&words).await
    }

    async fn exchange(&mut self, words: &[&[u8]]) -> std::io::Result<String> {
        let mut bytes = Vec::new();
        write_command(&mut bytes, words);
        self.stream.write_all(&bytes).await?;
        self.answer().await
    }

    /// One value; nothing may follow it.
    async fn answer(&mut self) -> std::io::Result<String> {
        let mut input = Vec::new();
        loop {
            if skip_value(&input).is_some() {
                return Ok(shown(&input));
            }
            if self.stream.read_buf(&mut input).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn write_command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// The length of the first value, if it is complete.
fn skip_value(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let number = || std::str::from_utf8(&bytes[1..line - 2]).unwrap().parse::<i64>().unwrap();
    match bytes[0] {
        b'+' | b'-' | b':' => Some(line),
        b'$' => {
            let Ok(len) = usize::try_from(number()) else {
                return Some(line);
            };
            (bytes.len() >= line + len + 2).then_some(line + len + 2)
        }
        b'*' => {
            let mut at = line;
            for _ in 0..number().max(0) {
                at += skip_value(&bytes[at..])?;
            }
            Some(at)
        }
        other => panic!("Redis sent a value that begins with {other:#x}"),
    }
}

/// Every string and number on a line of its own.
fn shown(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let lines = text.split("\r\n").filter(|line| !line.starts_with(['*', '$']));
    let lines: Vec<_> =
        lines.map(|line| line.strip_prefix(['+', '-', ':']).unwrap_or(line)).collect();
    lines.join("\n").trim_end().to_owned()
}
