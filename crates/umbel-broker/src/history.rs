//! What both brokers have in common of history: which messages are kept, and how a reader finds its
//! place among them.

mod budget;
mod page;
mod reader;
mod resume;
mod ring;

pub use reader::{Read, Reader};

pub(crate) use budget::Budget;
pub(crate) use page::Page;
pub(crate) use reader::Lack;
pub(crate) use resume::{Facts, Start, before, crosses, resume};
pub(crate) use ring::Ring;

/// What of a topic is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// The newest so many messages.
    pub messages: u32,
    /// Each for so long.
    pub seconds: u32,
    /// How long the position of a quiet topic lives, so that whoever comes back after that is told
    /// of a gap.
    pub keep_seconds: u32,
}
