//! How far something is: a bar with live figures at the standard error, if that is a terminal.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often it is drawn.
const EVERY: Duration = Duration::from_millis(100);
/// Width of a terminal that doesn't say it.
const WIDTH: usize = 80;
/// Cells of the bar.
const BAR: usize = 20;

/// A bar.
#[derive(Debug)]
pub struct Progress {
    what: String,
    seconds: f64,
    terminal: bool,
    told: Option<Instant>,
}

impl Progress {
    /// Of `what`, which takes `seconds`; where that isn't known it is 0, and there is no bar.
    pub fn new(what: &str, seconds: f64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { what: what.to_owned(), seconds, terminal, told: None }
    }

    /// `at` seconds of it are over, and `line` tells how it goes. Drawn ten times a second at most.
    pub fn tell(&mut self, at: f64, line: &str) {
        if !self.terminal || self.told.is_some_and(|told| told.elapsed() < EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        self.write(&self.drawn(at, line, width()));
    }

    /// Takes the bar away, so that others may write.
    pub fn clear(&mut self) {
        if self.told.take().is_some() {
            self.write("");
        }
    }

    /// One line that fits into `width`, so that it never wraps and can be overwritten.
    fn drawn(&self, at: f64, line: &str, width: usize) -> String {
        let mut text = format!("{} ", self.what);
        if self.seconds > 0.0 {
            let share = (at / self.seconds).clamp(0.0, 1.0);
            let full = filled(share);
            let _ = write!(text, "[{}{}] ", "█".repeat(full), "·".repeat(BAR - full));
            let _ = write!(text, "{:.0}/{:.0} s  ", at.max(0.0), self.seconds);
        } else {
            let _ = write!(text, "{:.0} s  ", at.max(0.0));
        }
        text.push_str(line);
        text.chars().filter(|c| !c.is_control()).take(width.saturating_sub(1)).collect()
    }

    fn write(&self, text: &str) {
        debug_assert!(self.terminal, "nothing is told elsewhere");
        // Nothing depends on it.
        let mut out = std::io::stderr();
        let _ = write!(out, "\r\x1b[K{text}");
        let _ = out.flush();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Cells for a share from 0 to 1; NaN has none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "from 0 to 20"
)]
fn filled(share: f64) -> usize {
    ((share * BAR as f64) as usize).min(BAR)
}

fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|width| *width > 0).unwrap_or(WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(seconds: f64, at: f64, line: &str, width: usize) -> String {
        let progress = Progress { what: "run".to_owned(), seconds, terminal: false, told: None };
        progress.drawn(at, line, width)
    }

    #[test]
    fn the_bar_grows_with_time_and_stays_within_its_ends() {
        let cells = |at| drawn(10.0, at, "", 80).matches('█').count();
        assert_eq!([-5.0, 0.0, 5.0, 10.0, 99.0, f64::NAN].map(cells), [0, 0, 10, 20, 20, 0]);
        assert_eq!(drawn(0.0, 3.4, "7/s", 80), "run 3 s  7/s");
        assert!(drawn(10.0, 2.0, "1000 open, 5/s", 80).ends_with("2/10 s  1000 open, 5/s"));
    }

    #[test]
    fn a_line_never_wraps() {
        for width in [0, 1, 20, 40] {
            let line = drawn(10.0, 5.0, "\n\x1b[2J a very long line of live figures", width);
            assert!(line.chars().count() <= width.saturating_sub(1), "{line:?}");
            assert!(!line.contains(char::is_control));
        }
    }

    #[test]
    fn elsewhere_nothing_is_told() {
        let mut progress =
            Progress { what: String::new(), seconds: 1.0, terminal: false, told: None };
        progress.tell(0.5, "x");
        assert!(progress.told.is_none());
    }
}
