//! The payload of a load message: sequence number, time of sending, then filler of a known text.
//!
//! Fixed widths, so that a payload is made by overwriting digits and read without a search. Digits and
//! letters only, so that it passes JSON, WebSocket text and SSE unchanged.

use std::fmt;
use std::ops::Range;

use memchr::memmem::Finder;

/// Digits of the sequence number.
const SEQUENCE: usize = 16;
/// Digits of the time, in nanoseconds of the monotonic clock.
const STAMP: usize = 20;
const STAMP_AT: usize = SEQUENCE + 1;
const FILLER_AT: usize = STAMP_AT + STAMP + 1;
/// One more than the last sequence number that fits.
const SEQUENCES: u64 = 10_000_000_000_000_000;

/// The smallest payload that holds both numbers.
pub const MIN_BYTES: usize = FILLER_AT;

/// The payload that all messages of a run share but for their numbers.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
}

/// A payload isn't the one that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Garbled;

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("payload isn't one that was published")
    }
}

impl std::error::Error for Garbled {}

impl Template {
    /// A template of `bytes` in all, or `None` below [`MIN_BYTES`].
    pub fn new(bytes: usize) -> Option<Self> {
        let filler = (b'a'..=b'z').cycle().take(bytes.checked_sub(FILLER_AT)?);
        let mut template = vec![b' '; FILLER_AT];
        template.extend(filler);
        Some(Self { bytes: template })
    }

    /// Size of each payload.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the payload of one message.
    pub fn write(&mut self, out: &mut Vec<u8>, sequence: u64, nanos: u64) {
        debug_assert!(sequence < SEQUENCES, "sequence numbers have 16 digits");
        write_digits(&mut self.bytes[..SEQUENCE], sequence);
        write_digits(&mut self.bytes[STAMP_AT..STAMP_AT + STAMP], nanos);
        out.extend_from_slice(&self.bytes);
    }

    /// The sequence number of a received payload, if all else about it is as published.
    ///
    /// HOT PATH: once per delivery.
    #[inline]
    pub fn sequence(&self, payload: &[u8]) -> Result<u64, Garbled> {
        let filler = payload.get(FILLER_AT..).ok_or(Garbled)?;
        if filler != &self.bytes[FILLER_AT..] {
            return Err(Garbled);
        }
        let (digits, _) = payload.split_first_chunk::<SEQUENCE>().ok_or(Garbled)?;
        let (high, low) = digits.split_at(SEQUENCE / 2);
        Ok(eight_digits(high)? * 100_000_000 + eight_digits(low)?)
    }
}

/// Finds payloads among bytes of an unknown make.
#[derive(Debug, Clone)]
pub struct Search {
    template: Template,
    /// The space before the filler, and the filler.
    end: Finder<'static>,
}

impl Search {
    /// A search for payloads of `template`.
    pub fn new(template: &Template) -> Self {
        let end = Finder::new(&template.bytes[FILLER_AT - 1..]).into_owned();
        Self { template: template.clone(), end }
    }

    /// Size of each payload.
    pub fn size(&self) -> usize {
        self.template.size()
    }

    /// Where the first payload in `bytes` is that begins at `from` or later.
    ///
    /// HOT PATH: once per delivery.
    pub fn find(&self, bytes: &[u8], from: usize) -> Option<Range<usize>> {
        let mut look = from;
        loop {
            let end = look + self.end.find(bytes.get(look..)?)? + self.end.needle().len();
            let start = end.checked_sub(self.size()).filter(|start| *start >= from);
            if let Some(start) = start
                && self.template.sequence(&bytes[start..end]).is_ok()
                && stamp(&bytes[start..end]).is_ok()
            {
                return Some(start..end);
            }
            look = end - self.end.needle().len() + 1;
        }
    }
}

/// The time of sending in a received payload.
pub fn stamp(payload: &[u8]) -> Result<u64, Garbled> {
    let digits = payload.get(STAMP_AT..STAMP_AT + STAMP).ok_or(Garbled)?;
    let text = std::str::from_utf8(digits).map_err(|_| Garbled)?;
    text.parse().map_err(|_| Garbled)
}

fn write_digits(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Eight ASCII digits at once: neighbours are joined to pairs, pairs to fours, fours to eight.
#[inline]
fn eight_digits(digits: &[u8]) -> Result<u64, Garbled> {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const HIGH: u64 = 0xF0F0_F0F0_F0F0_F0F0;
    const SIX: u64 = 0x0606_0606_0606_0606;
    let bytes = u64::from_le_bytes(digits.try_into().map_err(|_| Garbled)?);
    // A digit's high half is 3, and stays so when 6 is added; of other bytes one of both fails.
    if bytes & HIGH != ZEROS || bytes.wrapping_add(SIX) & HIGH != ZEROS {
        return Err(Garbled);
    }
    let ones = bytes ^ ZEROS;
    let pairs = (ones.wrapping_mul(10) + (ones >> 8)) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs.wrapping_mul(100) + (pairs >> 16)) & 0x0000_FFFF_0000_FFFF;
    Ok((fours.wrapping_mul(10_000) + (fours >> 32)) & 0xFFFF_FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn payload(size: usize, sequence: u64, nanos: u64) -> Vec<u8> {
        let mut out = Vec::new();
        Template::new(size).unwrap().write(&mut out, sequence, nanos);
        out
    }

    #[test]
    fn a_payload_has_the_size_that_was_asked_for() {
        assert_eq!(payload(128, 1, 2).len(), 128);
        assert!(Template::new(MIN_BYTES - 1).is_none());
        assert_eq!(Template::new(MIN_BYTES).unwrap().size(), MIN_BYTES);
    }

    #[test]
    fn a_changed_payload_is_garbled() {
        let template = Template::new(64).unwrap();
        let good = payload(64, 7, 8);
        assert_eq!(template.sequence(&good), Ok(7));
        for at in [0, 15, 50, 63] {
            let mut bad = good.clone();
            bad[at] = b'~';
            assert_eq!(template.sequence(&bad), Err(Garbled), "byte {at}");
        }
        assert_eq!(template.sequence(&good[..63]), Err(Garbled));
        assert_eq!(template.sequence(&[]), Err(Garbled));
    }

    proptest! {
        #[test]
        fn both_numbers_come_back(sequence in 0..SEQUENCES, nanos in any::<u64>(), size in MIN_BYTES..300) {
            let bytes = payload(size, sequence, nanos);
            prop_assert_eq!(Template::new(size).unwrap().sequence(&bytes), Ok(sequence));
            prop_assert_eq!(stamp(&bytes), Ok(nanos));
        }

        #[test]
        fn payloads_are_found_among_other_bytes(
            around in prop::collection::vec("[ -~]{0,30}", 1..5),
            size in MIN_BYTES..200,
        ) {
            let template = Template::new(size).unwrap();
            let mut bytes = around[0].clone().into_bytes();
            let mut expected = Vec::new();
            for (sequence, text) in around[1..].iter().enumerate() {
                expected.push(bytes.len()..bytes.len() + size);
                bytes.extend(payload(size, sequence as u64, 7));
                bytes.extend(text.as_bytes());
            }
            let search = Search::new(&template);
            let (mut found, mut from) = (Vec::new(), 0);
            while let Some(range) = search.find(&bytes, from) {
                from = range.end;
                found.push(range);
            }
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_bytes_are_searched_without_a_panic(
            bytes in prop::collection::vec(prop::sample::select(b" 0a".to_vec()), 0..150),
            from in 0usize..200,
        ) {
            let search = Search::new(&Template::new(MIN_BYTES).unwrap());
            let found = search.find(&bytes, from);
            prop_assert!(found.is_none_or(|range| range.start >= from && range.end <= bytes.len()));
        }

        #[test]
        fn eight_bytes_parse_exactly_when_all_are_digits(bytes in prop::array::uniform8(0x28u8..0x42)) {
            let expected = std::str::from_utf8(&bytes).unwrap().parse::<u64>();
            let digits = bytes.iter().all(u8::is_ascii_digit);
            prop_assert_eq!(eight_digits(&bytes).ok(), expected.ok().filter(|_| digits));
        }

        #[test]
        fn any_bytes_parse_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Template::new(64).unwrap().sequence(&bytes);
            let _ = stamp(&bytes);
        }
    }
}
