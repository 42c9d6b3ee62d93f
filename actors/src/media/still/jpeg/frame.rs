//! The header of a JPEG, up to its first scan.

use std::io;
use std::ops::Range;

use super::super::extent::Extent;
use super::scale::Scale;
use crate::media::bytes::be16;
use crate::media::source::Source;

/// Most segments before the first scan. Cameras write fewer, and each costs a read.
const MAX_SEGMENTS: usize = 4096;

/// Parts of an ICC profile at most.
const MAX_PROFILE_PARTS: usize = 255;

/// The header of a JPEG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Width in pixels, at least 1.
    pub(crate) width: u32,
    /// Height in pixels, at least 1.
    pub(crate) height: u32,
    /// 1 grey, 3 colour, 4 CMYK.
    pub(super) components: Vec<Component>,
    pub(super) progressive: bool,
    /// Number of components in the first scan.
    first_scan: usize,
    /// Bytes of metadata before the frame header, which `zune-jpeg` copies.
    metadata: u64,
    pub(super) jfif: bool,
    /// The colour transform by Adobe's segment.
    pub(super) adobe: Option<u8>,
    /// The range of the EXIF data in the file.
    pub(super) exif: Option<Range<u64>>,
    /// The ranges of the segments with parts of an ICC profile, without their lengths.
    pub(super) profile: Vec<Range<u64>>,
}

/// A component of a frame: how it is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Component {
    pub(super) id: u8,
    /// Blocks of an MCU across, 1 to 4.
    pub(super) across: u32,
    /// Blocks of an MCU down, 1 to 4.
    pub(super) down: u32,
    /// The number of its quantisation table.
    pub(super) table: u8,
}

/// Why there is no frame header that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// The frame header is missing or makes no sense.
    NoFrame,
    /// A known coding without a decoder, as the object of a sentence.
    NoDecoder(&'static str),
}

impl Frame {
    /// Most blocks of any component in an MCU across.
    pub(super) fn across(&self) -> u32 {
        self.components.iter().map(|it| it.across).max().unwrap_or(1)
    }

    /// Most blocks of any component in an MCU down.
    pub(super) fn down(&self) -> u32 {
        self.components.iter().map(|it| it.down).max().unwrap_or(1)
    }

    /// Number of MCUs across and down.
    pub(super) fn mcus(&self) -> (u32, u32) {
        (self.width.div_ceil(8 * self.across()), self.height.div_ceil(8 * self.down()))
    }

    /// Returns `true` if `zune-jpeg` decodes this layout correctly: usual samplings, all components in the
    /// first scan. Of others it makes green pictures without an error.
    pub(super) fn is_common(&self) -> bool {
        let sampling = |it: &Component| (it.across, it.down);
        self.first_scan == self.components.len()
            && match &self.components[..] {
                [_] => true,
                [first, rest @ ..] => {
                    matches!(sampling(first), (1 | 2, 1 | 2)) && rest.iter().all(|it| sampling(it) == (1, 1))
                }
                [] => false,
            }
    }

    /// The size, and the memory of a decode at the full size.
    pub(crate) fn extent(&self) -> Extent {
        let decoder_bytes = self.decoder_bytes(Scale::FULL);
        Extent { width: self.width, height: self.height, decoder_bytes }
    }

    /// The smallest scale at which both sides are amply as long as these.
    pub(crate) fn scale(&self, (width, height): (u32, u32)) -> Scale {
        Scale::for_sides((self.width, self.height), (width, height))
    }

    /// Whether the picture is decoded while it is read, or the file has to be in memory.
    pub(crate) fn is_streamed(&self, scale: Scale) -> bool {
        scale != Scale::FULL || !self.is_common()
    }

    /// Most bytes that a decode at this scale holds at one time, its output included, without the file.
    pub(crate) fn decoder_bytes(&self, scale: Scale) -> u64 {
        let (across, down) = self.mcus();
        let mcus = u64::from(across) * u64::from(down);
        let blocks = |it: &Component| mcus * u64::from(it.across * it.down);
        // A progressive picture is held as coefficients of two bytes until its last scan.
        let coefficients = match self.progressive {
            true => self.components.iter().map(blocks).sum::<u64>() * 128,
            false => 0,
        };
        let (width, height) = scale.of((self.width, self.height));
        let decoded = u64::from(width) * u64::from(height) * self.components.len() as u64;
        let held = if self.is_streamed(scale) {
            let plane = |it: &Component| blocks(it) * (scale.of_component(self, it) as u64).pow(2);
            self.components.iter().map(plane).sum::<u64>() + (256 << 10)
        } else {
            self.metadata
        };
        let profile = self.profile.iter().map(|it| it.end - it.start).sum::<u64>();
        decoded + coefficients + held + 2 * profile
    }
}

/// Reads the segments up to the first scan.
pub(crate) fn frame(source: &mut Source<'_>) -> io::Result<Result<Frame, FrameError>> {
    let (mut at, mut metadata) = (2, 0);
    let (mut jfif, mut adobe, mut exif, mut profile) = (false, None, None, Vec::new());
    let mut frame: Option<Frame> = None;
    for _ in 0..MAX_SEGMENTS {
        let Some([ff, marker, high, low]) = source.exactly::<4>(at)? else { break };
        let length = u64::from(u16::from_be_bytes([high, low]));
        match (ff, marker) {
            // Fill bytes may precede a marker, and old encoders leave a stray byte between segments.
            (0xff, 0xff) | (0..0xff, _) => {
                at += 1;
                continue;
            }
            (0xff, 0xd8 | 0x01 | 0xd0..=0xd7) => {
                at += 2;
                continue;
            }
            (0xff, 0xc0..=0xc2) if frame.is_none() => {
                // The header of a grey picture is shorter, but more bytes follow in any picture.
                let Some(header) = source.exactly::<18>(at + 4)? else { break };
                if header[0] == 12 {
                    return Ok(Err(FrameError::NoDecoder("a JPEG of 12 bits a channel")));
                }
                frame = frame_header(&header, marker == 0xc2);
                if frame.is_none() {
                    break;
                }
            }
            (0xff, 0xc3) => return Ok(Err(FrameError::NoDecoder("a lossless JPEG"))),
            (0xff, 0xc5..=0xc7 | 0xcd..=0xcf) => {
                return Ok(Err(FrameError::NoDecoder("a hierarchical JPEG")));
            }
            (0xff, 0xc9..=0xcb) => return Ok(Err(FrameError::NoDecoder("an arithmetic-coded JPEG"))),
            (0xff, 0xf7) => return Ok(Err(FrameError::NoDecoder("a JPEG-LS picture"))),
            (0xff, 0xda) => {
                if let (Some(frame), Some([count])) = (&mut frame, source.exactly::<1>(at + 4)?) {
                    frame.first_scan = usize::from(count);
                }
                break;
            }
            // The end comes before any picture.
            (0xff, 0xd9) => break,
            _ if length < 2 => break,
            (0xff, 0xe0..=0xef) => {
                metadata += length;
                let (head, got) = source.at::<12>(at + 4)?;
                let head = &head[..got];
                match marker {
                    0xe0 => jfif |= head.starts_with(b"JFIF\0"),
                    0xe1 if exif.is_none() && head.starts_with(b"Exif\0") => {
                        exif = Some(at + 4..at + 2 + length);
                    }
                    0xe2 if head.starts_with(b"ICC_PROFILE\0") && profile.len() < MAX_PROFILE_PARTS => {
                        profile.push(at + 4..at + 2 + length);
                    }
                    0xee if head.starts_with(b"Adobe") && length >= 14 => adobe = head.get(11).copied(),
                    _ => {}
                }
            }
            _ => {}
        }
        at += 2 + length;
    }
    Ok(frame.map(|it| Frame { metadata, jfif, adobe, exif, profile, ..it }).ok_or(FrameError::NoFrame))
}

fn frame_header(header: &[u8; 18], progressive: bool) -> Option<Frame> {
    let (precision, count) = (header[0], header[5]);
    let height = u32::from(be16(header, 1)?);
    let width = u32::from(be16(header, 3)?);
    if precision != 8 || !matches!(count, 1 | 3 | 4) || width == 0 || height == 0 {
        return None;
    }
    let component = |fields: &[u8; 3]| {
        let [id, factors, table] = *fields;
        let (across, down) = (u32::from(factors >> 4), u32::from(factors & 15));
        let sound = (1..=4).contains(&across) && (1..=4).contains(&down) && table < 4;
        sound.then_some(Component { id, across, down, table })
    };
    let fields = &header[6..].as_chunks::<3>().0[..usize::from(count)];
    let mut components = fields.iter().map(component).collect::<Option<Vec<_>>>()?;
    if let [only] = &mut components[..] {
        // The factors of a single component mean nothing: its scan has one block after the other.
        (only.across, only.down) = (1, 1);
    }
    let first_scan = components.len();
    Some(Frame {
        width,
        height,
        components,
        progressive,
        first_scan,
        metadata: 0,
        jfif: false,
        adobe: None,
        exif: None,
        profile: Vec::new(),
    })
}
