//! References to the bytes of an upload.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::id::UploadId;

/// Where the bytes of an upload are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", from = "AnyForm")]
pub enum FileRef {
    /// A file of the owner's that is only read, never changed.
    InPlace {
        /// The machine that has the file.
        #[serde(skip_serializing_if = "Node::is_local")]
        node: Node,
        /// Its path there.
        path: PlacePath,
    },
    /// A copy in mediamill's own files: see [`Files`](crate::files::Files).
    Managed(FileKey),
}

impl FileRef {
    /// A file in place on this machine.
    pub fn in_place(path: PlacePath) -> Self {
        Self::InPlace { node: Node::default(), path }
    }
}

/// The name of a machine; `local` while there is one machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Node(String);

impl Node {
    fn is_local(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Node {
    fn default() -> Self {
        Self("local".into())
    }
}

/// The name of a managed file. Only [`Files`](crate::files::Files) knows where a key is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileKey(String);

impl FileKey {
    /// The copy of an uploaded file.
    pub fn original(id: UploadId) -> Self {
        Self(format!("originals/{id}"))
    }

    /// The thumbnail of an upload.
    pub fn thumbnail(id: UploadId) -> Self {
        Self(format!("thumbnails/{id}"))
    }

    /// The kind of file, and the rest of the key.
    pub(crate) fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or(("originals", &self.0))
    }

    /// The key of a record of the store formats 1 to 3, until the record's id is known.
    fn older() -> Self {
        Self(String::new())
    }

    pub(crate) fn is_older(&self) -> bool {
        self.0.is_empty()
    }
}

/// A reference in records of all versions.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum AnyForm {
    InPlace(InPlace),
    Managed(FileKey),
    /// Formats 1 to 3.
    Stored,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum InPlace {
    On {
        #[serde(default)]
        node: Node,
        path: PlacePath,
    },
    /// Formats 1 to 3.
    Path(PlacePath),
}

impl From<AnyForm> for FileRef {
    fn from(form: AnyForm) -> Self {
        match form {
            AnyForm::InPlace(InPlace::On { node, path }) => Self::InPlace { node, path },
            AnyForm::InPlace(InPlace::Path(path)) => Self::in_place(path),
            AnyForm::Managed(key) => Self::Managed(key),
            AnyForm::Stored => Self::Managed(FileKey::older()),
        }
    }
}

/// An absolute path, kept without loss even if it is not UTF-8.
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

/// A path as JSON: text, or the hexadecimal digits of its bytes where they are not UTF-8.
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
    Err("this path is not UTF-8, and only systems like Unix have such paths")
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn references_of_every_version_are_read_and_a_local_node_is_not_written() {
        let path = PlacePath::new("/photos/cat.jpg");
        let read = |json: &str| serde_json::from_str::<FileRef>(json).expect(json);
        assert_eq!(read(r#"{"in_place":"/photos/cat.jpg"}"#), FileRef::in_place(path.clone()));
        let elsewhere = FileRef::InPlace { node: Node("other".into()), path: path.clone() };
        let managed = FileRef::Managed(FileKey::original(UploadId::generate()));
        for (file, node) in [(FileRef::in_place(path), false), (elsewhere, true), (managed, false)] {
            let json = serde_json::to_string(&file).expect("JSON");
            assert_eq!((read(&json), json.contains("node")), (file, node), "{json}");
        }
        assert!(matches!(read(r#""stored""#), FileRef::Managed(key) if key.is_older()));
    }

    #[test]
    fn a_path_that_is_not_utf_8_comes_back_from_json_and_one_with_wrong_digits_is_refused() {
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
