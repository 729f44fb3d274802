//! Why a server refused, as its answer says.

use anyhow::{Error, anyhow};
use serde::Deserialize;

use crate::wire::response::{BodyLength, Head};

/// Longest explanation that is waited for.
const MAX_BODY: usize = 4096;

/// `application/problem+json`, as far as people read it.
#[derive(Deserialize)]
struct Problem {
    detail: String,
}

/// A refusal with what its body says of the cause; none while that is cut.
pub(super) fn explained(refusal: Error, head: &Head, body: &[u8]) -> Option<Error> {
    let length = match head.body {
        BodyLength::Fixed(length) if length <= MAX_BODY => length,
        _ => 0,
    };
    if body.len() < length {
        return None;
    }
    let cause = if head.event_stream { comment(body) } else { detail(body) };
    Some(match cause {
        Some(cause) => anyhow!("{refusal}: {cause}"),
        None => refusal,
    })
}

fn detail(body: &[u8]) -> Option<String> {
    serde_json::from_slice(body).ok().map(|problem: Problem| problem.detail)
}

/// The first comment of an event stream.
fn comment(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    text.lines().find_map(|line| line.strip_prefix(": ")).map(str::to_owned)
}
