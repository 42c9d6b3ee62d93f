//! Vectors as the tree `embeddings` keeps them: raw little-endian f32, cut into pieces that sled keeps in its synced file.

use super::draft::PIECE;
use crate::analysis::Identity;

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
