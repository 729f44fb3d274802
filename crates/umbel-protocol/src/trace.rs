//! Which trace a message belongs to, as the header `traceparent` says it.
//!
//! <https://www.w3.org/TR/trace-context/>, level 1 and what level 2 says of flags.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::str::FromStr;

/// A place in a trace: the span that what comes next has for its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The span within it.
    pub span: SpanId,
    /// Whether whoever began the trace wants it recorded.
    pub is_sampled: bool,
}

/// Names a trace. Written as 32 hexadecimal digits, never all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub NonZeroU128);

/// Names a span of a trace. Written as 16 hexadecimal digits, never all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub NonZeroU64);

/// Why a text isn't a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParentError(&'static str);

/// The length of version 00, and of what later versions begin with.
const LEN: usize = 55;

/// The flag of [`TraceParent::is_sampled`]. Others are left alone and not handed on.
const SAMPLED: u8 = 1;

impl FromStr for TraceParent {
    type Err = TraceParentError;

    /// Reads the header's value. Of a later version it reads what it knows.
    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        let bytes = text.as_bytes();
        let (known, rest) =
            bytes.split_at_checked(LEN).ok_or(TraceParentError("is shorter than 55 bytes"))?;
        let has_dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
        if !has_dashes {
            return Err(TraceParentError("isn't four fields between dashes"));
        }
        let not_hex = TraceParentError("has other digits than 0-9 and a-f");
        let version = hex(&known[..2]).ok_or(not_hex)?;
        let trace = hex(&known[3..35]).ok_or(not_hex)?;
        let span = hex(&known[36..52]).ok_or(not_hex)?;
        let flags = hex(&known[53..55]).ok_or(not_hex)?;
        match version {
            0xff => return Err(TraceParentError("has version ff, which there isn't")),
            0 if !rest.is_empty() => {
                return Err(TraceParentError("is longer than version 00 is"));
            }
            _ if !rest.is_empty() && rest[0] != b'-' => {
                return Err(TraceParentError("goes on behind its flags without a dash"));
            }
            _ => {}
        }
        let span = u64::try_from(span).expect("16 digits are 64 bits");
        Ok(Self {
            trace: TraceId(NonZeroU128::new(trace).ok_or(TraceParentError("names no trace"))?),
            span: SpanId(NonZeroU64::new(span).ok_or(TraceParentError("names no span"))?),
            is_sampled: flags & u128::from(SAMPLED) != 0,
        })
    }
}

/// The digits of a number. Capitals aren't: one spelling per trace.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Some(number << 4 | u128::from(digit - b'0')),
        b'a'..=b'f' => Some(number << 4 | u128::from(digit - b'a' + 10)),
        _ => None,
    })
}

impl fmt::Display for TraceParent {
    /// As version 00.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.is_sampled))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for TraceParentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for TraceParentError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn parse(text: &str) -> Result<TraceParent, String> {
        text.parse().map_err(|error: TraceParentError| error.to_string())
    }

    #[test]
    fn the_sampled_flag_is_read_and_others_left_alone() {
        for (flags, is_sampled) in [("01", true), ("00", false), ("02", false), ("ff", true)] {
            let parent = parse(&format!("00-{TRACE}-{SPAN}-{flags}")).unwrap();
            assert_eq!((parent.trace.to_string().as_str(), parent.is_sampled), (TRACE, is_sampled));
            let written = format!("00-{TRACE}-{SPAN}-{:02x}", u8::from(is_sampled));
            assert_eq!(parent.to_string(), written);
        }
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_known() {
        for text in ["cc-{}-01", "01-{}-01-", "fe-{}-01-what.will-be"] {
            let text = text.replace("{}", &format!("{TRACE}-{SPAN}"));
            assert!(parse(&text).unwrap().is_sampled, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let zeros = "0".repeat(32);
        for (text, error) in [
            (String::new(), "is shorter than 55 bytes"),
            (format!("00-{TRACE}-{SPAN}-1"), "is shorter than 55 bytes"),
            (format!("00_{TRACE}-{SPAN}-01"), "isn't four fields between dashes"),
            (format!("00-{TRACE}-{SPAN}-01-"), "is longer than version 00 is"),
            (format!("01-{TRACE}-{SPAN}-01x"), "goes on behind its flags without a dash"),
            (format!("ff-{TRACE}-{SPAN}-01"), "has version ff, which there isn't"),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), "has other digits than 0-9 and a-f"),
            (format!("0x-{TRACE}-{SPAN}-01"), "has other digits than 0-9 and a-f"),
            (format!("00-{zeros}-{SPAN}-01"), "names no trace"),
            (format!("00-{TRACE}-{}-01", &zeros[..16]), "names no span"),
        ] {
            assert_eq!(parse(&text).unwrap_err(), error, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace in 1u128.., span in 1u64.., is_sampled: bool) {
            let parent = TraceParent {
                trace: TraceId(NonZeroU128::new(trace).unwrap()),
                span: SpanId(NonZeroU64::new(span).unwrap()),
                is_sampled,
            };
            prop_assert_eq!(parse(&parent.to_string()).unwrap(), parent);
        }

        /// What is taken is what the grammar of the specification gives.
        #[test]
        fn nothing_else_is_read(text in "(00|01|ff|0A)-?(0{32}|[0-9a-fG]{31,33})-(0{16}|[0-9a-f]{15,17})-[0-9a-f]{1,3}(-.{0,3})?") {
            let digits = |text: &str, len| {
                text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            };
            let fields: Vec<_> = text.splitn(5, '-').collect();
            let is_valid = fields.len() >= 4
                && digits(fields[0], 2) && fields[0] != "ff" && (fields.len() == 4 || fields[0] != "00")
                && digits(fields[1], 32) && !fields[1].trim_matches('0').is_empty()
                && digits(fields[2], 16) && !fields[2].trim_matches('0').is_empty()
                && digits(fields[3], 2);
            prop_assert_eq!(parse(&text).is_ok(), is_valid, "{}", text);
        }

        #[test]
        fn never_panics(text in ".{0,70}") {
            let _ = parse(&text);
        }
    }
}
