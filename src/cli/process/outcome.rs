//! The outcome of one file, as `--json` prints it and the summary counts it.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use mediamill_actors::{
    analysis::Object,
    files::Files,
    media::Facts,
    upload::{Failure, Status, Thumbnail, Upload},
};
use serde::{Deserialize, Serialize};

use crate::cli::{list::UploadLine, raw_path, thumbnails};

/// The outcome of a file, one line of `--json`.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct Outcome {
    /// The file, and `path_bytes` if its path is not UTF-8.
    #[serde(flatten, serialize_with = "path_with_bytes", deserialize_with = "path_of_names")]
    pub(super) path: PathBuf,
    /// The file of whose shot this is a further file, which is not described itself.
    #[serde(default, serialize_with = "lossy_or_null", skip_serializing_if = "Option::is_none")]
    companion_of: Option<PathBuf>,
    pub(super) status: OutcomeStatus,
    /// An earlier run completed it.
    pub(super) skipped: bool,
    description: Option<String>,
    objects: Vec<Object>,
    facts: Option<Facts>,
    audit_score: Option<u8>,
    pub(super) needs_review: bool,
    /// Absolute path of the thumbnail.
    #[serde(serialize_with = "lossy_or_null")]
    thumbnail: Option<PathBuf>,
    /// Why the thumbnail could not be made.
    thumbnail_failure: Option<String>,
    pub(super) failure: Option<Vec<Failure>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum OutcomeStatus {
    Completed,
    Failed,
    Refused,
    Cancelled,
    Pending,
}

impl From<Status> for OutcomeStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Completed => Self::Completed,
            Status::Failed => Self::Failed,
            Status::Cancelled => Self::Cancelled,
            Status::Pending | Status::Analyzing | Status::Embedding => Self::Pending,
        }
    }
}

impl Outcome {
    /// The outcome of an upload. `at` is the path of the file in this run, if it differs from the record.
    pub(super) fn of(upload: &Upload, files: &Files, at: Option<&Path>, skipped: bool) -> Self {
        let path = at.or(upload.place()).map_or_else(|| PathBuf::from(&upload.file_name), Path::to_owned);
        let (thumbnail, thumbnail_failure) = match &upload.thumbnail {
            Thumbnail::Made => (Some(thumbnails::path(files, upload.id)), None),
            Thumbnail::Pending => (None, None),
            Thumbnail::Failed(message) => (None, Some(message.clone())),
        };
        let description = upload.description.as_ref();
        Self {
            path,
            companion_of: None,
            status: upload.status.into(),
            skipped,
            description: description.map(|it| it.text.clone()),
            objects: upload.objects.clone(),
            facts: upload.facts.clone(),
            audit_score: description.map(|it| it.audit_score),
            needs_review: description.is_some_and(|it| it.needs_review),
            thumbnail,
            thumbnail_failure,
            failure: (!upload.failures.is_empty()).then(|| upload.failures.clone()),
        }
    }

    /// The outcome of a refused file.
    pub(super) fn refused(path: PathBuf, failure: Failure) -> Self {
        Self { status: OutcomeStatus::Refused, failure: Some(vec![failure]), ..Self::pending(path) }
    }

    /// The outcome of a companion: that of the upload.
    pub(super) fn companion(path: PathBuf, of: PathBuf, (status, skipped): (OutcomeStatus, bool)) -> Self {
        Self { companion_of: Some(of), status, skipped, ..Self::pending(path) }
    }

    /// The outcome of a file that is left for the next run.
    pub(super) fn pending(path: PathBuf) -> Self {
        Self {
            path,
            companion_of: None,
            status: OutcomeStatus::Pending,
            skipped: false,
            description: None,
            objects: Vec::new(),
            facts: None,
            audit_score: None,
            needs_review: false,
            thumbnail: None,
            thumbnail_failure: None,
            failure: None,
        }
    }

    /// The outcome of a file that was sent to a server.
    pub(super) fn of_server(path: PathBuf, status: OutcomeStatus, upload: UploadLine) -> Self {
        Self {
            status,
            description: upload.description,
            audit_score: upload.description_audit_score,
            needs_review: upload.needs_review,
            failure: (status == OutcomeStatus::Failed).then_some(upload.failures),
            ..Self::pending(path)
        }
    }

    /// Why it failed or was refused, in one sentence.
    pub(super) fn reason(&self) -> &str {
        self.failure.as_ref().and_then(|all| all.last()).map_or("", |failure| failure.message.as_str())
    }

    /// Its description.
    pub(super) fn text(&self) -> &str {
        self.description.as_deref().unwrap_or_default()
    }
}

/// A path in JSON: text with replacements where it is not UTF-8, and then its bytes in hexadecimal digits.
#[derive(Serialize, Deserialize)]
struct Names<'a> {
    path: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
}

fn path_with_bytes<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    let bytes = path.as_os_str().as_encoded_bytes();
    let path_bytes = path.to_str().is_none().then(|| base16ct::lower::encode_string(bytes));
    Names { path: path.to_string_lossy(), path_bytes }.serialize(serializer)
}

fn path_of_names<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let Names { path, path_bytes } = Names::deserialize(deserializer)?;
    let bytes = path_bytes.and_then(|bytes| base16ct::lower::decode_vec(bytes).ok());
    Ok(match bytes {
        Some(bytes) => raw_path::of_bytes(bytes),
        None => path.into_owned().into(),
    })
}

fn lossy<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

fn lossy_or_null<S: serde::Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => lossy(path, serializer),
        None => serializer.serialize_none(),
    }
}
