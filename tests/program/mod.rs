//! Runs the program, and makes pictures for it.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part of it")]

#[cfg(unix)]
pub mod terminal;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    process::{Command, Output},
    thread,
};

pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mediamill"));
    command.env_remove("RUST_LOG").env("RUST_BACKTRACE", "0");
    command
}

pub fn mediamill(arguments: &[&str]) -> Output {
    command().args(arguments).output().expect("the program runs")
}

/// A picture of one colour with a lighter corner, too small for the detector.
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

/// A photo of a cat, with different bytes for each number. The detector takes a while for it.
pub fn photo(number: u8) -> Vec<u8> {
    let mut jpeg = include_bytes!("../../actors/tests/fixtures/cat.jpg").to_vec();
    jpeg.push(number);
    jpeg
}

/// A model server with Ollama's interface that answers every probe, and refuses every call with 429.
pub fn busy_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut request = BufReader::new(stream);
            let (mut lines, mut length) = (Vec::new(), 0);
            while lines.last().is_none_or(|it: &String| !it.trim().is_empty()) {
                let mut line = String::new();
                if request.read_line(&mut line).is_ok_and(|read| read == 0) {
                    break;
                }
                if let Some((_, value)) = line.to_lowercase().split_once("content-length:") {
                    length = value.trim().parse().expect("a number");
                }
                lines.push(line);
            }
            let mut body = vec![0; length];
            request.read_exact(&mut body).expect("the whole request");
            let (status, answer) =
                match lines.first().map_or("", |it| it.split(' ').nth(1).unwrap_or_default()) {
                    "/api/version" => (200, r#"{"version":"0.12.6"}"#),
                    "/api/tags" => (200, r#"{"models":[]}"#),
                    "/api/show" => (200, r#"{"model_info":{}}"#),
                    _ => (429, r#"{"error":"rate limit reached"}"#),
                };
            let head =
                format!("HTTP/1.1 {status} -\r\nconnection: close\r\ncontent-length: {}", answer.len());
            let reply = format!("{head}\r\ncontent-type: application/json\r\n\r\n{answer}");
            request.get_mut().write_all(reply.as_bytes()).expect("sent");
        }
    });
    url
}
