//! What goes wrong with Redis, in words for publishers and operators.

use std::fmt;
use std::io;

use redis::{RedisError, ServerError};
use umbel_metrics::LabelSet;

/// Why a link is down, or a command was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    text: String,
}

/// The kinds that operators act upon differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// No connection could be made.
    Unreachable,
    /// The connection ended.
    Lost,
    /// The probe didn't come back in time.
    Silent,
    /// Wrong or missing password, or a user that may not do it.
    Denied,
    /// The server is a replica.
    ReadOnly,
    /// Sentinel made another server the master.
    Moved,
    /// The server loads its data, or waits for its master.
    Loading,
    /// The server takes no writes: memory is full, or its disk fails.
    NoWrites,
    /// Anything else that the server said.
    Refused,
    /// What came isn't what the protocol allows.
    Protocol,
}

impl LabelSet for FaultKind {
    const ALL: &'static [Self] = &[
        Self::Unreachable,
        Self::Lost,
        Self::Silent,
        Self::Denied,
        Self::ReadOnly,
        Self::Moved,
        Self::Loading,
        Self::NoWrites,
        Self::Refused,
        Self::Protocol,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn as_label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Lost => "lost",
            Self::Silent => "silent",
            Self::Denied => "denied",
            Self::ReadOnly => "read_only",
            Self::Moved => "moved",
            Self::Loading => "loading",
            Self::NoWrites => "no_writes",
            Self::Refused => "refused",
            Self::Protocol => "protocol",
        }
    }
}

impl FaultKind {
    /// The kind of an error reply, by its first word.
    pub(super) fn of_code(code: &str) -> Self {
        match code {
            "NOAUTH" | "WRONGPASS" | "NOPERM" => Self::Denied,
            "READONLY" => Self::ReadOnly,
            "LOADING" | "BUSYLOADING" | "MASTERDOWN" | "BUSY" | "TRYAGAIN" => Self::Loading,
            "OOM" | "MISCONF" | "NOREPLICAS" => Self::NoWrites,
            _ => Self::Refused,
        }
    }

    /// Whether the same command may succeed a little later without anybody's help.
    pub(super) fn passes(self) -> bool {
        match self {
            Self::Denied | Self::Refused | Self::Protocol => false,
            Self::Unreachable
            | Self::Lost
            | Self::Silent
            | Self::ReadOnly
            | Self::Moved
            | Self::Loading
            | Self::NoWrites => true,
        }
    }

    /// Whether it proves that a command wasn't executed and may be if it is sent again soon.
    pub(super) fn is_passing_refusal(self) -> bool {
        matches!(self, Self::ReadOnly | Self::Loading)
    }

    fn hint(self) -> &'static str {
        match self {
            Self::Denied => " (check user and password in broker.url, and the server's ACL)",
            Self::ReadOnly => " (the server is a replica: name the master in broker.url)",
            Self::NoWrites => " (the server takes no writes: look at its memory and disk)",
            _ => "",
        }
    }
}

impl Fault {
    pub(super) fn new(kind: FaultKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// What happened, without advice.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn unreachable(error: &io::Error) -> Self {
        Self::new(FaultKind::Unreachable, error.to_string())
    }

    pub(super) fn lost(error: &io::Error) -> Self {
        Self::new(FaultKind::Lost, error.to_string())
    }

    /// What the server said instead of doing it.
    pub(super) fn said(error: &ServerError) -> Self {
        let code = error.code();
        let text = match error.details() {
            Some(details) => format!("{code} {details}"),
            None => code.to_owned(),
        };
        Self::new(FaultKind::of_code(code), text)
    }

    /// Such words as a script returns.
    pub(super) fn told(text: &str) -> Self {
        let code = text
            .split(|c: char| !c.is_ascii_uppercase())
            .find(|word| word.len() > 2)
            .unwrap_or_default();
        Self::new(FaultKind::of_code(code), text)
    }
}

/// What Redis says if a script does what its user may not, before and since version 7.
const SCRIPT_DENIALS: [&str; 2] = ["can't run this command", "ACL failure in script"];

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        let text = match (error.code(), error.detail()) {
            (Some(code), Some(detail)) => format!("{code} {detail}"),
            _ => error.to_string(),
        };
        let kind = match error.code() {
            _ if SCRIPT_DENIALS.iter().any(|denial| text.contains(denial)) => FaultKind::Denied,
            Some(code) => FaultKind::of_code(code),
            None if error.is_connection_refusal() => FaultKind::Unreachable,
            None if error.is_timeout() => FaultKind::Silent,
            None if error.is_io_error() || error.is_connection_dropped() => FaultKind::Lost,
            None => match error.kind() {
                redis::ErrorKind::AuthenticationFailed => FaultKind::Denied,
                redis::ErrorKind::Server(redis::ServerErrorKind::BusyLoading) => FaultKind::Loading,
                redis::ErrorKind::Server(redis::ServerErrorKind::ReadOnly) => FaultKind::ReadOnly,
                redis::ErrorKind::Parse => FaultKind::Protocol,
                _ => FaultKind::Refused,
            },
        };
        Self::new(kind, text)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, self.kind.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_says_is_sorted_by_who_must_act() {
        for (said, kind, passes) in [
            ("NOAUTH Authentication required.", FaultKind::Denied, false),
            ("WRONGPASS invalid username-password pair", FaultKind::Denied, false),
            ("READONLY You can't write against a read only replica.", FaultKind::ReadOnly, true),
            ("LOADING Redis is loading the dataset in memory", FaultKind::Loading, true),
            ("OOM command not allowed when used memory > 'maxmemory'.", FaultKind::NoWrites, true),
            ("MISCONF Redis is configured to save RDB snapshots", FaultKind::NoWrites, true),
            ("WRONGTYPE Operation against a key", FaultKind::Refused, false),
            ("@user_script: 1: -READONLY You can't write", FaultKind::ReadOnly, true),
        ] {
            let fault = Fault::told(said);
            assert_eq!((fault.kind, fault.kind.passes()), (kind, passes), "{said}");
            assert!(fault.to_string().starts_with(said));
        }
    }
}
