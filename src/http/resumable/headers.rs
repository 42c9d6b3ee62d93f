//! The headers of resumable uploads.

use actix_web::{
    HttpRequest,
    http::header::{HeaderName, HeaderValue},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::http::{error::Problem, heads};

/// The algorithms of checksums.
pub(super) const ALGORITHMS: &str = "sha1,sha256";
/// Longest metadata of an upload, in bytes.
const MAX_METADATA: usize = 4096;

/// The number in a header, if there is one.
pub(super) fn number(request: &HttpRequest, name: &HeaderName) -> Result<Option<u64>, Problem> {
    let Some(value) = request.headers().get(name) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|it| it.parse().ok()) {
        Some(number) => Ok(Some(number)),
        None => Err(Problem::malformed(format!("{name} must be a whole number of bytes"))),
    }
}

/// The wishes of a client in the metadata.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) file_name: String,
    /// It waits for a submission that names it.
    pub(super) waits: bool,
}

impl Wishes {
    pub(super) fn read(metadata: &str) -> Result<Self, Problem> {
        if metadata.len() > MAX_METADATA {
            return Err(Problem::malformed(format!("Upload-Metadata has more than {MAX_METADATA} bytes")));
        }
        let mut wishes = Self { file_name: String::new(), waits: false };
        for pair in metadata.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
            let value = BASE64_STANDARD.decode(value.trim()).map_err(|_| {
                let key: String = key.chars().take(40).collect();
                Problem::malformed(format!("the value of {key:?} in Upload-Metadata is not Base64"))
            })?;
            match key {
                "filename" => wishes.file_name = heads::text(&value),
                "batch" if value == b"later" => wishes.waits = true,
                "batch" => {
                    return Err(Problem::malformed(
                        "`batch` in Upload-Metadata must be `later`; leave it out for a batch of its own",
                    ));
                }
                _ => {}
            }
        }
        Ok(wishes)
    }
}

/// The checksum of a body, and that which it should have.
pub(super) enum Checksum {
    Sha1(Sha1, Vec<u8>),
    Sha256(Sha256, Vec<u8>),
}

impl Checksum {
    pub(super) fn read(value: &HeaderValue) -> Result<Self, Problem> {
        let (algorithm, digest) = value.to_str().ok().and_then(|it| it.split_once(' ')).unwrap_or_default();
        let digest = BASE64_STANDARD.decode(digest.trim());
        match (algorithm, digest) {
            ("sha1", Ok(digest)) => Ok(Self::Sha1(Sha1::new(), digest)),
            ("sha256", Ok(digest)) => Ok(Self::Sha256(Sha256::new(), digest)),
            _ => Err(Problem::malformed(format!(
                "Upload-Checksum must be one of {ALGORITHMS}, a space, and the checksum in Base64"
            ))),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(hasher, _) => hasher.update(bytes),
            Self::Sha256(hasher, _) => hasher.update(bytes),
        }
    }

    pub(super) fn holds(self) -> bool {
        match self {
            Self::Sha1(hasher, wanted) => hasher.finalize()[..] == wanted[..],
            Self::Sha256(hasher, wanted) => hasher.finalize()[..] == wanted[..],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_names_the_file_in_any_coding() {
        let read = |metadata: &str| Wishes::read(metadata).expect("metadata");
        let wishes = |name: &str, waits| Wishes { file_name: name.into(), waits };
        assert_eq!(read(""), wishes("", false));
        assert_eq!(read("filename Y2F0LmpwZw==, filetype aW1hZ2UvanBlZw=="), wishes("cat.jpg", false));
        assert_eq!(read("batch bGF0ZXI=,filename Y2F0LmpwZw==,is_private"), wishes("cat.jpg", true));
        let latin = BASE64_STANDARD.encode(b"F\xe4hre nach \xd6land.jpg");
        assert_eq!(read(&format!("filename {latin}")), wishes("Fähre nach Öland.jpg", false));
        for wrong in ["filename cat.jpg", "batch bm93"] {
            assert!(Wishes::read(wrong).is_err(), "{wrong}");
        }
    }
}
