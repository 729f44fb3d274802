//! One line of what is going on: overwritten on a terminal, now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const ON_TERMINAL: Duration = Duration::from_millis(200);
const ELSEWHERE: Duration = Duration::from_secs(30);
/// What a rate is drawn over.
const RATE_OVER: Duration = Duration::from_secs(2);

/// Tells at the standard error.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    told: Instant,
    marks: (Mark, Mark),
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    at: Instant,
    count: u64,
}

impl Progress {
    /// Nothing was told yet.
    pub fn new() -> Self {
        let mark = Mark { at: Instant::now(), count: 0 };
        let terminal = std::io::stderr().is_terminal();
        Self { terminal, told: mark.at, marks: (mark, mark) }
    }

    /// Tells what `text` says, if it is time.
    pub fn tell(&mut self, text: impl FnOnce() -> String) {
        if self.told.elapsed() < if self.terminal { ON_TERMINAL } else { ELSEWHERE } {
            return;
        }
        self.told = Instant::now();
        // Nothing depends on it.
        let mut out = std::io::stderr();
        let _ = if self.terminal {
            write!(out, "\r\x1b[K{}", text())
        } else {
            writeln!(out, "{}", text())
        };
        let _ = out.flush();
    }

    /// How fast `count` grew in the last seconds.
    pub fn rate(&mut self, count: u64) -> f64 {
        let now = Mark { at: Instant::now(), count };
        if now.at - self.marks.1.at >= RATE_OVER {
            self.marks = (self.marks.1, now);
        }
        let from = self.marks.0;
        let seconds = (now.at - from.at).as_secs_f64();
        if seconds > 0.0 { super::float(count.saturating_sub(from.count)) / seconds } else { 0.0 }
    }

    /// Takes the line away.
    pub fn clear(&self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}
