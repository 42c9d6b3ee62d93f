//! Paths as JSON, for `serde(with)`: text, or a list of bytes if the path is not UTF-8.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Raw {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<&Path> for Raw {
    fn from(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Bytes(path.as_os_str().as_encoded_bytes().to_vec()),
        }
    }
}

impl From<Raw> for PathBuf {
    fn from(raw: Raw) -> Self {
        match raw {
            Raw::Text(text) => text.into(),
            Raw::Bytes(bytes) => of_bytes(bytes),
        }
    }
}

/// A path of any bytes.
pub(super) fn of_bytes(bytes: Vec<u8>) -> PathBuf {
    #[cfg(unix)]
    let text = <std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes);
    #[cfg(not(unix))]
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.into()
}

pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    Raw::from(path).serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    Raw::deserialize(deserializer).map(PathBuf::from)
}

/// A path that is itself such JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct RawPath(#[serde(with = "super::raw_path")] pub(super) PathBuf);

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn a_path_of_any_bytes_comes_back_as_it_was() {
        for bytes in [b"/photos/cat.jpg".to_vec(), b"/photos/\xff\xfe\n.jpg".to_vec()] {
            let path = RawPath(std::ffi::OsString::from_vec(bytes).into());
            let json = serde_json::to_string(&path).expect("JSON");
            assert_eq!(serde_json::from_str::<RawPath>(&json).expect("a path"), path, "{json}");
        }
    }
}
