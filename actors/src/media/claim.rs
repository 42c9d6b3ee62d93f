//! Whether a file is called a photo or a video.

use std::path::Path;

use super::format::Format;

/// Endings of photos and videos in formats that are not known here.
const UNKNOWN: &[&str] = &[
    "ari", "crw", "dcr", "divx", "f4v", "fff", "gpr", "iiq", "insp", "insv", "jp2", "kdc", "lrv", "m2t",
    "mef", "mos", "mpe", "mpo", "mrw", "srf", "x3f",
];
/// Endings of formats that more files of other kinds have: programs, sound, documents.
const AMBIGUOUS: &[&str] = &["ts", "ogg", "dif"];

/// Returns `true` if a file is called a photo or a video by the ending of its name. Hidden files are called
/// nothing: macOS leaves one named `._IMG_1.jpg` beside each photo on disks of other systems.
pub fn is_called_media(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let Some(ending) = path.extension().and_then(|it| it.to_str()).map(str::to_ascii_lowercase) else {
        return false;
    };
    let is_in = |list: &[&str]| list.contains(&ending.as_str());
    !hidden && !is_in(AMBIGUOUS) && (is_in(UNKNOWN) || Format::by_extension(&ending).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_claims_its_ending_in_any_case() {
        for format in Format::ALL {
            let name = format!("a.{}", format.extension());
            assert!(is_called_media(Path::new(&name)), "{name}");
            assert!(is_called_media(Path::new(&name.to_uppercase())), "{name}");
        }
        assert!(is_called_media(Path::new("a.x3f")));
    }

    #[test]
    fn other_names_claim_nothing() {
        for name in ["notes.txt", "._a.jpg", ".nomedia", ".jpg", "jpg", "a.ts", "a.jpg.xmp", "a.", ""] {
            assert!(!is_called_media(Path::new(name)), "{name}");
        }
    }
}
