//! The size of a picture and of its decode, from its header.

/// The size of a picture and of its decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Width in pixels as stored, at least 1.
    pub(crate) width: u32,
    /// Height in pixels as stored, at least 1.
    pub(crate) height: u32,
    /// Most bytes that the decoder holds at one time, its output included.
    pub(crate) decoder_bytes: u64,
}

impl Extent {
    /// Returns `None` for a size of zero.
    pub(crate) fn new(width: u32, height: u32, bytes_per_pixel: u64) -> Option<Self> {
        let pixels = u64::from(width) * u64::from(height);
        let decoder_bytes = pixels.saturating_mul(bytes_per_pixel);
        (pixels > 0).then_some(Self { width, height, decoder_bytes })
    }
}
