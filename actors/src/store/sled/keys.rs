//! Keys of the trees: their layout, in which the order of bytes is the order of the records, and
//! their form in a dump.
//!
//! Numbers are big-endian. An owner's text follows its length, so that no owner's keys are a
//! prefix of another's.

use sha2::{Digest as _, Sha256};

use crate::{
    id::{BatchId, Owner, UploadId},
    store::RunId,
    upload::PlacePath,
};

/// The trees, in the order of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Tree {
    Active,
    Batches,
    Changes,
    Embeddings,
    Events,
    Hashes,
    LateThumbnails,
    Meta,
    OwnerBatches,
    Places,
    Removals,
    Runs,
    UploadIds,
    Uploads,
    Work,
}

impl Tree {
    pub(super) const ALL: [Self; 15] = [
        Self::Active,
        Self::Batches,
        Self::Changes,
        Self::Embeddings,
        Self::Events,
        Self::Hashes,
        Self::LateThumbnails,
        Self::Meta,
        Self::OwnerBatches,
        Self::Places,
        Self::Removals,
        Self::Runs,
        Self::UploadIds,
        Self::Uploads,
        Self::Work,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Batches => "batches",
            Self::Changes => "changes",
            Self::Embeddings => "embeddings",
            Self::Events => "events",
            Self::Hashes => "hashes",
            Self::LateThumbnails => "late_thumbnails",
            Self::Meta => "meta",
            Self::OwnerBatches => "owner_batches",
            Self::Places => "places",
            Self::Removals => "removals",
            Self::Runs => "runs",
            Self::UploadIds => "upload_ids",
            Self::Uploads => "uploads",
            Self::Work => "work",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tree| tree.name() == name)
    }
}

pub(super) const FORMAT: &[u8] = b"format";
pub(super) const NEXT_BATCH: &[u8] = b"next_batch";
/// Key in the tree `meta` that exists while a dump is being restored.
pub(super) const RESTORING: &[u8] = b"restoring";
/// Key in the tree `meta` of the provider's state in formats 1 to 3; since format 4 the record of
/// a run has it.
pub(super) const PROVIDER: &[u8] = b"provider";

/// A number in a key: eight bytes, big-endian.
pub(super) fn number(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// Tree `uploads`: batch, position.
pub(super) fn upload(batch: BatchId, position: u32) -> [u8; 20] {
    let mut key = [0; 20];
    key[..16].copy_from_slice(batch.as_bytes());
    key[16..].copy_from_slice(&position.to_be_bytes());
    key
}

/// Whether a key of `uploads` is that of a record; the other keys are those of further pieces of
/// long records.
pub(super) fn is_record(key: &[u8]) -> bool {
    key.len() == 20
}

/// Tree `work`: number of the batch, position.
pub(super) fn work(batch_number: u64, position: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&batch_number.to_be_bytes());
    key[8..].copy_from_slice(&position.to_be_bytes());
    key
}

/// The batch number and the position of a key of `work`.
pub(super) fn work_of(key: &[u8]) -> Option<(u64, u32)> {
    let (number, position) = (key.first_chunk::<8>()?, key.last_chunk::<4>()?);
    Some((u64::from_be_bytes(*number), u32::from_be_bytes(*position)))
}

/// Tree `runs`: the number of the run.
pub(super) fn run(run: RunId) -> [u8; 8] {
    number(run.0)
}

/// The run of a key of `runs`.
pub(super) fn run_of(key: &[u8]) -> Option<RunId> {
    trailing_number(key).map(RunId)
}

/// A path as a digest: the SHA-256 of its bytes.
pub(super) fn path_digest(path: &PlacePath) -> [u8; 32] {
    Sha256::digest(path.as_path().as_os_str().as_encoded_bytes()).into()
}

/// The beginning of an owner's keys.
pub(super) fn owner(owner: &Owner) -> Vec<u8> {
    with_length(Vec::new(), owner.as_str())
}

fn with_length(mut key: Vec<u8>, text: &str) -> Vec<u8> {
    // An owner has at most 128 characters of at most four bytes, so two bytes hold every length.
    key.extend_from_slice(&(text.len() as u16).to_be_bytes());
    key.extend_from_slice(text.as_bytes());
    key
}

/// Tree `owner_batches`: owner, newest batch first.
pub(super) fn owner_batch(of: &Owner, batch_number: u64) -> Vec<u8> {
    let mut key = owner(of);
    key.extend_from_slice(&(!batch_number).to_be_bytes());
    key
}

/// Tree `events`: owner, number.
pub(super) fn event(of: &Owner, seq: u64) -> Vec<u8> {
    let mut key = owner(of);
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

/// Trees `hashes` and `places`: owner, SHA-256.
pub(super) fn digest(of: &Owner, digest: &[u8; 32]) -> Vec<u8> {
    let mut key = owner(of);
    key.extend_from_slice(digest);
    key
}

/// Tree `embeddings`: the beginning of all vectors of an owner in one space.
pub(super) fn space(of: &Owner, space: &str) -> Vec<u8> {
    with_length(owner(of), space)
}

/// Tree `embeddings`: owner, space, upload, piece.
pub(super) fn embedding(of: &Owner, space_name: &str, upload: UploadId, piece: u8) -> Vec<u8> {
    let mut key = space(of, space_name);
    key.extend_from_slice(upload.as_bytes());
    key.push(piece);
    key
}

/// The last eight bytes of a key as a number.
pub(super) fn trailing_number(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

/// A key as text: parts are divided by `/`, and numbers are padded so that they sort.
pub(super) fn to_text(tree: Tree, key: &[u8]) -> Option<String> {
    let mut rest = Cursor(key);
    let text = match tree {
        Tree::Active | Tree::UploadIds | Tree::LateThumbnails | Tree::Removals => rest.upload()?.to_string(),
        Tree::Batches => rest.batch()?.to_string(),
        Tree::Runs => RunId(rest.u64()?).to_string(),
        Tree::Changes => format!("{:020}", rest.u64()?),
        Tree::Events => format!("{}/{:020}", rest.text()?, rest.u64()?),
        Tree::OwnerBatches => format!("{}/{:020}", rest.text()?, !rest.u64()?),
        Tree::Hashes | Tree::Places => {
            let owner = rest.text()?;
            format!("{owner}/{}", base16ct::lower::encode_string(rest.take(32)?))
        }
        Tree::Meta => String::from_utf8(rest.take(rest.0.len())?.to_vec()).ok()?,
        Tree::Uploads => format!("{}/{:010}", rest.batch()?, rest.u32()?),
        Tree::Work => format!("{:020}/{:010}", rest.u64()?, rest.u32()?),
        Tree::Embeddings => {
            let (owner, space) = (rest.text()?, rest.text()?);
            format!("{owner}/{space}/{}/{:03}", rest.upload()?, rest.take(1)?[0])
        }
    };
    rest.0.is_empty().then_some(text)
}

/// The key that a dump wrote as `text`.
pub(super) fn from_text(tree: Tree, text: &str) -> Option<Vec<u8>> {
    // An owner may hold a slash, so parts are taken from the end.
    let owner_and = |text: &str| text.rsplit_once('/').map(|(a, b)| (a.to_owned(), b.to_owned()));
    Some(match tree {
        Tree::Active | Tree::UploadIds | Tree::LateThumbnails | Tree::Removals => {
            text.parse::<UploadId>().ok()?.as_bytes().to_vec()
        }
        Tree::Batches => text.parse::<BatchId>().ok()?.as_bytes().to_vec(),
        Tree::Runs => number(u64::from_str_radix(text, 16).ok()?).to_vec(),
        Tree::Changes => number(text.parse().ok()?).to_vec(),
        Tree::Events => {
            let (owner, seq) = owner_and(text)?;
            event(&Owner::new(owner).ok()?, seq.parse().ok()?)
        }
        Tree::OwnerBatches => {
            let (owner, batch) = owner_and(text)?;
            owner_batch(&Owner::new(owner).ok()?, batch.parse().ok()?)
        }
        Tree::Hashes | Tree::Places => {
            let (owner, hash) = owner_and(text)?;
            digest(&Owner::new(owner).ok()?, &unhex(&hash)?)
        }
        Tree::Meta => text.as_bytes().to_vec(),
        Tree::Uploads => {
            let (batch, position) = text.split_once('/')?;
            upload(batch.parse().ok()?, position.parse().ok()?).to_vec()
        }
        Tree::Work => {
            let (batch, position) = owner_and(text)?;
            work(batch.parse().ok()?, position.parse().ok()?).to_vec()
        }
        Tree::Embeddings => {
            let (rest, piece) = owner_and(text)?;
            let (rest, upload) = owner_and(&rest)?;
            let (owner, space) = owner_and(&rest)?;
            embedding(&Owner::new(owner).ok()?, &space, upload.parse().ok()?, piece.parse().ok()?)
        }
    })
}

/// Thirty-two bytes from their hexadecimal digits.
pub(super) fn unhex(text: &str) -> Option<[u8; 32]> {
    base16ct::mixed::decode_vec(text).ok()?.try_into().ok()
}

/// The part of a key that is not read yet.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn upload(&mut self) -> Option<UploadId> {
        self.array().map(UploadId::from_bytes)
    }

    fn batch(&mut self) -> Option<BatchId> {
        self.array().map(BatchId::from_bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = u16::from_be_bytes(self.array()?);
        std::str::from_utf8(self.take(length.into())?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_comes_back_from_its_text() {
        let (batch, id) = (BatchId::generate(), UploadId::generate());
        let who = Owner::new("a/b ü").expect("valid");
        for (tree, key) in [
            (Tree::Active, id.as_bytes().to_vec()),
            (Tree::Batches, batch.as_bytes().to_vec()),
            (Tree::Changes, number(7).to_vec()),
            (Tree::Embeddings, embedding(&who, "builtin:hashed-words-1:512", id, 3)),
            (Tree::Events, event(&who, 1 << 40)),
            (Tree::Hashes, digest(&who, &[7; 32])),
            (Tree::Meta, FORMAT.to_vec()),
            (Tree::OwnerBatches, owner_batch(&who, 12)),
            (Tree::Places, digest(&who, &[0xab; 32])),
            (Tree::Removals, id.as_bytes().to_vec()),
            (Tree::Runs, run(RunId(7 << 60)).to_vec()),
            (Tree::UploadIds, id.as_bytes().to_vec()),
            (Tree::Uploads, upload(batch, 12).to_vec()),
            (Tree::Work, work(3, 9).to_vec()),
        ] {
            let text = to_text(tree, &key).expect("text");
            assert_eq!(from_text(tree, &text), Some(key), "{tree:?} {text}");
        }
    }

    #[test]
    fn keys_order_as_their_numbers_do() {
        let who = Owner::local();
        assert!(event(&who, 255) < event(&who, 256));
        assert!(work(1, 70_000) < work(2, 0));
        assert!(owner_batch(&who, 2) < owner_batch(&who, 1), "newest first");
    }
}
