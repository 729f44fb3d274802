//! What the sockets bring.

use anyhow::{Result, bail};

use super::{Sessions, Stage};
use crate::load::clock;
use crate::os::poller::{Poller, Ready};
use crate::os::socket::{self, Moved};
use crate::work::holder::slot::Phase;
use crate::work::holder::timers::Alarm;

impl Sessions {
    /// Lets the session of an event read and write.
    ///
    /// HOT PATH: once per session and batch.
    pub(in crate::work::holder) fn serve(
        &mut self,
        ready: Ready,
        poller: &Poller,
        buffer: &mut [u8],
    ) {
        let number = usize::try_from(ready.token).unwrap_or(usize::MAX);
        // An event may still name a session whose connection has ended since.
        let Some(slot) = self.slots.get_mut(number).filter(|slot| slot.socket().is_some()) else {
            return;
        };
        if ready.writable()
            && let Err(error) = slot.flush(poller, ready.token)
        {
            return self.end(number, &error);
        }
        let waits = slot.is_slow && slot.phase == Phase::Open && self.stage != Stage::Ending;
        if ready.readable()
            && !waits
            && let Err(error) = self.read_all(number, ready.ended(), poller, buffer)
        {
            self.end(number, &error);
        }
    }

    /// Reads what a slow session may read until its next turn. When the window is over it catches up.
    pub(super) fn read_slowly(
        &mut self,
        number: usize,
        now: u64,
        poller: &Poller,
        buffer: &mut [u8],
    ) {
        let Some(budget) = self.budget else {
            return;
        };
        let read = if self.stage == Stage::Ending {
            self.read_all(number, true, poller, buffer)
        } else {
            self.set(number, Alarm::Read, now + budget.every);
            let most = budget.bytes.min(buffer.len());
            self.read(number, poller, &mut buffer[..most]).map(|_| ())
        };
        if let Err(error) = read {
            self.end(number, &error);
        }
    }

    /// Reads what there is; up to the end if the other side `has_ended`.
    fn read_all(
        &mut self,
        number: usize,
        has_ended: bool,
        poller: &Poller,
        buffer: &mut [u8],
    ) -> Result<()> {
        loop {
            let read = self.read(number, poller, buffer)?;
            if read == 0 || (read < buffer.len() && !has_ended) {
                return Ok(());
            }
        }
    }

    /// Reads once; says how many bytes came.
    fn read(&mut self, number: usize, poller: &Poller, buffer: &mut [u8]) -> Result<usize> {
        let slot = &mut self.slots[number];
        let Some(socket) = slot.socket() else {
            return Ok(0);
        };
        let read = match socket::receive(socket, buffer)? {
            Moved::Bytes(read) => read,
            Moved::Later => return Ok(0),
            Moved::Ended if slot.phase == Phase::Open => bail!("server closed its connection"),
            Moved::Ended => bail!("server closed its connection before it was open"),
        };
        let needs_time = self.hearing.notes.is_on() || slot.phase == Phase::Opening;
        let now = if needs_time { clock::nanos() } else { 0 };
        let speech = &self.speeches[usize::from(slot.place)];
        self.out.clear();
        let (has_opened, heard) =
            self.hearing.hear(speech, slot, &mut buffer[..read], now, &mut self.out);
        if has_opened {
            self.enter(number, now);
        }
        heard?;
        self.slots[number].send(&self.out, poller, number as u64)?;
        Ok(read)
    }
}
