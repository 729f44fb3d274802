//! Asking a node how it is.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode, Uri};

use super::connection::{self, Connection};
use super::failure::within;
use super::{Failure, NodeUrl};

/// What a node can be asked at its admin listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// Whether all of its event loops turn. If not, only a restart helps.
    Live,
    /// Whether it should get new sessions: it is live, has its broker, and isn't about to leave.
    Ready,
}

/// One question to one node.
#[derive(Debug)]
pub(crate) struct Checkup {
    question: Question,
    connection: Connection,
    target: Uri,
}

impl Checkup {
    /// A question to the admin listener with this URL.
    pub(crate) fn new(question: Question, url: NodeUrl) -> Result<Self, Failure> {
        let target = url.target(question.path())?;
        Ok(Self { question, connection: Connection::new(url), target })
    }

    /// Asks. It is a failure if the node says no.
    pub(crate) async fn ask(mut self, deadline: Duration) -> Result<(), Failure> {
        within("the node's answer", deadline, self.answer()).await
    }

    async fn answer(&mut self) -> Result<(), Failure> {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = self.target.clone();
        let answer = self.connection.send(request).await?;
        let status = answer.status();
        let text = connection::body(answer).await?;
        match status {
            StatusCode::OK if text.as_ref() == b"ok\n" => Ok(()),
            StatusCode::SERVICE_UNAVAILABLE => {
                let reason = connection::one_line(String::from_utf8_lossy(&text).trim());
                Err(Failure::Unwell { question: self.question, reason })
            }
            _ => {
                let path = self.question.path();
                let found = format!("{status} at {path}, which is at its listen.admin");
                Err(Failure::NotANode(found))
            }
        }
    }
}

impl Question {
    fn path(self) -> &'static str {
        match self {
            Self::Live => "/livez",
            Self::Ready => "/readyz",
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "live",
            Self::Ready => "ready",
        })
    }
}
