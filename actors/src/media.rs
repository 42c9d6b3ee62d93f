//! Turns the bytes of a file into pictures and facts: tells the format, checks the header before anything is
//! decoded, and makes thumbnail and vision input from one decode. Knows no actor, store or network; its only
//! clock is the time limit of the child processes that read videos.
//!
//! ```text
//! `inspect`: bytes -> format -> header, limits
//! `prepare`: bytes -> header -> decode -> pixels -> render, colour_space -> thumbnail, picture
//!                `                            `-> facts (colour, sharpness)
//!                 `-> embedded (exif, xmp, iptc) -> origin -> facts <- sidecar (xmp, takeout)
//! `prepare_video`: path -> index, excerpt (or probe) -> ffmpeg -> frames -> thumbnail, pictures
//! ```
//!
//! `still/` has a file for each format of still pictures (`still/jpeg/` is a decoder of JPEGs), `heif/` reads
//! HEIC, `raw/` the raw files of cameras, `video/` everything for videos.
//! The files beside this one serve all of them.

mod boxes;
mod bytes;
mod capability;
mod claim;
mod colour;
mod colour_space;
mod contents;
mod decode;
mod directory;
mod embedded;
mod error;
mod exif;
mod facts;
mod format;
#[doc(hidden)]
pub mod fuzzing;
mod header;
#[cfg(feature = "heic")]
mod heif;
mod iptc;
mod layout;
mod limits;
mod moment;
mod orientation;
mod origin;
mod picture;
mod pieces;
mod pixels;
mod prepare;
mod raw;
mod render;
mod sharpness;
mod shot;
mod sidecar;
mod source;
mod still;
mod takeout;
mod text;
mod video;
pub mod xmp;

#[cfg(feature = "builtin")]
pub(crate) use render::{Rgb, interpolated};
pub(crate) use shot::{Shot, shot};

pub use capability::{Capability, capabilities};
pub use claim::is_called_media;
pub use colour::Colour;
pub use error::{Error, ErrorKind};
pub use facts::{Facts, Place, Shape};
pub use format::{Format, Kind, SNIFF_BYTES};
pub use header::{Inspected, STREAMED_BYTES, inspect};
pub use layout::VisionSpec;
pub use limits::Limits;
pub use origin::Origins;
pub use picture::{Clip, Picture, Prepared};
pub use prepare::{prepare, prepare_file};
pub use sidecar::{Sidecar, facts_beside, sidecars};
#[doc(hidden)]
pub use video::prepare_video_by_ffmpeg;
pub use video::{open_video, prepare_video};
