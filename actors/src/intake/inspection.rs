//! Reads files in place: their headers, and the hashes of their bytes.

use std::{
    fs::{File, Metadata},
    io::{self, BufReader, Cursor, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use sha2::{Digest as _, Sha256};

use super::{
    admission::{Admission, failure_kind, rejection},
    classify::{refused, unreadable},
};
use crate::{
    media::{self, ErrorKind, VisionSpec},
    upload::FailureKind,
};

/// Bytes of a file that are read together.
const READ_BYTES: usize = 1 << 18;

/// Reads the header and hashes the whole file; a small file is read once for both.
pub(super) fn inspect(
    path: &Path,
    open: fn(&Path) -> io::Result<(File, Metadata)>,
    limits: &media::Limits,
    vision: &VisionSpec,
) -> Result<(media::Inspected, String, u64), Admission> {
    let failed = |error: io::Error| unreadable(path, &error);
    let (mut file, metadata) = open(path).map_err(failed)?;
    let length = metadata.len();
    // The buffer has one byte more than the length, so that a growing file is noticed.
    let mut buffer = Vec::with_capacity((length as usize).saturating_add(1).min(READ_BYTES));
    let fill = |file: &mut File, buffer: &mut Vec<u8>| {
        buffer.clear();
        file.take(buffer.capacity() as u64).read_to_end(buffer)
    };
    fill(&mut file, &mut buffer).map_err(failed)?;
    let inspected = if buffer.len() as u64 == length {
        media::inspect(&mut Cursor::new(&buffer), length, limits, vision)
    } else {
        let inspected = media::inspect(&mut BufReader::new(&mut file), length, limits, vision);
        file.seek(SeekFrom::Start(buffer.len() as u64)).map_err(failed)?;
        inspected
    }
    .map_err(|error| match error.kind {
        ErrorKind::NotMedia => Admission::NotMedia(rejection(FailureKind::Refused, error.message)),
        // Programs mark folders with empty files, such as `.nomedia`.
        ErrorKind::Empty if !media::is_called_media(path) => {
            Admission::NotMedia(rejection(FailureKind::Refused, error.message))
        }
        kind => refused(failure_kind(kind), error.message),
    })?;
    let mut hasher = Sha256::new();
    let mut read = 0;
    while !buffer.is_empty() && read <= length {
        hasher.update(&buffer);
        read += buffer.len() as u64;
        fill(&mut file, &mut buffer).map_err(failed)?;
    }
    if read != length {
        let message = format!("{} is being written; try again when it is whole", path.display());
        return Err(refused(FailureKind::FileChanged, message));
    }
    Ok((inspected, base16ct::lower::encode_string(&hasher.finalize()), length))
}
