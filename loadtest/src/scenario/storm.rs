//! A reconnect storm: connect, upgrade and subscribe as fast as possible.
//!
//! Each wave opens all sessions and is measured alone; closing them isn't. On loopback the kernel's part of a TCP
//! handshake runs on the core of the client, so the server's core shows what follows: accept, request, answer.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Measured, Measuring, Plan, Unit};
use crate::cost::Meter;
use crate::load::{Deaf, Load};

/// Time for the server to clear away the sessions of a wave before the next.
const AFTERMATH: Duration = Duration::from_millis(300);

/// How many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Storm {
    /// Sessions of a wave.
    pub sessions: usize,
}

impl Storm {
    /// Runs waves and adds up what they cost.
    pub(super) fn run(self, plan: &Plan, meter: &Meter, load: &mut Load) -> Result<Measured> {
        let mut window = plan.span.begin();
        let mut sum: Option<Measured> = None;
        while window.another() {
            match &mut sum {
                None => sum = Some(self.wave(meter, load)?),
                Some(sum) => {
                    load.wait_for(Instant::now() + AFTERMATH, &mut Deaf)?;
                    sum.add_wave(&self.wave(meter, load)?);
                }
            }
        }
        Ok(sum.expect("a window has at least one round"))
    }

    fn wave(self, meter: &Meter, load: &mut Load) -> Result<Measured> {
        let measuring = Measuring::begin(meter, load.counts())?;
        load.open(self.sessions, |_| 0)?;
        let mut measured = measuring.end(load.counts(), 1)?;
        measured.unit = Unit::Connect;
        measured.units = self.sessions as u64;
        load.close();
        Ok(measured)
    }
}
