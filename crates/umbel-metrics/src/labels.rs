//! Closed sets of label values.

use umbel_protocol::{Dialect, GapReason};

/// An enum whose values are the values of a label.
pub trait LabelSet: Copy + 'static {
    /// All values, in the order of [`LabelSet::index`].
    const ALL: &'static [Self];

    /// The value's place in [`LabelSet::ALL`].
    fn index(self) -> usize;

    /// The value as it is exported.
    fn as_label(self) -> &'static str;
}

/// How a session is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// WebSocket, either dialect.
    WebSocket,
    /// Server-sent events.
    Sse,
}

impl From<Dialect> for Transport {
    fn from(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Plain | Dialect::Json => Self::WebSocket,
            Dialect::Sse => Self::Sse,
        }
    }
}

impl LabelSet for Transport {
    const ALL: &'static [Self] = &[Self::WebSocket, Self::Sse];

    fn index(self) -> usize {
        self as usize
    }

    fn as_label(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Sse => "sse",
        }
    }
}

impl LabelSet for GapReason {
    const ALL: &'static [Self] = &Self::ALL;

    fn index(self) -> usize {
        self as usize
    }

    fn as_label(self) -> &'static str {
        self.as_str()
    }
}
