//! The files beside a photo or video that say more about it: XMP sidecars and the JSON of Google Takeout.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::embedded::document;
use super::facts::Facts;
use super::origin::{Origin, Origins};
use super::takeout;
use super::xmp;
use crate::regular_file;

/// Largest sidecar that is read, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// A sidecar, as it was when the facts were read.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sidecar {
    /// Its name, in the folder of the photo or video.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last changed, in milliseconds since 1970.
    pub modified_ms: i64,
}

/// The sidecars of a file, the most important first, without reading them. Those that cannot be reached are
/// left out.
pub fn sidecars(photo: &Path) -> Vec<Sidecar> {
    found(photo).into_iter().map(|(it, _)| it).collect()
}

/// The facts of a file in place together with what its sidecars say. `origins` is what the file itself says.
/// A sidecar that cannot be read is left out.
pub fn facts_beside(mut facts: Facts, origins: &Origins, photo: &Path) -> Facts {
    complete(&mut facts, origins, Some(photo));
    facts
}

/// Writes the origin into facts, with the sidecars of a file if it has a place.
pub(super) fn complete(facts: &mut Facts, origins: &Origins, photo: Option<&Path>) {
    let (mut first, mut last) = (Origin::default(), Origin::default());
    facts.sidecars = Vec::new();
    for (sidecar, path) in photo.map(found).unwrap_or_default() {
        facts.sidecars.push(sidecar);
        let Some(bytes) = contents(&path) else { continue };
        if is_json(&path) {
            let Some(takeout) = takeout::read(&bytes) else { continue };
            last = last.or(takeout);
        } else {
            let Some(document) = document(&bytes) else {
                log::warn!("{}: no facts are read from it, as it is no XMP", path.display());
                continue;
            };
            first = first.or(xmp::origin(&document));
        }
    }
    origins.with(first, last).into_facts(facts);
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "json")
}

fn contents(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    regular_file::open(path).ok()?.0.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The sidecars of a file with their paths. `a.nef.xmp` belongs to that file alone; `a.xmp` to all files with
/// this stem.
fn found(photo: &Path) -> Vec<(Sidecar, PathBuf)> {
    let Some(name) = photo.file_name() else { return Vec::new() };
    let mut paths = Vec::new();
    for ending in [".xmp", ".XMP"] {
        let mut whole = name.to_owned();
        whole.push(ending);
        paths.push(photo.with_file_name(whole));
    }
    paths.extend(["xmp", "XMP"].map(|ending| photo.with_extension(ending)));
    let takeout = name.to_str().map(takeout::names).unwrap_or_default();
    paths.extend(takeout.into_iter().map(|name| photo.with_file_name(name)));
    let mut found: Vec<(Sidecar, PathBuf)> = Vec::new();
    for path in paths {
        let Some(sidecar) = stamp(&path) else { continue };
        // A file system may find the same file by two names.
        let same = |(it, _): &(Sidecar, PathBuf)| it.name.eq_ignore_ascii_case(&sidecar.name);
        // The likeliest name of Takeout's wins.
        let second = is_json(&path) && found.iter().any(|(_, it)| is_json(it));
        if !second && !found.iter().any(same) && path != photo {
            found.push((sidecar, path));
        }
    }
    found
}

fn stamp(path: &Path) -> Option<Sidecar> {
    let metadata = fs::metadata(path).ok().filter(|it| it.is_file() && it.len() <= MAX_BYTES)?;
    let modified = metadata.modified().ok()?;
    let modified_ms = match modified.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_millis() as i64,
        Err(before) => -(before.duration().as_millis() as i64),
    };
    Some(Sidecar {
        name: path.file_name()?.to_string_lossy().into_owned(),
        size: metadata.len(),
        modified_ms,
    })
}
