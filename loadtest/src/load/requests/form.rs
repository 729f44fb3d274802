//! What a publish request is, and when its answer is a good one.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};

use crate::load::target::{Feed, Place, Target, topic_name};
use crate::wire::message_id::MessageId;
use crate::wire::publish_line;
use crate::wire::publish_results;
use crate::wire::response::{self, BodyLength};

/// The form of all requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One message, posted to its topic's own URL.
    Single,
    /// So many messages for one topic with history, a JSON object per line.
    Batch(usize),
}

impl Form {
    /// Messages in each request.
    pub fn messages(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Batch(messages) => messages,
        }
    }

    /// Where requests go.
    pub(super) fn address(self, target: &Target) -> Result<SocketAddr> {
        match self {
            Self::Single => Ok(target.subscribe.address),
            Self::Batch(_) => Ok(posted_to(target)?.address),
        }
    }

    /// The request that connection `number` sends.
    pub(super) fn request(self, target: &Target, number: usize, payload: &[u8]) -> Result<Vec<u8>> {
        let topic = topic_name(number);
        match self {
            Self::Single => {
                let (path, host) = (target.path_of(&topic), &target.subscribe.host);
                Ok(post(&path, host, "text/plain", payload))
            }
            Self::Batch(messages) => {
                let (Place { path, host, .. }, mut body) = (posted_to(target)?, Vec::new());
                for _ in 0..messages {
                    publish_line::write(&mut body, &topic, |out| out.extend_from_slice(payload));
                }
                Ok(post(path, host, "application/x-ndjson", &body))
            }
        }
    }

    /// Length of the answer at the beginning of `bytes`, which must be a good one, or `None` while it is cut. In that of a
    /// batch each message has an id, the one that follows `last`, which becomes the last of this answer.
    pub(super) fn take_answer(
        self,
        bytes: &[u8],
        last: &mut Option<MessageId>,
    ) -> Result<Option<usize>> {
        let Some(head) = response::parse(bytes)? else {
            return Ok(None);
        };
        ensure!(
            head.status == 200,
            "server answered a publish request with status {}",
            head.status
        );
        let BodyLength::Fixed(length) = head.body else {
            bail!("server's answer to a publish request has no length");
        };
        let end = head.taken + length;
        let Some(body) = bytes.get(head.taken..end) else {
            return Ok(None);
        };
        if let Self::Batch(messages) = self {
            *last = check_ids(body, messages, *last)?;
        }
        Ok(Some(end))
    }
}

fn posted_to(target: &Target) -> Result<&Place> {
    match &target.publish {
        Feed::Http(place) => Ok(place),
        other => bail!("batches are posted, which {other} doesn't take"),
    }
}

fn post(path: &str, host: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Whether there is a result with an id for each message, one following the other; says the last id.
fn check_ids(
    body: &[u8],
    messages: usize,
    mut last: Option<MessageId>,
) -> Result<Option<MessageId>> {
    let mut count = 0;
    for line in publish_results::lines(body) {
        let id = publish_results::id_of(line);
        let id = id.with_context(|| format!("a message got no id: {}", line.escape_ascii()))?;
        if let Some(last) = last {
            ensure!(id.follows(last), "a message got the id {id}, the one before it {last}");
        }
        last = Some(id);
        count += 1;
    }
    ensure!(count == messages, "{count} results came for {messages} messages");
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::Channels;
    use crate::wire::subscribe::Dialect;

    fn target() -> Target {
        Target::of_server("127.0.0.1:1".parse().unwrap(), Dialect::WebSocket)
    }

    fn answer(body: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    fn result(offset: u64) -> String {
        format!("{{\"topic\":\"bench.0\",\"id\":\"{}\"}}\n", MessageId { epoch: 1, offset })
    }

    #[test]
    fn requests_name_their_connection_s_topic() {
        let request = |form: Form| {
            let bytes = form.request(&target(), 7, b"hi").unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let single = request(Form::Single);
        assert!(single.starts_with("POST /topics/bench.7 HTTP/1.1\r\n"), "{single}");
        assert!(single.ends_with("\r\n\r\nhi"), "{single}");
        let batch = request(Form::Batch(2));
        let line = "{\"topic\":\"bench.7\",\"text\":\"hi\"}\n";
        assert!(batch.starts_with("POST /publish HTTP/1.1\r\n"), "{batch}");
        assert!(batch.ends_with(&format!("Content-Length: 64\r\n\r\n{line}{line}")), "{batch}");
        let channels = Channels::new("redis://127.0.0.1:1", "").unwrap();
        let error = Form::Batch(2).address(&target().fed_by(channels)).unwrap_err().to_string();
        assert!(error.contains("Redis at 127.0.0.1:1"), "{error}");
    }

    #[test]
    fn an_answer_counts_when_it_is_whole_and_good() {
        let (answer, last) = (answer("hi"), &mut None);
        assert_eq!(Form::Single.take_answer(&answer, last).unwrap(), Some(answer.len()));
        assert_eq!(Form::Single.take_answer(&answer[..answer.len() - 1], last).unwrap(), None);
        for (bad, reason) in [
            ("HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n", "status 503"),
            ("HTTP/1.1 200 OK\r\n\r\n", "no length"),
        ] {
            for form in [Form::Single, Form::Batch(1)] {
                let error = form.take_answer(bad.as_bytes(), last).unwrap_err().to_string();
                assert!(error.contains(reason), "{error}");
            }
        }
    }

    #[test]
    fn each_message_of_a_batch_has_the_next_id() {
        let mut last = None;
        for offsets in [[7, 8], [9, 10]] {
            let bytes = answer(&offsets.map(result).concat());
            let taken = Form::Batch(2).take_answer(&bytes, &mut last).unwrap();
            assert_eq!((taken, last.unwrap().offset), (Some(bytes.len()), offsets[1]));
        }
        let refused = "{\"topic\":\"bench.0\",\"error\":\"no\",\"status\":503}\n";
        for (body, reason) in [
            (result(11), "1 results came for 2 messages"),
            (result(11) + refused, "got no id: {\\\"topic\\\":\\\"bench.0\\\",\\\"error\\\""),
            (result(11) + &result(11), "-11, the one before it"),
            (result(12) + &result(13), "-12, the one before it"),
        ] {
            let error =
                Form::Batch(2).take_answer(&answer(&body), &mut last).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
