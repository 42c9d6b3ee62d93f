//! Running attempts, and the tokens that prove them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    RunId,
    unit_of_work::{Held, Touches},
};
use crate::{
    id::{BatchId, Owner, UploadId},
    upload::{Stage, Step, Upload},
};

/// A running attempt, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningAttempt {
    /// Owner of the upload.
    pub owner: Owner,
    /// Batch of the upload.
    pub batch_id: BatchId,
    /// Position within the batch, from 0.
    pub position: u32,
    /// The run that works on it.
    pub run: RunId,
    /// Number of the take that began it; 0 in records of older versions.
    #[serde(default)]
    pub take: u64,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Whether its run begins no other attempt beside it.
    pub alone: bool,
    /// When the attempt began.
    #[serde(default)]
    pub began_at: Timestamp,
    /// Its present stage.
    pub stage: Stage,
    /// When that stage began.
    pub since: Timestamp,
}

impl RunningAttempt {
    /// Brings a record up to date with the attempt, whose beginning and stages are stored here
    /// alone until it has a first result.
    pub(crate) fn bring(&self, upload: &mut Upload) {
        if upload.attempt < self.attempt {
            // A record that does not wait was written since, and is newer.
            let _ = upload.apply(Step::Begin, self.began_at);
        }
        upload.stage = self.stage;
    }
}

/// Proves that an attempt is the running one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Token {
    /// The upload.
    pub upload: UploadId,
    /// Number of the attempt.
    pub attempt: u32,
    /// Owner of the upload.
    pub(crate) owner: Owner,
    /// The run that began the attempt.
    pub(crate) run: RunId,
}

impl Token {
    pub(crate) fn of(held: &Held) -> Self {
        let Held { upload, attempt } = held;
        Self { upload: upload.id, attempt: attempt.attempt, owner: upload.owner.clone(), run: attempt.run }
    }

    pub(crate) fn touches(&self) -> Touches {
        Touches::upload(&self.owner, self.upload)
    }
}

/// An attempt that was begun.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The record, with the attempt.
    pub upload: Upload,
    /// The proof of the attempt.
    pub token: Token,
    /// Whether the run begins no other attempt beside it.
    pub alone: bool,
}

impl Begun {
    pub(crate) fn of(held: Held) -> Self {
        Self { token: Token::of(&held), alone: held.attempt.alone, upload: held.upload }
    }
}

/// The outcome of an attempt that did not complete.
#[derive(Debug)]
pub enum AfterAttempt {
    /// The next attempt has begun.
    Retried(Box<Begun>),
    /// The upload is in the queue again.
    Waits,
    /// The upload has failed.
    Ended,
}
