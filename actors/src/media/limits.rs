//! Which files are accepted and decoded.

use std::time::Duration;

use super::error::{Error, ErrorKind};

/// Limits on the files that are accepted and decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest image file, in bytes.
    pub max_image_bytes: u64,
    /// Largest video file, in bytes.
    pub max_video_bytes: u64,
    /// Most pixels of a picture (width times height).
    pub max_pixels: u64,
    /// Longest side of a picture, in pixels.
    pub max_side_px: u32,
    /// Memory that all decodes share, in bytes. A file that needs more than this is refused.
    pub decode_memory: u64,
    /// Most memory that reading one video may take, in bytes. It is part of `decode_memory`.
    pub video_memory: u64,
    /// Longest time that reading one video may take.
    pub video_timeout: Duration,
}

impl Limits {
    /// The limits that apply unless a configuration overrides them.
    pub const DEFAULT: Self = Self {
        max_image_bytes: 100 << 20,
        max_video_bytes: 2 << 30,
        max_pixels: 100_000_000,
        max_side_px: 16_384,
        decode_memory: 512 << 20,
        video_memory: 384 << 20,
        video_timeout: Duration::from_secs(120),
    };

    /// These limits for files that are read where they are: only memory and time count. Their bytes are on
    /// the disk already, and a picture that is too large for the memory is refused by what it needs.
    pub fn in_place(&self) -> Self {
        Self {
            max_image_bytes: u64::MAX,
            max_video_bytes: u64::MAX,
            max_pixels: u64::MAX,
            max_side_px: u32::MAX,
            ..self.clone()
        }
    }

    /// Checks a size against the limits on sides and pixels.
    pub(super) fn check_size(&self, (width, height): (u32, u32)) -> Result<(), Error> {
        let refuse = |message| Err(Error::new(ErrorKind::TooLarge, message));
        if width.max(height) > self.max_side_px {
            let most = self.max_side_px;
            return refuse(format!("the picture is {width} x {height} pixels, limits.max_side_px is {most}"));
        }
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.max_pixels {
            let most = self.max_pixels;
            return refuse(format!(
                "the picture has {pixels} pixels ({width} x {height}), limits.max_pixels is {most}"
            ));
        }
        Ok(())
    }
}
