//! Where an upload's bytes lie.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where an upload's bytes lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileRef {
    /// A file of the owner's that is only referenced, never changed.
    InPlace(PlacePath),
    /// Our own copy, named by the upload's id.
    Stored,
}

/// An absolute path, kept without loss also where it is not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "PathText", into = "PathText")]
pub struct PlacePath(PathBuf);

impl PlacePath {
    /// Takes an absolute path as it is.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

/// A path as JSON: text, or the hexadecimal digits of its bytes where it is no text.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum PathText {
    Text(String),
    Bytes { hex: String },
}

impl From<PathText> for PlacePath {
    fn from(text: PathText) -> Self {
        match text {
            PathText::Text(text) => Self(text.into()),
            PathText::Bytes { hex } => Self(path_from_hex(&hex)),
        }
    }
}

impl From<PlacePath> for PathText {
    fn from(path: PlacePath) -> Self {
        match path.0.into_os_string().into_string() {
            Ok(text) => Self::Text(text),
            Err(raw) => {
                Self::Bytes { hex: raw.as_encoded_bytes().iter().map(|byte| format!("{byte:02x}")).collect() }
            }
        }
    }
}

#[cfg(unix)]
fn path_from_hex(hex: &str) -> PathBuf {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt};
    let digit = |c: u8| (c as char).to_digit(16).unwrap_or(0) as u8;
    PathBuf::from(OsString::from_vec(
        hex.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect(),
    ))
}

#[cfg(not(unix))]
fn path_from_hex(hex: &str) -> PathBuf {
    PathBuf::from(hex)
}
