//! Refusals as problem documents (RFC 9457).

use std::fmt::Write as _;

use hyper::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, UPGRADE,
};
use hyper::{Response, StatusCode};

use umbel_broker::PublishError;

use super::Answer;

/// Why a request was refused: a status and words that name the thing, the limit and the place.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), headers: Vec::new() }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(crate) fn method_not_allowed(allowed: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("this resource takes {allowed}"))
            .with(ALLOW, HeaderValue::from_static(allowed))
    }

    /// The body is over a limit. What follows of it isn't read, so the connection ends.
    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail).and_close()
    }

    /// The connection ends behind it.
    pub(crate) fn and_close(mut self) -> Self {
        self.headers.retain(|(name, _)| name != CONNECTION);
        self.with(CONNECTION, HeaderValue::from_static("close"))
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::passing(StatusCode::SERVICE_UNAVAILABLE, detail, 1)
    }

    /// What passes by itself, perhaps after so many seconds.
    pub(crate) fn passing(status: StatusCode, detail: impl Into<String>, seconds: u64) -> Self {
        Self::new(status, detail).with(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The broker didn't take the message, or nobody knows whether it did.
    pub(crate) fn not_published(error: &PublishError) -> Self {
        let detail = error.to_string();
        match error {
            PublishError::Behind | PublishError::Unavailable(_) => Self::unavailable(detail),
            PublishError::Refused(_) => Self::new(StatusCode::BAD_GATEWAY, detail),
            PublishError::OutcomeUnknown(_) => Self::new(StatusCode::GATEWAY_TIMEOUT, detail),
            PublishError::KeyUsed => Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail),
        }
    }

    /// What was wrong, in words.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The status that it answers with.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The resource is a WebSocket, of a version that the client doesn't speak (RFC 6455 section
    /// 4.4) or without an upgrade at all (RFC 9110 section 15.5.22).
    pub(crate) fn upgrade_required(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UPGRADE_REQUIRED, detail)
            .with(UPGRADE, HeaderValue::from_static("websocket"))
            .with(CONNECTION, HeaderValue::from_static("upgrade"))
            .with(HeaderName::from_static("sec-websocket-version"), HeaderValue::from_static("13"))
    }

    /// The resource is a WebSocket, which isn't offered over the HTTP that the client speaks (RFC
    /// 9110 section 15.6.6). HTTP/2 knows no upgrades, so 426 would say nothing there.
    pub(crate) fn http1_required(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, detail)
    }

    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    fn body(&self) -> String {
        let document = serde_json::json!({
            "type": "about:blank",
            "title": self.title(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        format!("{document}\n")
    }

    fn title(&self) -> &'static str {
        self.status.canonical_reason().expect("only statuses with a name are used")
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        let mut answer = Response::new(problem.body().into_bytes().into());
        *answer.status_mut() = problem.status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(problem.headers);
        answer
    }
}

/// A refusal as it goes over the wire, where hyper isn't there any more to write it.
pub(super) fn written_out(problem: &Problem) -> Vec<u8> {
    let body = problem.body();
    let mut answer = String::new();
    let status = problem.status.as_u16();
    write!(
        answer,
        "HTTP/1.1 {status} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        problem.title(),
        body.len()
    )
    .expect("a string takes all text");
    answer.into_bytes()
}
