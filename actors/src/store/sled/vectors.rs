//! Vectors as the tree `embeddings` keeps them: raw little-endian f32, cut into pieces that sled
//! keeps in its synced file.

use super::{pages::Pages, records::PIECE};
use crate::{analysis::Identity, id::UploadId};

const NUMBERS: usize = PIECE / 4;

/// Names the space in which vectors can be compared.
pub(super) fn space(by: &Identity) -> String {
    format!("{}:{}:{}", by.provider, by.embedding_model, by.dimensions).replace('/', "_")
}

/// How many pieces a vector of this length has.
pub(super) fn piece_count(length: usize) -> u8 {
    length.div_ceil(NUMBERS).min(255) as u8
}

/// The pieces of a vector with their numbers.
pub(super) fn pieces(vector: &[f32]) -> impl Iterator<Item = (u8, Vec<u8>)> {
    vector.chunks(NUMBERS).enumerate().map(|(piece, numbers)| {
        (piece as u8, numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
    })
}

/// The numbers of a piece; bytes beyond the last whole number are dropped.
pub(super) fn numbers(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number))
}

/// The vectors below a prefix, each with its upload. Pieces of a vector follow each other, so a
/// vector is whole when the next one begins. The first read that fails ends them, and its error
/// is left in `failed`.
pub(super) fn all(
    embeddings: &Pages,
    prefix: &[u8],
    failed: &mut Option<String>,
) -> impl Iterator<Item = (UploadId, Vec<f32>)> {
    let at = prefix.len();
    let mut pieces = embeddings.scan(prefix);
    let mut vector: Option<(UploadId, Vec<f32>)> = None;
    std::iter::from_fn(move || {
        loop {
            let (key, value) = match pieces.next() {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => {
                    *failed = Some(error);
                    return None;
                }
                None => return vector.take(),
            };
            let Some(id) = key.get(at..).and_then(|rest| rest.first_chunk::<16>()) else { continue };
            let id = UploadId::from_bytes(*id);
            match &mut vector {
                Some((of, numbers_of)) if *of == id => numbers_of.extend(numbers(&value)),
                other => {
                    if let Some(whole) = other.replace((id, numbers(&value).collect())) {
                        return Some(whole);
                    }
                }
            }
        }
    })
}
