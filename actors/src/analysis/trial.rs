//! A small request that shows whether a provider works.

use std::sync::Arc;

use jpeg_encoder::{ColorType, Encoder};

use super::DescribeRequest;
use crate::media::{Facts, Picture};

/// Side of the picture in pixels: a multiple of all known patch sizes, 28 and 32.
const SIDE: u16 = 224;

/// A request to describe a drawing of a red disc on white. Its picture has pixels and a JPEG.
pub fn trial() -> DescribeRequest {
    let side = i32::from(SIDE);
    let rgb: Vec<u8> = (0..side * side)
        .flat_map(|at| {
            let (x, y) = (at % side - side / 2, at / side - side / 2);
            if x * x + y * y < side * side / 9 { [200, 20, 30] } else { [255, 255, 255] }
        })
        .collect();
    let mut jpeg = Vec::new();
    // Encoding into memory does not fail. If it did, the provider would report the missing JPEG.
    let encoded = Encoder::new(&mut jpeg, 88).encode(&rgb, SIDE, SIDE, ColorType::Rgb);
    let side = u32::from(SIDE);
    let jpeg = encoded.is_ok().then_some(jpeg);
    DescribeRequest {
        pictures: Arc::new([Picture { width: side, height: side, rgb, content: (side, side), jpeg }]),
        facts: Facts { width: side, height: side, ..Facts::default() },
        names: Vec::new(),
        variation: 0,
        frame_seconds: Vec::new(),
    }
}
