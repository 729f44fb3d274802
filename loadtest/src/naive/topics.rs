//! One broadcast channel per topic.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::broadcast::{self, Receiver, Sender};

/// Messages that a session may be behind by: one whole publish request.
const BEHIND: usize = 1024;

/// All topics that ever had a subscriber.
#[derive(Debug, Default)]
pub(super) struct Topics {
    senders: Mutex<HashMap<String, Sender<Bytes>>>,
}

impl Topics {
    pub(super) fn subscribe(&self, topic: &str) -> Receiver<Bytes> {
        let mut senders = self.senders();
        let sender = senders.entry(topic.to_owned());
        sender.or_insert_with(|| broadcast::channel(BEHIND).0).subscribe()
    }

    pub(super) fn publish(&self, topic: &str, message: Bytes) {
        if let Some(sender) = self.senders().get(topic) {
            // Nobody listening is no error.
            let _ = sender.send(message);
        }
    }

    fn senders(&self) -> MutexGuard<'_, HashMap<String, Sender<Bytes>>> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
