//! The bodies of answers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Buf;
use hyper::body::{Body, Frame, SizeHint};

use super::connection::Serving;
use crate::ledger::Charge;
use crate::session::SessionBody;

/// The body of an answer.
pub(crate) enum AnswerBody {
    /// All of it at once; `None` once taken.
    Whole(Option<Piece>),
    /// A session over HTTP/2, as long as it lasts.
    Session {
        /// What carries its frames.
        body: SessionBody,
        /// Keeps the connection from counting as idle.
        serving: Option<Serving>,
    },
}

/// Bytes on their way to hyper, counted as long as they are in memory.
#[derive(Debug)]
pub(crate) struct Piece {
    bytes: Vec<u8>,
    taken: usize,
    _charge: Option<Charge>,
}

impl Piece {
    pub(crate) fn new(bytes: Vec<u8>, charge: Option<Charge>) -> Self {
        Self { bytes, taken: 0, _charge: charge }
    }
}

impl AnswerBody {
    /// A body of which nothing is to be sent.
    pub(super) fn empty() -> Self {
        Self::Whole(None)
    }

    /// Whether it lasts as long as a session does.
    pub(super) fn is_session(&self) -> bool {
        matches!(self, Self::Session { .. })
    }

    /// Has the request count as being served until the body is gone, if it is a stream.
    pub(super) fn keep(&mut self, kept: Serving) {
        if let Self::Session { serving, .. } = self {
            *serving = Some(kept);
        }
    }
}

impl From<Vec<u8>> for AnswerBody {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole((!bytes.is_empty()).then(|| Piece::new(bytes, None)))
    }
}

impl From<Piece> for AnswerBody {
    fn from(piece: Piece) -> Self {
        Self::Whole(Some(piece))
    }
}

impl From<SessionBody> for AnswerBody {
    fn from(body: SessionBody) -> Self {
        Self::Session { body, serving: None }
    }
}

impl Body for AnswerBody {
    type Data = Piece;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Infallible>>> {
        let piece = match self.get_mut() {
            Self::Whole(piece) => Poll::Ready(piece.take()),
            Self::Session { body, .. } => body.poll_piece(),
        };
        piece.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(None) => SizeHint::with_exact(0),
            Self::Whole(Some(piece)) => SizeHint::with_exact(piece.remaining() as u64),
            Self::Session { .. } => SizeHint::default(),
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len() - self.taken
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining(), "no more than there is can be taken");
        self.taken += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_taken_bit_by_bit() {
        let mut piece = Piece::new(b"abc".to_vec(), None);
        piece.advance(2);
        assert_eq!((piece.remaining(), piece.chunk()), (1, &b"c"[..]));
        piece.advance(1);
        assert!(!piece.has_remaining());
    }

    #[test]
    fn an_empty_body_is_no_frame() {
        assert!(AnswerBody::from(Vec::new()).is_end_stream());
        assert_eq!(AnswerBody::from(vec![1, 2]).size_hint().exact(), Some(2));
    }
}
