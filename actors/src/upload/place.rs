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
#[serde(try_from = "PathText", into = "PathText")]
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

impl TryFrom<PathText> for PlacePath {
    type Error = &'static str;

    fn try_from(text: PathText) -> Result<Self, Self::Error> {
        match text {
            PathText::Text(text) => Ok(Self(text.into())),
            PathText::Bytes { hex } => {
                let bytes = base16ct::lower::decode_vec(hex)
                    .map_err(|_| "a path's `hex` must be hexadecimal digits")?;
                from_bytes(bytes).map(Self)
            }
        }
    }
}

impl From<PlacePath> for PathText {
    fn from(path: PlacePath) -> Self {
        match path.0.into_os_string().into_string() {
            Ok(text) => Self::Text(text),
            Err(raw) => Self::Bytes { hex: base16ct::lower::encode_string(raw.as_encoded_bytes()) },
        }
    }
}

#[cfg(unix)]
fn from_bytes(bytes: Vec<u8>) -> Result<PathBuf, &'static str> {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt};
    Ok(OsString::from_vec(bytes).into())
}

#[cfg(not(unix))]
fn from_bytes(_: Vec<u8>) -> Result<PathBuf, &'static str> {
    Err("this path is no text, and only systems like Unix have such paths")
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn a_path_that_is_no_text_comes_back_from_json_and_one_with_other_digits_does_not() {
        let path = PlacePath::new(std::ffi::OsString::from_vec(b"/photos/caf\xe9.jpg".to_vec()));
        let json = serde_json::to_string(&path).expect("JSON");
        assert_eq!(json, r#"{"hex":"2f70686f746f732f636166e92e6a7067"}"#);
        assert_eq!(serde_json::from_str::<PlacePath>(&json).expect("a path"), path);
        for wrong in [r#"{"hex":"2f7"}"#, r#"{"hex":"2g"}"#] {
            let error = serde_json::from_str::<PlacePath>(wrong).expect_err(wrong).to_string();
            assert!(error.contains("hexadecimal digits"), "{error}");
        }
    }
}
