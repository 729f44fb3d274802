//! One request and its whole answer, waited for.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Time for each step: to connect, to send, and for each part of the answer.
const STEP: Duration = Duration::from_secs(5);
/// Longest answer that is read.
const LONGEST: u64 = 16 << 20;

/// Sends `request` to `address` and reads until the other side closes, which the request must ask for.
pub fn ask(address: SocketAddr, request: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, STEP)?;
    stream.set_read_timeout(Some(STEP))?;
    stream.set_write_timeout(Some(STEP))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_whole_answer_is_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let other = std::thread::spawn(move || -> io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            stream.read_exact(&mut [0; 2])?;
            stream.write_all(b"one")?;
            stream.write_all(b"two")
        });
        assert_eq!(ask(address, "hi").unwrap(), b"onetwo");
        other.join().unwrap().unwrap();
        assert!(ask(address, "hi").is_err(), "nobody listens any more");
    }
}
