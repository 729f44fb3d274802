//! WebSocket frames: control frames are answered, the others are for their dialect.

use anyhow::{Result, bail};

use super::Hearing;
use crate::wire::frame;

/// Takes all whole frames; says how many bytes they took.
#[inline]
pub(super) fn take<'a, 'w>(
    hearing: &mut Hearing<'a, 'w>,
    bytes: &[u8],
    mut hear: impl FnMut(&mut Hearing<'a, 'w>, &[u8]) -> Result<()>,
) -> Result<usize> {
    let mut taken = 0;
    while let Some(frame) = frame::parse(&bytes[taken..])? {
        taken += frame.taken;
        match frame.opcode {
            frame::TEXT | frame::BINARY => hear(hearing, frame.payload)?,
            frame::PING => frame::write_client(hearing.out, frame::PONG, frame.payload),
            frame::CLOSE => match frame.payload.first_chunk() {
                Some(code) => bail!("server closed it with code {}", u16::from_be_bytes(*code)),
                None => bail!("server closed it without a code"),
            },
            _ => {}
        }
    }
    Ok(taken)
}
