//! Why a session ended: one enum for the close code, the metric label and the log field.

use umbel_metrics::LabelSet;

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The client said so.
    Client,
    /// The connection ended or broke without a word.
    Lost,
    /// The client broke the WebSocket protocol.
    Protocol,
    /// The client sent a kind of frame that its dialect doesn't have.
    Unsupported,
    /// Text that isn't UTF-8.
    NotUtf8,
    /// A message longer than the node takes.
    TooBig,
    /// A command that isn't JSON.
    Unparseable,
    /// A URL that names nothing that can be served.
    BadRequest,
    /// What the client asked for isn't allowed.
    Forbidden,
    /// It was further behind than its budget.
    Slow,
    /// It had asked to be closed rather than miss a message (`?gap=close`).
    Gap,
    /// The broker couldn't take what the session published.
    Overloaded,
    /// The process ends.
    Shutdown,
    /// The node leaves, the client goes on elsewhere.
    Moved,
    /// It has lasted as long as it may.
    Lifetime,
    /// More of something than one client may have.
    TooMany,
    /// The node was short of memory, and this one was among those furthest behind.
    Memory,
}

impl CloseReason {
    /// The close code for a WebSocket client (RFC 6455 section 7.4; 44xx are ours).
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::Client | Self::Lost => 1000,
            Self::Shutdown => 1001,
            Self::Protocol => 1002,
            Self::Unsupported => 1003,
            Self::NotUtf8 => 1007,
            Self::TooBig => 1009,
            Self::Moved | Self::Lifetime => 1012,
            Self::Overloaded | Self::Memory => 1013,
            Self::Unparseable | Self::BadRequest => 4400,
            Self::Forbidden => 4403,
            Self::Slow => 4408,
            Self::Gap => 4410,
            Self::TooMany => 4429,
        }
    }

    /// The reason for a violation that the input's parser found, by its code.
    pub(crate) fn of_violation(code: u16) -> Self {
        match code {
            1007 => Self::NotUtf8,
            1009 => Self::TooBig,
            _ => Self::Protocol,
        }
    }
}

impl LabelSet for CloseReason {
    const ALL: &'static [Self] = &[
        Self::Client,
        Self::Lost,
        Self::Protocol,
        Self::Unsupported,
        Self::NotUtf8,
        Self::TooBig,
        Self::Unparseable,
        Self::BadRequest,
        Self::Forbidden,
        Self::Slow,
        Self::Gap,
        Self::Overloaded,
        Self::Shutdown,
        Self::Moved,
        Self::Lifetime,
        Self::TooMany,
        Self::Memory,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn as_label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Lost => "lost",
            Self::Protocol => "protocol",
            Self::Unsupported => "unsupported",
            Self::NotUtf8 => "not_utf8",
            Self::TooBig => "too_big",
            Self::Unparseable => "unparseable",
            Self::BadRequest => "bad_request",
            Self::Forbidden => "forbidden",
            Self::Slow => "slow",
            Self::Gap => "gap",
            Self::Overloaded => "overloaded",
            Self::Shutdown => "shutdown",
            Self::Moved => "moved",
            Self::Lifetime => "lifetime",
            Self::TooMany => "too_many",
            Self::Memory => "memory",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use umbel_protocol::websocket::is_close_code;

    #[test]
    fn every_reason_has_its_place_and_a_code_that_may_travel() {
        for (at, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), at);
            assert!(is_close_code(reason.code()));
        }
    }
}
