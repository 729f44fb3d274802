//! The connection on which Redis sends the messages of subscribed topics.
//!
//! A topic is subscribed when its first subscriber comes, and stays so. Topics are numbered as they are
//! subscribed, and Redis confirms in that order: two counts are all the state there is.

use std::io;
use std::time::Duration;

use crate::channels::Channels;
use crate::os::poller::Poller;
use crate::os::stream::Stream;
use crate::wire::resp::{self, Push};

/// Time that Redis has to accept the connection.
const CONNECT: Duration = Duration::from_secs(5);

/// What comes over the link.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival<'a> {
    /// A message of a topic.
    Message { topic: &'a [u8], payload: &'a [u8] },
    /// The topic of this number is subscribed from here on.
    Confirmed(usize),
}

/// A subscribe connection.
#[derive(Debug)]
pub(super) struct Link {
    stream: Stream,
    prefix: String,
    /// Topics that were asked for, and how many of them were confirmed.
    asked: usize,
    confirmed: usize,
}

impl Link {
    pub(super) fn connect(channels: &Channels) -> io::Result<Self> {
        let stream = Stream::connect(channels.address, CONNECT)?;
        Ok(Self { stream, prefix: channels.prefix.clone(), asked: 0, confirmed: 0 })
    }

    pub(super) fn register(&mut self, poller: &Poller, token: u64) -> io::Result<()> {
        self.stream.register(poller, token)
    }

    /// Subscribes to topic `number` if it is a new one; says whether its messages come already.
    pub(super) fn hold(&mut self, number: usize, topic: &[u8]) -> bool {
        if number == self.asked {
            self.asked += 1;
            resp::write_subscribe(self.stream.unsent(), &self.prefix, topic);
        }
        number < self.confirmed
    }

    /// Sends the commands of this turn.
    pub(super) fn flush(&mut self, poller: &Poller) -> io::Result<()> {
        self.stream.flush(poller).map_err(|error| failed(&error))
    }

    /// Gives `take` all that there is to read, through `buffer`.
    ///
    /// HOT PATH: once per turn in which messages came, `take` once per message.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        mut take: impl FnMut(Arrival<'_>),
    ) -> io::Result<()> {
        let Self { stream, prefix, confirmed, .. } = self;
        stream
            .receive(buffer, |bytes| take_pushes(bytes, prefix, confirmed, &mut take))
            .map_err(|error| failed(&error))
    }
}

/// Takes the whole pushes in `bytes`; says how many bytes they took.
fn take_pushes(
    bytes: &[u8],
    prefix: &str,
    confirmed: &mut usize,
    take: &mut impl FnMut(Arrival<'_>),
) -> io::Result<usize> {
    let mut taken = 0;
    while let Some((push, length)) = resp::parse_push(&bytes[taken..]).map_err(io::Error::other)? {
        taken += length;
        match push {
            Push::Message { channel, payload } => {
                if let Some(topic) = channel.strip_prefix(prefix.as_bytes()) {
                    take(Arrival::Message { topic, payload });
                }
            }
            Push::Subscribed { .. } => {
                take(Arrival::Confirmed(*confirmed));
                *confirmed += 1;
            }
            Push::Refused(reason) => return Err(refused(reason)),
        }
    }
    Ok(taken)
}

fn refused(reason: &[u8]) -> io::Error {
    io::Error::other(format!("it refused a subscription: {}", String::from_utf8_lossy(reason)))
}

fn failed(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the link to Redis failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// A link, the poller that it is registered with, and the other end of its connection.
    fn link() -> (Link, Poller, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut link = Link::connect(&Channels { address, prefix: "p:".to_owned() }).unwrap();
        let poller = Poller::new().unwrap();
        link.register(&poller, 0).unwrap();
        (link, poller, listener.accept().unwrap().0)
    }

    /// What is read after the other end has sent `bytes`.
    fn read(
        (link, poller, redis): &mut (Link, Poller, TcpStream),
        bytes: &[u8],
    ) -> io::Result<Vec<String>> {
        redis.write_all(bytes).unwrap();
        poller.wait(None).unwrap();
        let mut arrived = Vec::new();
        link.read(&mut [0; 256], |arrival| {
            arrived.push(match arrival {
                Arrival::Confirmed(number) => format!("confirmed {number}"),
                Arrival::Message { topic, payload } => {
                    format!("{}={}", topic.escape_ascii(), payload.escape_ascii())
                }
            });
        })?;
        Ok(arrived)
    }

    const MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n$3\r\np:a\r\n$2\r\nhi\r\n";

    #[test]
    fn a_topic_is_asked_for_once_and_held_once_confirmed() {
        let mut all = link();
        let (link, poller, redis) = &mut all;
        assert!(!link.hold(0, b"a") && !link.hold(0, b"a") && !link.hold(1, b"b"));
        link.flush(poller).unwrap();
        let expected =
            ["a", "b"].map(|topic| format!("*2\r\n$9\r\nSUBSCRIBE\r\n$3\r\np:{topic}\r\n"));
        let mut sent = vec![0; expected.concat().len()];
        redis.read_exact(&mut sent).unwrap();
        assert_eq!(String::from_utf8_lossy(&sent), expected.concat());
        let confirmation = b"*3\r\n$9\r\nsubscribe\r\n$3\r\np:a\r\n:1\r\n";
        assert_eq!(read(&mut all, confirmation).unwrap(), ["confirmed 0"]);
        assert!(all.0.hold(0, b"a") && !all.0.hold(1, b"b"));
    }

    #[test]
    fn messages_are_taken_when_they_are_whole() {
        let mut all = link();
        let (both, other) = ([MESSAGE, MESSAGE].concat(), MESSAGE.to_ascii_lowercase());
        assert_eq!(read(&mut all, &both[..50]).unwrap(), ["a=hi"]);
        assert_eq!(read(&mut all, &both[50..]).unwrap(), ["a=hi"]);
        let foreign = String::from_utf8(other).unwrap().replace("p:a", "q:a");
        assert!(read(&mut all, foreign.as_bytes()).unwrap().is_empty());
    }

    #[test]
    fn an_end_and_a_refusal_are_told() {
        let mut all = link();
        let refused = read(&mut all, b"-NOAUTH x\r\n").unwrap_err().to_string();
        assert!(refused.contains("refused a subscription: NOAUTH x"), "{refused}");
        let mut all = link();
        all.2.shutdown(std::net::Shutdown::Write).unwrap();
        let ended = read(&mut all, b"").unwrap_err().to_string();
        assert!(ended.contains("link to Redis failed") && ended.contains("closed"), "{ended}");
    }
}
