//! The upload: its record, its statuses and stages, and the table of legal steps. Pure.

mod file_ref;
mod step;

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::{
    file_ref::{FileKey, FileRef, Node, PlacePath},
    step::{IllegalStep, Step},
};
use crate::{
    analysis::{
        Identity, Object,
        audit::{self, Language, audit},
    },
    id::{BatchId, Owner, UploadId},
    media::{Facts, Format},
};

/// The status of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = UploadStatus))]
pub enum Status {
    /// It waits for a worker.
    Pending,
    /// A worker prepares and describes it.
    Analyzing,
    /// It has a description, and its embedding is being made.
    Embedding,
    /// Description and embedding are durable.
    Completed,
    /// Two attempts failed, or it interrupted the process too often.
    Failed,
    /// It was cancelled before it ended otherwise.
    Cancelled,
}

impl Status {
    /// Whether nothing more happens to the upload in this round.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Pending | Self::Analyzing | Self::Embedding => false,
            Self::Completed | Self::Failed | Self::Cancelled => true,
        }
    }

    /// Whether a worker has it.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Analyzing | Self::Embedding)
    }

    /// The name in records and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Analyzing => "analyzing",
            Self::Embedding => "embedding",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The stage within a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::VariantArray)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Stage {
    /// The upload waits.
    Queued,
    /// The file is read and decoded; thumbnail and vision input are made.
    ExtractingFrames,
    /// The provider describes it.
    VisionAnalysis,
    /// The description is audited, and asked for again where it failed.
    DescriptionAudit,
    /// The provider embeds the description.
    EmbeddingGeneration,
    /// The results are being written.
    Indexing,
    /// The upload completed.
    Completed,
    /// The upload failed or was cancelled.
    Failed,
}

impl Stage {
    /// The name in records and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::ExtractingFrames => "extracting_frames",
            Self::VisionAnalysis => "vision_analysis",
            Self::DescriptionAudit => "description_audit",
            Self::EmbeddingGeneration => "embedding_generation",
            Self::Indexing => "indexing",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// The attempt failed; two of these end the upload.
    Failed,
    /// The attempt completed.
    Completed,
    /// The provider was away or the process stopped in good order. The attempt does not count.
    HandedBack,
    /// The process died during the attempt.
    Interrupted,
    /// The upload was cancelled or deleted meanwhile.
    GivenUp,
}

/// The kinds of failure, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum FailureKind {
    /// The file is no longer where it was.
    FileMissing,
    /// The bytes of the file are not those that were submitted.
    FileChanged,
    /// The file cannot be read.
    FileUnreadable,
    /// The file cannot be decoded.
    Undecodable,
    /// The file has a format or size that is refused.
    Refused,
    /// The provider gave an invalid answer.
    BadAnswer,
    /// The provider is reachable, but broke on this request.
    ServerFault,
    /// The provider is reachable, but did not answer in time.
    TimedOut,
    /// A call could not connect to the provider although it is reachable, or the provider went
    /// away repeatedly during this upload.
    ProviderAway,
    /// The code panicked.
    Panicked,
    /// The process died each time that this upload ran alone.
    Interrupted,
}

impl FailureKind {
    /// The name in records and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FileMissing => "file_missing",
            Self::FileChanged => "file_changed",
            Self::FileUnreadable => "file_unreadable",
            Self::Undecodable => "undecodable",
            Self::Refused => "refused",
            Self::BadAnswer => "bad_answer",
            Self::ServerFault => "server_fault",
            Self::TimedOut => "timed_out",
            Self::ProviderAway => "provider_away",
            Self::Panicked => "panicked",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Why an attempt failed, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Failure {
    /// Number of the attempt, from 1; 0 for a file that was refused.
    pub attempt: u32,
    /// The stage in which it failed.
    pub stage: Stage,
    /// The kind of failure.
    pub kind: FailureKind,
    /// A sentence that names the file or server, the fault and the remedy; at most 500
    /// characters.
    pub message: String,
}

impl Failure {
    /// Longest message, in characters.
    pub const MAX_CHARS: usize = 500;

    /// A failure whose message is cut at [`Failure::MAX_CHARS`] characters.
    pub fn new(attempt: u32, stage: Stage, kind: FailureKind, message: impl Into<String>) -> Self {
        let mut message: String = message.into();
        if let Some((cut, _)) = message.char_indices().nth(Self::MAX_CHARS) {
            let keep = message[..cut].char_indices().next_back().map_or(0, |(at, _)| at);
            message.truncate(keep);
            message.push('…');
        }
        Self { attempt, stage, kind, message }
    }

    /// The failure as the reason of a later change.
    pub(crate) fn as_reason(&self) -> String {
        format!("attempt {} ended with: {}", self.attempt, self.message)
    }
}

/// One try at an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// Number, from 1; it rises over all rounds.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; `None` while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// How it ended; `None` while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AttemptOutcome>,
}

/// Whether there is a thumbnail.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thumbnail {
    /// Not made yet.
    #[default]
    Pending,
    /// It exists on disk, named by the upload's id.
    Made,
    /// It could not be made and is not tried again; the sentence gives the reason.
    Failed(String),
}

/// A recorded description, and its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The text.
    pub text: String,
    /// Audit score, 0 to 100.
    pub audit_score: u8,
    /// Whether it failed the audit twice, so that a person should review it.
    pub needs_review: bool,
    /// Version of the audit.
    pub audit_version: u32,
    /// The provider and the models that made it.
    pub by: Identity,
    /// Number of requests for it, including earlier attempts.
    pub asked: u32,
    /// The changes to the usual request with their reason, and anything unusual about the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<String>,
    /// When it was recorded.
    pub at: Timestamp,
}

impl Description {
    /// Whether the present audit gives the same verdict, so that a newer version asks for no new description.
    pub fn is_audited_the_same(&self) -> bool {
        self.audit_version == audit::VERSION
            || audit(&self.text, Language::of(&self.by.language)).passed() != self.needs_review
    }
}

/// The failures of an earlier round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRound {
    /// Number of the round, from 1.
    #[serde(alias = "run")]
    pub round: u32,
    /// Its failures.
    pub failures: Vec<Failure>,
    /// How often the process died while the upload ran alone.
    pub interruptions: u32,
}

/// A further file of the shot of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Companion {
    /// Where it is.
    pub path: PlacePath,
    /// Its length in bytes.
    pub file_size: u64,
    /// Its format.
    pub format: Format,
}

impl Companion {
    /// Its name without folders; bytes that are no text are replaced.
    pub fn file_name(&self) -> String {
        self.path.as_path().file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// The record of an upload: everything about it but its vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Upload {
    /// Version of this record's form: 1.
    pub v: u8,
    /// Id of the upload.
    pub id: UploadId,
    /// The batch that it belongs to.
    pub batch_id: BatchId,
    /// Its owner.
    pub owner: Owner,
    /// Position within the batch, from 0.
    pub position: u32,
    /// The file with the bytes.
    pub file: FileRef,
    /// Other paths of the same bytes, at most [`Upload::MAX_ALSO_AT`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_at: Vec<PlacePath>,
    /// Further files of the same shot, which are not described themselves: the video of a Live Photo, or the
    /// raw file beside a JPEG. At most [`Upload::MAX_COMPANIONS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub companions: Vec<Companion>,
    /// The file's name without folders; bytes that are no text are replaced.
    pub file_name: String,
    /// Length in bytes.
    pub file_size: u64,
    /// SHA-256 of the bytes, in hexadecimal digits.
    pub content_hash: String,
    /// Format of the bytes.
    pub format: Format,
    /// Most memory that its decode needs, in bytes.
    pub decode_bytes: u64,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When this record last changed.
    pub updated_at: Timestamp,
    /// The status.
    pub status: Status,
    /// The stage. While an attempt runs, the tree `active` is newer.
    pub stage: Stage,
    /// Number of the round, from 1; each retry of failed uploads begins another.
    #[serde(alias = "run")]
    pub round: u32,
    /// Number of the newest attempt; 0 before the first.
    pub attempt: u32,
    /// The newest attempts, at most [`Upload::MAX_ATTEMPTS`].
    pub attempts: Vec<AttemptRecord>,
    /// Failed attempts of this round, at most two.
    pub failures: Vec<Failure>,
    /// How often the process died while this upload ran alone, in this round.
    pub interruptions: u32,
    /// How often the provider went away during calls for this upload, in this round.
    pub provider_away: u32,
    /// Whether it was in flight when the process died. It then runs alone until an attempt ends
    /// otherwise.
    pub suspect: bool,
    /// Whether there is a thumbnail.
    pub thumbnail: Thumbnail,
    /// Facts that need no model; `None` until it was decoded.
    pub facts: Option<Facts>,
    /// The objects that were found in it.
    pub objects: Vec<Object>,
    /// The description; `None` until one is recorded.
    pub description: Option<Description>,
    /// The provider and the model that made the vector; `None` until the vector is recorded.
    pub embedded_by: Option<Identity>,
    /// The part of the description that was embedded and the reason; `None` if all of it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_changed: Option<String>,
    /// An earlier upload of the same bytes, whose thumbnail and vector are copied if they are
    /// still valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<UploadId>,
    /// An older upload of the same file, which is deleted when this one completes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<UploadId>,
    /// Earlier rounds, the newest last, at most [`Upload::MAX_HISTORY`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<PastRound>,
}

impl Upload {
    /// Failed attempts that end an upload.
    pub const MAX_FAILURES: usize = 2;
    /// Attempts that a record keeps.
    pub const MAX_ATTEMPTS: usize = 8;
    /// Earlier rounds that a record keeps.
    pub const MAX_HISTORY: usize = 4;

    /// Other paths that a record keeps; the bytes at further paths are read again at each
    /// submission.
    pub const MAX_ALSO_AT: usize = 64;

    /// Companions that a record keeps.
    pub const MAX_COMPANIONS: usize = 4;

    /// Whether a path is that of a companion.
    pub fn has_companion(&self, path: &Path) -> bool {
        self.companions.iter().any(|it| it.path.as_path() == path)
    }

    /// The path of a file in place.
    pub fn place(&self) -> Option<&Path> {
        match &self.file {
            FileRef::InPlace { path, .. } => Some(path.as_path()),
            FileRef::Managed(_) => None,
        }
    }

    /// Makes another path that of the file.
    pub(crate) fn move_to(&mut self, path: PlacePath) {
        self.also_at.retain(|it| *it != path);
        if let Some(name) = path.as_path().file_name() {
            self.file_name = name.to_string_lossy().into_owned();
        }
        self.file = FileRef::in_place(path);
    }

    /// Brings a record of an older store format to the present form.
    pub(crate) fn adopt_older_forms(&mut self) {
        if let FileRef::Managed(key) = &mut self.file
            && key.is_older()
        {
            *key = FileKey::original(self.id);
        }
    }

    /// The text of the newest failure.
    pub fn error_message(&self) -> Option<&str> {
        self.failures.last().map(|failure| failure.message.as_str())
    }

    /// Whether `identity` and the present audit would give it the same description.
    pub fn keeps_description(&self, identity: &Identity) -> bool {
        let same = |it: &Description| it.by.describes_like(identity) && it.is_audited_the_same();
        self.description.as_ref().is_some_and(same)
    }

    /// Whether `identity` and the present audit would give it the same description and the same vector.
    pub fn is_described_by(&self, identity: &Identity) -> bool {
        self.keeps_description(identity)
            && self.embedded_by.as_ref().is_some_and(|by| by.embeds_like(identity))
    }
}
