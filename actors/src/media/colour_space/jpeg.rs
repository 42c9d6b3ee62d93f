//! The ICC profile of a JPEG, which is cut into segments of 64 KiB.

use super::icc::{BROKEN, MAX_PROFILE_BYTES, too_large};
use crate::media::bytes::be16;

/// Joins the parts of the profile. Returns `None` if the file has none.
///
/// # Errors
/// The note about a profile of which a part is missing, or that is too large.
pub(in crate::media) fn profile(bytes: &[u8]) -> Option<Result<Vec<u8>, String>> {
    let mut parts: Vec<(u8, &[u8])> = Vec::new();
    let mut total = None;
    for body in segments(bytes) {
        let Some([number, count, part @ ..]) = body.strip_prefix(b"ICC_PROFILE\0") else { continue };
        // The first of equal numbers counts.
        if !parts.iter().any(|(it, _)| it == number) {
            parts.push((*number, part));
        }
        total.get_or_insert(*count);
    }
    let total = total?;
    parts.sort_by_key(|(number, _)| *number);
    let complete = parts.iter().map(|(number, _)| *number).eq(1..=total);
    if !complete {
        return Some(Err(BROKEN.into()));
    }
    let length = parts.iter().map(|(_, part)| part.len()).sum::<usize>();
    if length > MAX_PROFILE_BYTES {
        return Some(Err(too_large(length)));
    }
    Some(Ok(parts.into_iter().flat_map(|(_, part)| part).copied().collect()))
}

/// The contents of the segments APP2 before the picture's data.
fn segments(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = 2;
    std::iter::from_fn(move || {
        loop {
            match (*bytes.get(at)?, *bytes.get(at + 1)?) {
                // Fill bytes may precede a marker, and old encoders leave a stray byte between segments.
                (0xff, 0xff) | (0..0xff, _) => at += 1,
                (0xff, 0xd8 | 0x01 | 0xd0..=0xd7) => at += 2,
                (0xff, 0xd9 | 0xda) => return None,
                (_, marker) => {
                    let end = at + 2 + usize::from(be16(bytes, at + 2)?.max(2));
                    let body = bytes.get(at + 4..end);
                    at = end;
                    if marker == 0xe2 {
                        return body;
                    }
                }
            }
        }
    })
}
