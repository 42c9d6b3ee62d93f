//! The program as its users have it, and pictures to give it.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part of it")]

use std::process::{Command, Output};

pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mediamill"));
    command.env_remove("RUST_LOG").env("RUST_BACKTRACE", "0");
    command
}

pub fn mediamill(arguments: &[&str]) -> Output {
    command().args(arguments).output().expect("the program runs")
}

/// A picture of one colour with a lighter corner, too small for the detector to look at.
pub fn picture(seed: u8) -> Vec<u8> {
    let (width, height) = (20_u32, 16_u32);
    let pixels = width * height * 3;
    let mut bmp = b"BM".to_vec();
    for number in [54 + pixels, 0, 54, 40, width, height] {
        bmp.extend(number.to_le_bytes());
    }
    bmp.extend([1, 0, 24, 0]);
    for number in [0, pixels, 2835, 2835, 0, 0] {
        bmp.extend(number.to_le_bytes());
    }
    for at in 0..width * height {
        let light = if at < 5 { 60 } else { 0 };
        bmp.extend([seed.wrapping_mul(37) / 2 + light, seed / 2 + light, 90]);
    }
    bmp
}

/// The photo of a cat, each time with another content that looks the same: it takes the detector a while.
pub fn photo(number: u8) -> Vec<u8> {
    let mut jpeg = include_bytes!("../../actors/tests/fixtures/cat.jpg").to_vec();
    jpeg.push(number);
    jpeg
}
