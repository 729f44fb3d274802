//! Long-poll: requests one after the other on one connection, each from the cursor of the answer before.

use std::borrow::Cow;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;

use super::{Heard, Hearing, refusal};
use crate::load::target::topic_name;
use crate::wire::chunked::Dechunker;
use crate::wire::response::{self, BodyLength};
use crate::work::script::TOPIC;

/// Where who comes for the first time begins: behind the newest message.
const NOW: &str = "latest:0";
/// Seconds that a poll waits for the next message.
const WAIT: u64 = 25;
/// Messages that an answer may have, the most that a node gives.
const LIMIT: u64 = 1000;

/// Makes polls and reads their answers.
#[derive(Debug)]
pub(super) struct Polls {
    host: String,
}

/// One answer.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    cursor: &'a str,
    #[serde(default)]
    gaps: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Message<'a> {
    message_id: Option<&'a str>,
    /// None if it is no text: then it isn't one of ours.
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
}

impl Polls {
    pub(super) fn new(host: &str) -> Self {
        Self { host: host.to_owned() }
    }

    /// Appends the first request, which doesn't wait: its answer says where the session stands, and opens it.
    pub(super) fn begin(&self, path: &str, after: Option<&str>, out: &mut Vec<u8>) {
        self.write(path, after.unwrap_or(NOW), 0, out);
    }

    fn write(&self, path: &str, after: &str, wait: u64, out: &mut Vec<u8>) {
        let (host, more) = (&self.host, if path.contains('?') { '&' } else { '?' });
        let request = format!(
            "GET {path}{more}after={after}&limit={LIMIT}&wait={wait} HTTP/1.1\r\nHost: {host}\r\n\
             Accept: application/json\r\n\r\n"
        );
        out.extend_from_slice(request.as_bytes());
    }

    /// Takes all whole answers and appends the next request behind each; says how many bytes they took.
    pub(super) fn take(
        &self,
        path: &str,
        hearing: &mut Hearing<'_, '_>,
        bytes: &[u8],
        tell: &mut impl FnMut(Heard<'_>),
    ) -> Result<usize> {
        let mut taken = 0;
        while let Some((body, length)) = whole_answer(&bytes[taken..])? {
            taken += length;
            let answer: Answer<'_> =
                serde_json::from_slice(&body).context("server's answer to a poll can't be read")?;
            check(answer.cursor)?;
            hearing.hear_poll(&answer, tell);
            let path = path.replace(TOPIC, &topic_name(hearing.topic()));
            self.write(&path, answer.cursor, WAIT, hearing.out);
        }
        Ok(taken)
    }
}

impl Hearing<'_, '_> {
    fn hear_poll(&mut self, answer: &Answer<'_>, tell: &mut impl FnMut(Heard<'_>)) {
        let topic = self.topic();
        if !self.spoken.is_answered {
            self.spoken.is_answered = true;
            tell(Heard::Open);
        }
        for _ in &answer.gaps {
            tell(Heard::Gap { topic });
        }
        for message in &answer.messages {
            let payload = message.text.as_deref().unwrap_or_default().as_bytes();
            let place = message.message_id.filter(|_| self.resume);
            tell(Heard::Message { topic, payload, place });
        }
        if self.resume {
            tell(Heard::At { topic, place: answer.cursor });
        }
    }
}

/// The body of the answer at the beginning of `bytes`, and how long the answer is; none while it is cut.
fn whole_answer(bytes: &[u8]) -> Result<Option<(Cow<'_, [u8]>, usize)>> {
    let Some(head) = response::parse(bytes)? else {
        return Ok(None);
    };
    let rest = &bytes[head.taken..];
    if head.status != 200 {
        let refusal = anyhow!("server answered a poll with status {}", head.status);
        return refusal::explained(refusal, &head, rest).map_or(Ok(None), Err);
    }
    match head.body {
        BodyLength::Fixed(length) => {
            let whole = |body| (Cow::Borrowed(body), head.taken.saturating_add(length));
            Ok(rest.get(..length).map(whole))
        }
        // From the beginning at each call: rare, and one answer is all that there is on the connection.
        BodyLength::Chunked => {
            let (mut body, mut dechunker) = (rest.to_vec(), Dechunker::default());
            let length = dechunker.decode(&mut body)?;
            body.truncate(length);
            Ok(dechunker.finished().then_some((Cow::Owned(body), bytes.len())))
        }
        BodyLength::UntilClose => bail!("server's answer to a poll has no length"),
    }
}

/// A cursor goes into a path as it is.
fn check(cursor: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~:".contains(&byte);
    ensure!(cursor.bytes().all(is_plain), "cursor {cursor:?} can't be put into a path");
    Ok(())
}
