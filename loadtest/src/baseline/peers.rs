//! The connections of the baseline, and how bytes are written to one.

use std::fmt::Display;
use std::io;
use std::os::fd::OwnedFd;

use super::answer;
use super::topics::Place;
use crate::os::poller::Poller;
use crate::os::socket::{self, Moved};

/// A subscriber doesn't keep a buffer larger than this once all of it is sent, such as that of what it had missed.
const LARGE: usize = 4096;

/// Number of a connection, for as long as it lives.
pub(super) type Slot = usize;

/// One connection: a subscriber, or somebody who sends requests.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) socket: OwnedFd,
    /// Where it stands in its topic, once it has subscribed.
    pub(super) subscriber: Option<Place>,
    /// What the socket didn't take, or an answer that waits for its turn.
    pub(super) unsent: Vec<u8>,
    /// The beginning of a request that isn't whole yet.
    pub(super) unread: Vec<u8>,
    /// Close it once `unsent` is sent.
    closing: bool,
}

impl Peer {
    /// Answers 400 for `reason` and closes after that.
    pub(super) fn refuse(&mut self, reason: &dyn Display) {
        answer::refusal(&mut self.unsent, reason);
        self.closing = true;
    }
}

/// All connections, by slot.
#[derive(Debug, Default)]
pub(super) struct Peers {
    slots: Vec<Option<Peer>>,
    free: Vec<Slot>,
    /// Slots that were freed in this turn: events at hand may still name them.
    retired: Vec<Slot>,
    /// Connections that turned out to be closed while being written to.
    gone: Vec<Slot>,
}

impl Peers {
    pub(super) fn add(&mut self, socket: OwnedFd) -> Slot {
        let slot = self.free.pop().unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some(Peer {
            socket,
            subscriber: None,
            unsent: Vec::new(),
            unread: Vec::new(),
            closing: false,
        });
        slot
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Peer> {
        self.slots.get(slot)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Peer> {
        self.slots.get_mut(slot)?.as_mut()
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Peer> {
        let peer = self.slots.get_mut(slot)?.take();
        self.retired.extend(peer.is_some().then_some(slot));
        peer
    }

    /// Another subscriber's leaving has moved the one in `slot` to `place`.
    pub(super) fn move_subscriber(&mut self, slot: Slot, place: Place) {
        if let Some(peer) = self.get_mut(slot) {
            peer.subscriber = Some(place);
        }
    }

    /// Frees the slots of this turn for the next.
    pub(super) fn end_turn(&mut self) {
        self.free.append(&mut self.retired);
    }

    /// A connection that must be removed.
    pub(super) fn next_gone(&mut self) -> Option<Slot> {
        self.gone.pop()
    }
}

impl Peers {
    /// Sends `bytes` behind what is unsent; keeps what the socket doesn't take.
    ///
    /// HOT PATH: once per subscriber and batch.
    #[inline]
    pub(super) fn send(&mut self, slot: Slot, bytes: &[u8], poller: &Poller) -> io::Result<()> {
        let Some(peer) = &mut self.slots[slot] else {
            return Ok(());
        };
        if !peer.unsent.is_empty() {
            peer.unsent.extend_from_slice(bytes);
            return Ok(());
        }
        let sent = socket::send(&peer.socket, bytes)?;
        if sent == Moved::Bytes(bytes.len()) {
            return Ok(());
        }
        peer.unsent.extend_from_slice(bytes);
        self.sent(slot, sent, poller)
    }

    /// Sends what is unsent.
    pub(super) fn flush(&mut self, slot: Slot, poller: &Poller) -> io::Result<()> {
        match self.get(slot) {
            Some(peer) if !peer.unsent.is_empty() => {
                let sent = socket::send(&peer.socket, &peer.unsent)?;
                self.sent(slot, sent, poller)
            }
            _ => Ok(()),
        }
    }

    /// Takes what was sent off the unsent; watches for room if something is left.
    fn sent(&mut self, slot: Slot, sent: Moved, poller: &Poller) -> io::Result<()> {
        let Some(peer) = &mut self.slots[slot] else {
            return Ok(());
        };
        match sent {
            Moved::Bytes(sent) => drop(peer.unsent.drain(..sent)),
            Moved::Later => {}
            Moved::Ended => self.gone.push(slot),
        }
        if !peer.unsent.is_empty() {
            return poller.watch_room(&peer.socket, slot as u64);
        }
        if peer.subscriber.is_some() && peer.unsent.capacity() > LARGE {
            peer.unsent = Vec::new();
        }
        if peer.closing {
            self.gone.push(slot);
        }
        Ok(())
    }
}
