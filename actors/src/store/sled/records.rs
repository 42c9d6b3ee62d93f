//! Records as bytes: JSON, in pieces where sled would put a long value into a file that it never syncs.

use serde::de::DeserializeOwned;
use sled::IVec;

use super::pages::Read;
use crate::upload::Upload;

/// Longest value that sled keeps in its synced file, in bytes; longer ones are cut into pieces.
pub(super) const PIECE: usize = 8 * 1024;

/// A record, from its JSON.
pub(super) fn decode<T: DeserializeOwned>(value: &[u8]) -> Read<T> {
    serde_json::from_slice(value).map_err(|error| format!("a record cannot be read: {error}"))
}

/// The record of an upload, from its JSON of this or an older version.
pub(super) fn decode_upload(value: &[u8]) -> Read<Upload> {
    let mut upload: Upload = decode(value)?;
    upload.adopt_older_forms();
    Ok(upload)
}

/// The bytes of a record, put together from its pieces, and how many pieces there are.
pub(super) fn assemble(key: &[u8], get: impl Fn(&[u8]) -> Read<Option<IVec>>) -> Read<Option<(IVec, usize)>> {
    let Some(first) = get(key)? else { return Ok(None) };
    if first.len() < PIECE {
        return Ok(Some((first, 1)));
    }
    let mut record = first.to_vec();
    let mut pieces = 1;
    while record.len() == pieces * PIECE {
        let Some(more) = get(&piece_key(key, pieces))? else { break };
        record.extend_from_slice(&more);
        pieces += 1;
    }
    Ok(Some((record.into(), pieces)))
}

/// A record as entries: one entry, or several if it is long.
pub(super) fn cut<'a>(key: &'a [u8], record: &'a [u8]) -> impl Iterator<Item = (Vec<u8>, &'a [u8])> {
    // A last piece that is exactly full is followed by an empty one, so that the length of a piece
    // marks the end.
    (0..record.len() / PIECE + 1).map(move |piece| {
        let key = if piece == 0 { key.to_vec() } else { piece_key(key, piece) };
        (key, &record[piece * PIECE..record.len().min((piece + 1) * PIECE)])
    })
}

/// The key of a further piece of a long record.
pub(super) fn piece_key(key: &[u8], piece: usize) -> Vec<u8> {
    let mut key = key.to_vec();
    key.push(piece as u8);
    key
}
