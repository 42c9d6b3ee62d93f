//! How many frames an animation has and how long it runs, by walking the file's blocks without decoding any.

use super::bytes::{be16, be32, le16};

/// Frames of an animation and their time together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Animation {
    frames: u64,
    duration_ms: u64,
}

impl Animation {
    pub(super) fn add_frame(&mut self, duration_ms: u64) {
        self.frames += 1;
        self.duration_ms = self.duration_ms.saturating_add(duration_ms);
    }

    /// One frame is a still picture, whatever the container says.
    pub(super) fn is_moving(&self) -> bool {
        self.frames > 1
    }

    /// `None` where no frame names a time.
    pub(super) fn duration_ms(&self) -> Option<u64> {
        (self.is_moving() && self.duration_ms > 0).then_some(self.duration_ms)
    }
}

/// The frames of a GIF, as far as the file goes.
pub(super) fn gif(bytes: &[u8]) -> Animation {
    let mut animation = Animation::default();
    gif_blocks(bytes, &mut animation);
    animation
}

fn gif_blocks(bytes: &[u8], animation: &mut Animation) -> Option<()> {
    let table = |flags: u8| if flags & 0x80 != 0 { 3 << ((flags & 7) + 1) } else { 0 };
    let mut at = 13 + table(*bytes.get(10)?);
    let mut delay = 0;
    loop {
        match *bytes.get(at)? {
            0x21 => {
                if *bytes.get(at + 1)? == 0xf9 {
                    delay = u64::from(le16(bytes, at + 4)?);
                }
                at = past_sub_blocks(bytes, at + 2)?;
            }
            0x2c => {
                let flags = *bytes.get(at + 9)?;
                // Viewers show a frame without a sensible delay for a tenth of a second.
                animation.add_frame(if delay < 2 { 100 } else { delay * 10 });
                delay = 0;
                at = past_sub_blocks(bytes, at + 11 + table(flags))?;
            }
            _ => return None,
        }
    }
}

fn past_sub_blocks(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            size => at += 1 + usize::from(size),
        }
    }
}

/// The frames of an animated PNG; none for a still one.
pub(super) fn png(bytes: &[u8]) -> Animation {
    let mut animation = Animation::default();
    png_chunks(bytes, &mut animation);
    animation
}

fn png_chunks(bytes: &[u8], animation: &mut Animation) -> Option<()> {
    let mut at = 8;
    let mut animated = false;
    loop {
        let size = usize::try_from(be32(bytes, at)?).ok()?;
        match bytes.get(at + 4..at + 8)? {
            b"acTL" => animated = true,
            // Frames are announced before the data, so a still picture is done here.
            b"IDAT" if !animated => return None,
            b"fcTL" => {
                let (over, under) = (u64::from(be16(bytes, at + 28)?), u64::from(be16(bytes, at + 30)?));
                animation.add_frame(over * 1000 / if under == 0 { 100 } else { under });
            }
            b"IEND" => return None,
            _ => {}
        }
        at = at.checked_add(12)?.checked_add(size)?;
    }
}
