//! Publishes to the whole fleet, by `PUBLISH` on its Redis.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::sessions::TOPIC;
use crate::channels::Channels;
use crate::load::clock;
use crate::load::target::topic_name;
use crate::wire::payload::Template;
use crate::wire::resp::{self, Answer};

/// Time for Redis to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Longest answer that is waited for.
const LONGEST: usize = 4096;

/// A connection to Redis.
#[derive(Debug)]
pub struct Publisher {
    stream: TcpStream,
    head: String,
    template: Template,
}

impl Publisher {
    /// Connects to the Redis of `channels`.
    pub fn connect(channels: &Channels, payload_bytes: usize) -> Result<Self> {
        let template = Template::new(payload_bytes).context("the payload is too small")?;
        let stream = TcpStream::connect_timeout(&channels.address, ANSWER);
        let stream = stream.with_context(|| format!("can't connect to {channels}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let head = resp::publish_head(&channels.of(&topic_name(TOPIC)), template.size());
        Ok(Self { stream, head, template })
    }

    /// Publishes message `sequence`; says how many nodes heard it.
    pub fn publish(&mut self, sequence: u64) -> Result<u64> {
        let mut request = Vec::new();
        let template = &mut self.template;
        resp::write_publish(&mut request, &self.head, |out| {
            template.write(out, sequence, clock::nanos());
        });
        self.stream.write_all(&request)?;
        let mut answer = Vec::new();
        while answer.len() < LONGEST {
            let mut part = [0; 512];
            let read = self.stream.read(&mut part).context("Redis doesn't answer")?;
            ensure!(read > 0, "Redis has closed the connection");
            answer.extend_from_slice(&part[..read]);
            match resp::parse_answer(&answer)? {
                Some((Answer::Heard(receivers), _)) => return Ok(u64::try_from(receivers)?),
                Some(_) => bail!("Redis said {}", answer.escape_ascii()),
                None => {}
            }
        }
        bail!("Redis has a lot to say to one message")
    }
}
