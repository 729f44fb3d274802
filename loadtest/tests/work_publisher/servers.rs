//! What is published to: a node and a Redis that can be killed and come back, and a server that answers as it is told.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use umbel_loadtest::channels::{Channels, PREFIX};
use umbel_loadtest::os::process::ends_within;
use umbel_loadtest::work::orders::Place;

/// Time that a server has to be ready.
const READY: Duration = Duration::from_secs(10);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// A program at a fixed port, killed when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    program: PathBuf,
    arguments: Vec<String>,
    /// What says that it is ready, and to whom.
    ready: (SocketAddr, &'static str, &'static str),
    child: Option<Child>,
}

impl Server {
    /// A node of one worker, which has its messages from `redis` if that is given.
    pub(crate) fn node(redis: Option<&Server>) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_umbel-loadtest"));
        let program = program.with_file_name("examples").join("fleet_node");
        let (address, admin) = (free_port(), free_port());
        let arguments = format!("serve --listen {address} --admin {admin} --workers 1");
        let mut arguments: Vec<_> = arguments.split(' ').map(str::to_owned).collect();
        if let Some(redis) = redis {
            arguments.extend(["--broker".to_owned(), redis.channels().url()]);
        }
        let ready = (admin, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200");
        Self { address, program, arguments, ready, child: None }.started()
    }

    /// A Redis that has all that it was told after a restart.
    pub(crate) fn redis(test: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("publisher-{test}"));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        let (address, directory) = (free_port(), directory.display());
        let arguments = format!("--bind 127.0.0.1 --port {} --dir {directory}", address.port());
        let mut arguments: Vec<_> = arguments.split(' ').map(str::to_owned).collect();
        arguments.extend(["--save", "", "--appendonly", "yes"].map(str::to_owned));
        let ready = (address, "PING\r\n", "+PONG");
        let program = PathBuf::from("redis-server");
        Self { address, program, arguments, ready, child: None }.started()
    }

    fn started(mut self) -> Self {
        self.start();
        self
    }

    /// Starts it, at the port that it had.
    pub(crate) fn start(&mut self) {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null());
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let deadline = Instant::now() + READY;
        while !self.is_ready() {
            let child = self.child.as_ref().unwrap();
            assert!(!ends_within(child, LOOK).unwrap(), "it ended before it was ready");
            assert!(Instant::now() < deadline, "it isn't ready");
        }
    }

    /// Ends it by SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn is_ready(&self) -> bool {
        let (address, question, answer) = self.ready;
        let ask = || {
            let mut stream = TcpStream::connect_timeout(&address, READY)?;
            stream.set_read_timeout(Some(READY))?;
            stream.write_all(question.as_bytes())?;
            let mut heard = vec![0; answer.len()];
            stream.read_exact(&mut heard)?;
            std::io::Result::Ok(heard == answer.as_bytes())
        };
        ask().unwrap_or(false)
    }

    pub(crate) fn place(&self) -> Place {
        place(self.address)
    }

    pub(crate) fn channels(&self) -> Channels {
        Channels { address: self.address, prefix: PREFIX.to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where requests to `address` go, at the default path.
pub(crate) fn place(address: SocketAddr) -> Place {
    Place { address, host: address.to_string(), path: String::new() }
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// What a [`Scripted`] server does with a request.
#[derive(Clone)]
pub(crate) enum Does {
    /// Answers with this status and body.
    Answer(u16, String),
    /// The same, and closes.
    AnswerAndClose(u16, String),
    /// Closes without an answer.
    Close,
    /// Says nothing.
    Nothing,
}

/// Reads requests with bodies, and does to each what is next; to all behind the last the same as to that.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// Serves until the test's process ends.
    pub(crate) fn start(does: Vec<Does>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let kept = bodies.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = serve(stream.unwrap(), &does, &kept);
            }
        });
        Self { address, bodies }
    }

    /// The bodies that came, in order.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, does: &[Does], bodies: &Mutex<Vec<String>>) -> std::io::Result<()> {
    loop {
        let body = read_request(&mut stream)?;
        let number = {
            let mut bodies = bodies.lock().unwrap();
            bodies.push(body);
            bodies.len() - 1
        };
        let (status, body, close) = match &does[number.min(does.len() - 1)] {
            Does::Answer(status, body) => (status, body, ""),
            Does::AnswerAndClose(status, body) => (status, body, "Connection: close\r\n"),
            Does::Close => return Ok(()),
            Does::Nothing => continue,
        };
        let length = body.len();
        write!(stream, "HTTP/1.1 {status} X\r\n{close}Content-Length: {length}\r\n\r\n{body}")?;
        if !close.is_empty() {
            return Ok(());
        }
    }
}

fn read_request(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body)?;
    Ok(String::from_utf8(body).unwrap())
}

/// Passes bytes on to `server` and back, until the test's process ends. The first connection is cut when the server has
/// said `answer`, which doesn't come through. Says where it listens.
pub(crate) fn cut_once(server: SocketAddr, answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let (client, server) = (client.unwrap(), TcpStream::connect(server).unwrap());
            let mut forth = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut forth.0, &mut forth.1));
            // A connection that ends is as it should be.
            let _ = pass_back(server, &client, (number == 0).then_some(answer));
            let _ = client.shutdown(Shutdown::Both);
        }
    });
    address
}

fn pass_back(
    mut server: TcpStream,
    mut client: &TcpStream,
    until: Option<&str>,
) -> std::io::Result<()> {
    let mut buffer = [0; 16384];
    loop {
        let read = server.read(&mut buffer)?;
        let said = String::from_utf8_lossy(&buffer[..read]);
        if read == 0 || until.is_some_and(|until| said.contains(until)) {
            return server.shutdown(Shutdown::Both);
        }
        client.write_all(&buffer[..read])?;
    }
}
