//! The pictures and facts that are made of a file.

use super::error::Error;
use super::facts::Facts;
use super::origin::Origins;

/// Upright pixels that a provider sees, without alpha.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels, padding included.
    pub width: u32,
    /// Height in pixels, padding included.
    pub height: u32,
    /// `width * height * 3` bytes, rows from the top, red first.
    pub rgb: Vec<u8>,
    /// Width and height of the part that is picture and not padding, in the upper left corner.
    pub content: (u32, u32),
    /// The same as a JPEG, if [`VisionSpec::jpeg`](super::VisionSpec::jpeg) asked for it.
    pub jpeg: Option<Vec<u8>>,
}

/// The result of decoding one picture.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The thumbnail as a JPEG, or why it could not be made; `None` if none was asked for.
    pub thumbnail: Option<Result<Vec<u8>, Error>>,
    /// The picture for the provider.
    pub picture: Picture,
    /// What is known of the picture without a model.
    pub facts: Facts,
    /// What the file itself says of its origin, for [`facts_beside`](super::facts_beside).
    pub origins: Origins,
}

/// The result of reading one video.
#[derive(Debug, Clone)]
pub struct Clip {
    /// The thumbnail as a JPEG, or why it could not be made; `None` if none was asked for.
    pub thumbnail: Option<Result<Vec<u8>, Error>>,
    /// The pictures for the provider: one to ten frames in order.
    pub pictures: Vec<Picture>,
    /// Seconds from the start for each picture.
    pub seconds: Vec<f64>,
    /// What is known of the video without a model. Colours, lightness and sharpness are those of the frame in
    /// the thumbnail.
    pub facts: Facts,
    /// What the file itself says of its origin, for [`facts_beside`](super::facts_beside).
    pub origins: Origins,
}
