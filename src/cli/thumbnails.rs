//! The paths of thumbnails: the only place of the command line that looks into the files of the engine.

use std::{fs, path::PathBuf};

use mediamill_actors::{config::Config, files::Files, id::UploadId, upload::FileKey};

/// The path of the thumbnail of an upload.
pub(super) fn path(files: &Files, id: UploadId) -> PathBuf {
    files.local_path(&FileKey::thumbnail(id))
}

/// The uploads whose thumbnail does not exist, or is not a whole JPEG.
pub(super) fn faulty(config: &Config, ids: &[UploadId]) -> Vec<String> {
    let files = Files::new(&config.store.data_dir);
    let is_whole = |id: &UploadId| fs::read(path(&files, *id)).is_ok_and(|bytes| is_whole(&bytes));
    ids.iter().filter(|id| !is_whole(id)).map(UploadId::to_string).collect()
}

/// Whether bytes are a JPEG from its first to its last marker whose segments make sense. Pixels are not
/// decoded, which would take an hour for a million thumbnails.
fn is_whole(jpeg: &[u8]) -> bool {
    let Some(mut rest) = jpeg.strip_prefix(b"\xff\xd8").and_then(|it| it.strip_suffix(b"\xff\xd9")) else {
        return false;
    };
    let mut has_frame = false;
    loop {
        let [0xff, marker, high, low, ..] = *rest else { return false };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some(after) = rest.get(2 + length..).filter(|_| length >= 2) else { return false };
        match marker {
            0xc0..=0xc2 => has_frame = true,
            0xc4 | 0xdb | 0xdd | 0xe0..=0xef | 0xfe => {}
            // A start of scan: in its data, a marker is at most a restart.
            0xda => {
                let mut pairs = after.windows(2).filter(|pair| pair[0] == 0xff);
                return has_frame
                    && !after.is_empty()
                    && pairs.all(|pair| matches!(pair[1], 0 | 0xd0..=0xd7));
            }
            _ => return false,
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_emptied_or_flipped_thumbnail_is_not_whole() {
        let picture = image::RgbImage::from_fn(64, 48, |x, y| image::Rgb([x as u8 * 4, y as u8 * 5, 9]));
        let mut jpeg = Vec::new();
        let encoder = image::codecs::jpeg::JpegEncoder::new(&mut jpeg);
        picture.write_with_encoder(encoder).expect("encoded");
        assert!(is_whole(&jpeg));
        for end in 0..jpeg.len() {
            assert!(!is_whole(&jpeg[..end]), "cut at {end}");
        }
        // Flips of a marker are found. One within the pixels may give another picture.
        for at in (0..6).chain(jpeg.len() - 2..jpeg.len()) {
            let mut flipped = jpeg.clone();
            flipped[at] ^= 0x55;
            assert!(!is_whole(&flipped), "flipped at {at}");
        }
    }
}
