//! HEIC pictures.

mod composition;
mod decode;
mod hevc;
mod items;
mod metadata;

pub(super) use composition::{Composition, CompositionError, composition};
pub(super) use decode::{decode, decoder_bytes};
pub(super) use metadata::metadata;
