//! The ICC profile of a JPEG, which is cut into segments of 64 KiB.

use super::icc::{BROKEN, MAX_PROFILE_BYTES, too_large};

/// Joins the parts of the profile, which are the contents of segments APP2. Returns `None` if there are none.
///
/// # Errors
/// The note about a profile of which a part is missing, or that is too large.
pub(in crate::media) fn profile<'a>(
    segments: impl Iterator<Item = &'a [u8]>,
) -> Option<Result<Vec<u8>, String>> {
    let mut parts: Vec<(u8, &[u8])> = Vec::new();
    let mut total = None;
    for body in segments {
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
