//! What HTTP/2 streams take from the logs.

use umbel_hub::{Hub, Pending, SessionKey};

use super::{Held, Worker};
use crate::http::Piece;
use crate::ledger::Charge;
use crate::session::{PIECE_BYTES, Phase, Session, SessionRef};

/// What a stream's body gets when it asks.
#[derive(Debug)]
pub(crate) enum Pulled {
    Piece(Piece),
    /// The stream is woken when there is something.
    Nothing,
    /// The session is over, and all is said.
    End,
}

impl Worker {
    /// Takes the next piece of what is due to a session over HTTP/2. Until it is asked for another
    /// one the session counts as blocked: its client has no window for more.
    ///
    /// HOT PATH: once per session and batch, and once more to find nothing.
    pub(crate) fn pull(&self, session: SessionRef) -> Pulled {
        let mut hub = self.hub.borrow_mut();
        let key = session.key;
        let Some(state) = Worker::alive_mut(&mut hub, session) else {
            return Pulled::End;
        };
        state.blocked = false;
        let phase = state.phase;
        let mut bytes = gather(&mut hub, key);
        while bytes.is_empty() && phase == Phase::Open && self.drained(&mut hub, key) {
            bytes = gather(&mut hub, key);
        }
        if bytes.is_empty() {
            return match phase {
                Phase::Closing { reason, .. } => {
                    self.remove(&mut hub, key, reason);
                    Pulled::End
                }
                Phase::Opening | Phase::Open => Pulled::Nothing,
            };
        }
        self.pace.step();
        self.wrote(&mut hub, key, bytes.len());
        self.observe_waits(&mut hub);
        if hub.is_drained(key) {
            self.discharge_control(&mut hub, key);
        }
        hub.get_mut(key).expect("a stream's session outlives its last piece").blocked = true;
        let charge = Charge::new(&self.ledger, Held::Streams, bytes.len());
        Pulled::Piece(Piece::new(bytes, Some(charge)))
    }
}

/// Copies what is due to a session, up to [`PIECE_BYTES`].
fn gather(hub: &mut Hub<Session>, key: SessionKey) -> Vec<u8> {
    if hub.is_composite(key) {
        hub.render(key);
    }
    let bytes = copied(hub.pending(key));
    if bytes.is_empty() {
        hub.advance(key, 0);
    }
    bytes
}

fn copied(pending: Pending<'_, Session>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for slice in pending {
        let room = PIECE_BYTES - bytes.len();
        if room == 0 {
            break;
        }
        bytes.extend_from_slice(&slice[..slice.len().min(room)]);
    }
    bytes
}
