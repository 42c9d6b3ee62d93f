//! Bytes in, pictures and facts out: tells a file's format, checks it before anything is decoded, and makes thumbnail
//! and vision input from one decode. Pure: no actor, no store, no network; the one clock is the limit of
//! the child processes that read videos.
//!
//! ```text
//! bytes -> format -> header (the door: `inspect`) -> decode -> pixels -> render -> thumbnail, picture   (`prepare`)
//!                                                      `-> exif, facts (colour, sharpness)
//! a video -> index, excerpt (or probe) -> ffmpeg -> frames -> thumbnail, pictures              (`prepare_video`)
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod animation;
mod blocks;
mod boxes;
mod bytes;
mod capability;
mod colour;
mod decode;
mod ebml;
mod excerpt;
mod exif;
mod facts;
mod ffmpeg;
mod format;
mod frames;
mod header;
mod heic;
mod heif;
mod hevc;
mod index;
mod items;
mod jpeg;
mod layout;
mod matroska;
mod mp4;
mod mux;
mod pixels;
mod prepare;
mod probe;
mod render;
mod sharpness;
mod source;
mod track;
mod video;
mod webp;

#[cfg(feature = "builtin")]
pub(crate) use render::{Rgb, interpolated};

pub use capability::{Capability, capabilities};
pub use facts::Shape;
pub use format::SNIFF_BYTES;
pub use header::inspect;
pub use prepare::prepare;
pub use video::prepare_video;

/// What a file is, told from its bytes and never from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// JPEG, baseline or progressive.
    Jpeg,
    /// PNG.
    Png,
    /// WebP, still or animated.
    Webp,
    /// GIF; the first frame stands for an animation.
    Gif,
    /// HEIC or HEIF.
    Heic,
    /// AVIF.
    Avif,
    /// TIFF.
    Tiff,
    /// Windows bitmap.
    Bmp,
    /// MPEG-4 video.
    Mp4,
    /// QuickTime video.
    Mov,
    /// AVI video.
    Avi,
    /// WebM video.
    Webm,
    /// MPEG program, transport or elementary stream.
    Mpeg,
    /// Flash video.
    Flv,
    /// Matroska video.
    Mkv,
}

/// A still picture or a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A still picture, or the first frame of an animation.
    Image,
    /// A video.
    Video,
}

/// What may be taken in and decoded.
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
    /// Memory that all decodes share, in bytes; one that needs more than all of it is refused.
    pub decode_memory: u64,
    /// Most of it that the reading of one video may take, in bytes.
    pub video_memory: u64,
    /// Longest that the reading of one video may take.
    pub video_timeout: Duration,
}

impl Limits {
    /// What holds unless a configuration says otherwise.
    pub const DEFAULT: Self = Self {
        max_image_bytes: 100 << 20,
        max_video_bytes: 2 << 30,
        max_pixels: 100_000_000,
        max_side_px: 16_384,
        decode_memory: 512 << 20,
        video_memory: 384 << 20,
        video_timeout: Duration::from_secs(120),
    };
}

/// The picture that a provider is to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisionSpec {
    /// Most pixels.
    pub max_pixels: u64,
    /// Longest side, in pixels.
    pub max_side_px: u32,
    /// Both sides are a multiple of this, and at least two of it; small pictures are padded with white, not enlarged.
    pub patch_px: u32,
    /// Whether the provider wants a JPEG (quality 88) beside the pixels.
    pub jpeg: bool,
}

/// What the header says of a file that may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// What it is.
    pub format: Format,
    /// Width in pixels as stored, before any EXIF orientation. 0 for a video whose index is not read at the door.
    pub width: u32,
    /// Height in pixels as stored.
    pub height: u32,
    /// Memory that its decode needs at most, in bytes, the file itself included.
    pub decode_bytes: u64,
}

/// Upright pixels that a provider sees, without alpha.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels, padding included.
    pub width: u32,
    /// Height in pixels, padding included.
    pub height: u32,
    /// `width * height * 3` bytes, rows from the top, red first.
    pub rgb: Vec<u8>,
    /// Width and height of the part that is picture and not padding; it lies in the upper left corner.
    pub content: (u32, u32),
    /// The same as a JPEG, where [`VisionSpec::jpeg`] asked for it.
    pub jpeg: Option<Vec<u8>>,
}

/// All that one decode yields.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The thumbnail as a JPEG, or why there is none; `None` if none was asked for.
    pub thumbnail: Option<Result<Vec<u8>, Error>>,
    /// What the provider sees.
    pub picture: Picture,
    /// What can be said of the picture without any model.
    pub facts: Facts,
}

/// All that the reading of a video yields.
#[derive(Debug, Clone)]
pub struct Clip {
    /// The thumbnail as a JPEG, or why there is none; `None` if none was asked for.
    pub thumbnail: Option<Result<Vec<u8>, Error>>,
    /// What the provider sees: one to ten frames in order.
    pub pictures: Vec<Picture>,
    /// Seconds from the start for each of them.
    pub seconds: Vec<f64>,
    /// What can be said of the video without any model; colours, lightness and sharpness are those of the frame that the
    /// thumbnail shows.
    pub facts: Facts,
}

/// Why a file is refused at the door or cannot be decoded: a sentence in lower case without a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The sort of trouble, for programs.
    pub kind: ErrorKind,
    /// The sentence, for people.
    pub message: String,
}

impl Error {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// The sorts of trouble with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The file is empty.
    Empty,
    /// The bytes are of no format that is known here.
    NotMedia,
    /// The format is known, but this build or machine cannot decode it.
    Unsupported,
    /// Too many bytes, pixels, a side too long, or more memory than there is for decodes.
    TooLarge,
    /// The bytes are damaged, cut short or make no sense.
    Undecodable,
}

/// What can be said of a picture without any model.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Facts {
    /// Width in pixels, upright.
    pub width: u32,
    /// Height in pixels, upright.
    pub height: u32,
    /// Main colours by name with their share of the picture in percent, largest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub colours: Vec<Colour>,
    /// Mean lightness, 0 (black) to 100 (white).
    #[serde(default)]
    pub lightness: u8,
    /// Sharpness of the sharpest parts, 0 (flat or blurred) to 100.
    #[serde(default)]
    pub sharpness: u8,
    /// When it was taken, local time of the camera as EXIF gives it, as `2026-05-04T10:11:12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<String>,
    /// Maker and model of the camera.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub camera: Option<String>,
    /// Degrees north and east.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinates: Option<(f64, f64)>,
    /// Length of a video or animation in milliseconds, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// How a video is coded, by `ffmpeg`'s name for it: `h264`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_codec: Option<String>,
    /// It is an animation, and what was looked at is its first frame.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub animated: bool,
    /// The file ends early or has broken parts; what could be decoded was used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub damaged: bool,
}

/// A colour by its everyday name and its share of the picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Colour {
    /// Everyday English name: `dark blue`, `orange`, `grey`.
    pub name: String,
    /// Share of the picture in percent, 1 to 100.
    pub percent: u8,
}
