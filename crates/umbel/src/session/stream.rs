//! A session over one stream of an HTTP/2 connection.
//!
//! Nothing is written to it: its answer's body takes what is due from the logs, a piece at a time.
//! hyper asks for the first piece beforehand and for each further one when the last was granted
//! room, so that whatever a client has no window for stays in the log.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Sleep;

use super::{CloseReason, SessionRef};
use crate::http::Piece;
use crate::worker::{Pulled, Worker};

/// The most bytes that are copied from the logs at a time: as long as a DATA frame may be unless a
/// client says otherwise (RFC 9113 section 4.2).
pub(crate) const PIECE_BYTES: usize = 16 * 1024;

/// How many bytes a stream may have in hyper's and h2's hands. One piece may lie above, and one
/// waits for room, so a stream holds at most 64 KiB that are not in the logs any more.
pub(crate) const SEND_BUFFER_BYTES: usize = 2 * PIECE_BYTES;

/// What the task that answers a stream shares with the session that the stream carries.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    waker: RefCell<Option<Waker>>,
    cut: Cell<bool>,
    /// When it is cut by itself.
    deadline: RefCell<Option<Pin<Box<Sleep>>>>,
}

/// The messages of a session, as the body of an answer. The session lives as long as it does.
pub(crate) struct SessionBody {
    worker: Rc<Worker>,
    session: SessionRef,
}

impl Stream {
    /// Has the body look for what is due.
    pub(crate) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Ends the task, whatever it waits for. Unless the stream has ended by itself, the client is
    /// sent a `RST_STREAM`.
    pub(crate) fn cut(&self) {
        self.cut.set(true);
        self.wake();
    }

    /// Has it cut after a while, unless it has ended by then.
    pub(crate) fn end_within(&self, time: Duration) {
        *self.deadline.borrow_mut() = Some(Box::pin(tokio::time::sleep(time)));
        self.wake();
    }

    /// Goes on with the task, unless it was cut.
    pub(crate) fn poll(
        &self,
        task: Pin<&mut impl Future<Output = ()>>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        if self.cut.get() {
            return Poll::Ready(());
        }
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            *known = Some(context.waker().clone());
        }
        drop(known);
        let polled = task.poll(context);
        let mut deadline = self.deadline.borrow_mut();
        let is_late = deadline.as_mut().is_some_and(|end| end.as_mut().poll(context).is_ready());
        if is_late { Poll::Ready(()) } else { polled }
    }
}

impl SessionBody {
    /// The body for a session that isn't open yet. Dropping it ends the session.
    pub(crate) fn new(worker: &Rc<Worker>, session: SessionRef) -> Self {
        Self { worker: worker.clone(), session }
    }

    /// The next piece; `None` at the end. The stream's task is woken when more is due.
    pub(crate) fn poll_piece(&mut self) -> Poll<Option<Piece>> {
        match self.worker.pull(self.session) {
            Pulled::Piece(piece) => Poll::Ready(Some(piece)),
            Pulled::Nothing => Poll::Pending,
            Pulled::End => Poll::Ready(None),
        }
    }
}

impl Drop for SessionBody {
    /// The client has reset the stream, or its connection is gone.
    fn drop(&mut self) {
        if let Ok(mut hub) = self.worker.hub.try_borrow_mut()
            && Worker::is_alive(&hub, self.session)
        {
            self.worker.remove(&mut hub, self.session.key, CloseReason::Lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    #[test]
    fn a_stream_that_is_cut_ends_whatever_it_waits_for() {
        let stream = Stream::default();
        let mut task = pin!(std::future::pending());
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(stream.poll(task.as_mut(), &mut context), Poll::Pending);
        stream.cut();
        assert_eq!(stream.poll(task.as_mut(), &mut context), Poll::Ready(()));
    }
}
