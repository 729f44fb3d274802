//! Clients that send more than anybody wants to have.

use std::io;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::within;

/// After how long without another byte taken it is clear that no more is.
const PATIENCE: Duration = Duration::from_secs(1);

/// What became of bytes that nobody had asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poured {
    /// All were taken.
    All,
    /// After so many bytes no more were taken.
    Stopped(usize),
    /// After so many bytes the connection had ended.
    Ended(usize),
}

/// Sends the same bytes again and again without reading, until nothing more is taken.
pub async fn pour(stream: &TcpStream, bytes: &[u8], times: usize) -> Poured {
    let mut poured = 0;
    while poured < bytes.len() * times {
        match timeout(PATIENCE, stream.writable()).await {
            Ok(ready) => ready.unwrap(),
            Err(_) => return Poured::Stopped(poured),
        }
        match stream.try_write(&bytes[poured % bytes.len()..]) {
            Ok(written) => poured += written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Poured::Ended(poured),
        }
    }
    Poured::All
}

/// Sends bytes and reads meanwhile, until so many were read or the connection has ended. Gives
/// what was read.
pub async fn converse(stream: &mut TcpStream, bytes: &[u8], wanted: usize) -> Vec<u8> {
    let (mut reader, mut writer) = stream.split();
    let send = async {
        for piece in bytes.chunks(64 * 1024) {
            // The other side may have closed.
            if within("a write", writer.write_all(piece)).await.is_err() {
                return;
            }
        }
    };
    let receive = async {
        let mut received = Vec::new();
        while received.len() < wanted {
            match within("an answer", reader.read_buf(&mut received)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        received
    };
    tokio::join!(send, receive).1
}

/// Lets this process and the nodes that it starts have as many connections as the system allows.
pub fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}
