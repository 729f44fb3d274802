//! How sessions that aren't let in are told so: in the way that their client understands.
//!
//! All of these refusals pass by themselves, so the client shall come back. A browser's
//! `EventSource` never does after 429 or 503, so it gets a stream that ends; a page sees nothing of
//! a refused upgrade but 1006, so it gets a WebSocket that is closed. All others get the status.

use std::ops::Range;

use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode, Version};
use umbel_protocol::{Dialect, sse};

use super::service::Exchange;
use super::subscribe::Greeted;
use super::{Answer, Problem};
use crate::admission::{Refusal, Seat};
use crate::budget::Pressure;
use crate::session::CloseReason;
use crate::worker::Limit;

/// After how long an `EventSource` that wasn't let in comes back, in milliseconds: to a node that is
/// full, and from one that leaves.
const RETRY_FULL: Range<u64> = 5_000..15_000;
const RETRY_ELSEWHERE: Range<u64> = 500..2_500;

impl Refusal {
    fn status(self) -> StatusCode {
        match self {
            Self::Address => StatusCode::TOO_MANY_REQUESTS,
            Self::Sessions | Self::Memory | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn close_reason(self) -> CloseReason {
        match self {
            Self::Sessions | Self::Memory => CloseReason::Overloaded,
            Self::Address => CloseReason::TooMany,
            Self::Draining => CloseReason::Moved,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Sessions => "the node has as many sessions as it may",
            Self::Address => "this address has as many sessions as it may",
            Self::Memory => "the node is short of memory",
            Self::Draining => "the node leaves, another one takes over",
        }
    }

    fn retry(self) -> Range<u64> {
        match self {
            Self::Sessions | Self::Address | Self::Memory => RETRY_FULL,
            Self::Draining => RETRY_ELSEWHERE,
        }
    }

    /// The refusal as a status.
    pub(super) fn problem(self) -> Problem {
        let after = fastrand::u64(self.retry()).div_ceil(1000);
        // An idle connection takes more than a session.
        Problem::passing(self.status(), self.text(), after).and_close()
    }

    /// The refusal as an event stream that asks the browser to come back, and ends.
    fn stream(self) -> Answer {
        let mut body = Vec::new();
        sse::write_retry(&mut body, fastrand::u64(self.retry()));
        sse::write_comment(&mut body, self.text());
        let mut answer = Response::new(body.into());
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        answer
    }
}

impl Exchange {
    /// A place for a session of this client; counted if there is none.
    pub(super) fn seat(&self) -> Result<Seat, Refusal> {
        let worker = &self.worker;
        let seat = if worker.budget.pressure() >= Pressure::Refuse {
            Err(Refusal::Memory)
        } else {
            worker.admission.seat(self.client_address())
        };
        seat.inspect_err(|refusal| worker.metrics.limited.of(Limit::from(*refusal)).add(1))
    }

    /// Doesn't let a session in.
    pub(super) async fn refuse(
        self,
        greeted: Greeted,
        refusal: Refusal,
    ) -> Result<Answer, Problem> {
        match greeted.dialect {
            Dialect::Sse if !self.is_strict => Ok(refusal.stream()),
            Dialect::Plain | Dialect::Json if self.is_a_page() => {
                let (reason, text) = (refusal.close_reason(), refusal.text());
                self.open_to_close(greeted, reason, text.to_owned(), refusal.problem()).await
            }
            Dialect::Sse | Dialect::Plain | Dialect::Json => Err(refusal.problem()),
        }
    }
}

/// Has the client open another connection for its next request (RFC 9112 section 9.6). HTTP/2 has
/// GOAWAY for that.
pub(super) fn close_behind(answer: &mut Answer, version: Version) {
    if version != Version::HTTP_2 {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_over_its_own_limit_is_told_apart_from_a_node_that_is_full() {
        for (refusal, status, code) in [
            (Refusal::Sessions, 503, 1013),
            (Refusal::Address, 429, 4429),
            (Refusal::Memory, 503, 1013),
            (Refusal::Draining, 503, 1012),
        ] {
            assert_eq!(refusal.problem().status(), status);
            assert_eq!(refusal.close_reason().code(), code);
        }
    }
}
