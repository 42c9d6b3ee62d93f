//! Still pictures other than HEIC: a file for each format, with its header and its decode.

mod animation;
pub(super) mod bmp;
mod decoded;
mod extent;
pub(super) mod gif;
pub(super) mod jpeg;
pub(super) mod jxl;
pub(super) mod png;
mod reduction;
pub(super) mod tiff;
pub(super) mod webp;

pub(super) use decoded::Decoded;
pub(super) use extent::Extent;
