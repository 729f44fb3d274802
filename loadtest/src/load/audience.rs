//! All sessions of a load.

use anyhow::{Context, Result};

use crate::load::Observer;
use crate::load::ledger::Integrity;
use crate::load::session::{Check, Phase, Session};
use crate::load::target::{Target, topic_name};
use crate::os::poller::{Poller, Ready};
use crate::os::socket;
use crate::os::source_addresses::SourceAddresses;
use crate::wire::message_id::MessageId;
use crate::wire::payload::Template;
use crate::wire::subscribe::Subscribe;

/// The sessions, in the order in which they were started; a session's place is its number.
#[derive(Debug)]
pub struct Audience {
    target: Target,
    sources: SourceAddresses,
    sessions: Vec<Session>,
    opened: usize,
    check: Check,
    request: Vec<u8>,
}

impl Audience {
    /// No sessions yet.
    pub fn new(target: &Target, template: Template) -> Self {
        let subscribe = Subscribe::new(target.dialect, &target.subscribe.host);
        Self {
            target: target.clone(),
            sources: SourceAddresses::new(target.subscribe.address),
            sessions: Vec::new(),
            opened: 0,
            check: Check::new(subscribe, target.dialect, template),
            request: Vec::new(),
        }
    }

    /// Sessions that were started.
    pub fn started(&self) -> usize {
        self.sessions.len()
    }

    /// Sessions whose subscription is open.
    pub fn opened(&self) -> usize {
        self.opened
    }

    /// Messages received by all sessions, doubles left out.
    pub fn received(&self) -> u64 {
        self.check.sums.received
    }

    /// Sessions that are started from now on have seen the message of `id` last.
    pub fn go_on_after(&mut self, id: &MessageId) {
        self.check.subscribe.go_on_after(id.to_string());
    }

    /// Starts a session that subscribes to `topic`; its first message is number `first`.
    pub fn start(&mut self, topic: usize, first: u64, poller: &Poller) -> Result<()> {
        let address = self.target.subscribe.address;
        let number = self.sessions.len();
        let socket = socket::connect(address, self.sources.take())
            .with_context(|| format!("session {number} can't connect to {address}"))?;
        poller.add_connection(&socket, number as u64)?;
        self.sessions.push(Session::new(socket, topic, first));
        self.request(number, poller)
    }

    /// Sends the request if the connection is up, as it is at once on loopback; else waits for that.
    fn request(&mut self, number: usize, poller: &Poller) -> Result<()> {
        let session = &mut self.sessions[number];
        let path = self.target.path_of(&topic_name(session.topic));
        self.request.clear();
        self.check.subscribe.write(&mut self.request, &path);
        let address = self.target.subscribe.address;
        let sent = session.send_request(&self.request);
        if !sent.with_context(|| format!("session {number} at {address}"))? {
            poller.watch_room(session.socket(), number as u64)?;
        }
        Ok(())
    }

    /// Lets the session of an event read.
    ///
    /// HOT PATH: once per session and batch.
    pub fn serve(
        &mut self,
        ready: Ready,
        poller: &Poller,
        buffer: &mut [u8],
        observer: &mut impl Observer,
    ) -> Result<()> {
        let number = usize::try_from(ready.token)?;
        // An event may still name a session that was closed since.
        let Some(session) = self.sessions.get_mut(number) else {
            return Ok(());
        };
        let before = session.phase();
        if before == Phase::Connecting {
            return self.request(number, poller);
        }
        let mut heard = |sequence, payload: &[u8]| observer.received(number, sequence, payload);
        session
            .receive(buffer, &mut self.check, &mut heard)
            .with_context(|| format!("session {number} of {}", self.sessions.len()))?;
        if before != Phase::Open && self.sessions[number].phase() == Phase::Open {
            self.opened += 1;
        }
        Ok(())
    }

    /// Closes all sessions; what has come of their messages stays in the sums.
    pub fn close(&mut self, published: impl Fn(usize) -> u64) {
        self.check.sums = self.integrity(published);
        self.sessions.clear();
        self.opened = 0;
    }

    /// What has come of the messages, given how many were published to each topic.
    pub fn integrity(&self, published: impl Fn(usize) -> u64) -> Integrity {
        let mut sums = self.check.sums;
        for session in &self.sessions {
            let end = published(session.topic);
            sums.expected += session.expected(end);
            sums.lost += session.lost(end);
        }
        sums
    }
}
