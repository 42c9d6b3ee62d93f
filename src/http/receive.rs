//! Receives the files of a multipart body. They are hashed while they are written to disk, and never whole in
//! memory. Files that are not submitted in the end are removed.

use std::collections::VecDeque;

use actix_multipart::{Field, Multipart, MultipartError};
use actix_rt::task::JoinHandle;
use actix_web::{
    HttpMessage as _, HttpRequest,
    error::PayloadError,
    http::header::{self, HeaderMap},
    web::Payload,
};
use futures_util::StreamExt as _;
use mediamill_actors::{
    error::Error,
    id::{Owner, UploadId},
    intake::{
        Source,
        receive::{ReceiveError, Received},
        resumable::{Held, Resumable},
    },
    upload::{Failure, FailureKind, Stage},
};

use super::{Inner, body::Paced, error::Problem, heads::Heads, receiving::OUSTED};

/// Name of the fields with files.
const FIELD: &str = "files";
/// Name of the fields with ids of resumable uploads that become part of the batch.
const RESUMABLE: &str = "resumable";
/// Most other fields, which are ignored.
const MAX_OTHERS: usize = 100;
/// Bytes of headers and boundaries per file, and once more for the rest of the body.
const FRAME_BYTES: u64 = 4096;
/// Longest content of a field with an id, in bytes.
const MAX_ID_BYTES: usize = 100;
/// Longest name of a file in an answer, in characters.
const MAX_NAME_CHARS: usize = 255;
/// Files that are being flushed to disk at once.
const FINISHING: usize = 8;

/// A file of the body, received or refused.
pub(super) struct Arrived {
    pub(super) name: String,
    pub(super) source: Source,
}

/// Receives the files of a request.
pub(super) async fn files(
    inner: &Inner,
    owner: &Owner,
    request: &HttpRequest,
    body: Payload,
) -> Result<(Vec<Arrived>, Vec<Held>), Problem> {
    let place = inner.begin_receiving(owner)?;
    if *inner.stopping.borrow() {
        return Err(Error::Stopping.into());
    }
    check_type(request.headers())?;
    let limits = &inner.limits;
    let max = limits.max_batch_bytes + FRAME_BYTES * (u64::from(limits.max_batch_files) + 1);
    let length = announced(request.headers());
    if length.is_some_and(|length| length > max) {
        return Err(too_long(inner));
    }
    inner.intake.check_queue(owner.clone()).await?;
    inner.intake.check_room(length.unwrap_or_default()).await?;
    let (window, least) = (inner.server.body_timeout, inner.server.min_bytes_per_second);
    let paced = Paced::new(body, max, window, least, Some(place.watch()));
    let boundary = request.mime_type().ok().flatten();
    let boundary = boundary.as_ref().and_then(|it| it.get_param("boundary")).map(|it| it.as_str());
    let Some(boundary) = boundary.filter(|it| !it.is_empty()) else {
        return Err(Problem::malformed("the boundary is missing in Content-Type"));
    };
    let mut fields = Multipart::new(request.headers(), Heads::new(paced, boundary));
    let mut receiver = Receiver {
        inner,
        arrived: Vec::new(),
        finishing: VecDeque::new(),
        held: Vec::new(),
        resumed_bytes: 0,
    };
    let mut others = 0;
    while let Some(field) = fields.next().await {
        let field = field.map_err(|error| unreadable(inner, error))?;
        if field.name() == Some(FIELD) {
            receiver.take(field).await?;
        } else if field.name() == Some(RESUMABLE) {
            receiver.join(owner, field).await?;
        } else {
            check_name(field.name().unwrap_or_default())?;
            others += 1;
            if others > MAX_OTHERS {
                return Err(Problem::invalid(format!(
                    "more than {MAX_OTHERS} fields are not named `{FIELD}`; send files under that name"
                )));
            }
            pass_over(inner, field).await?;
        }
    }
    let (arrived, held) = receiver.all().await?;
    if arrived.is_empty() {
        return Err(Problem::invalid(format!(
            "the body has no file; send one or more under the name `{FIELD}`"
        )));
    }
    Ok((arrived, held))
}

struct Receiver<'a> {
    inner: &'a Inner,
    arrived: Vec<Arrived>,
    /// Complete files that are being flushed to disk, in order.
    finishing: VecDeque<(String, JoinHandle<Result<Received, ReceiveError>>)>,
    /// Resumable uploads of the batch, which nobody else has meanwhile.
    held: Vec<Held>,
    /// Bytes of those.
    resumed_bytes: u64,
}

impl Receiver<'_> {
    /// Receives one file. A refused file does not end the request.
    async fn take(&mut self, mut field: Field) -> Result<(), Problem> {
        self.check_count()?;
        let Some(name) = name_of(&field) else {
            return Err(Problem::invalid(format!(
                "a field `{FIELD}` has no file name; send files with their names"
            )));
        };
        let mut receiving = self.inner.intake.receive(&name).await?;
        while let Some(bytes) = field.next().await {
            let bytes = bytes.map_err(|error| unreadable(self.inner, error))?;
            match receiving.write(&bytes).await {
                Ok(()) => {}
                Err(ReceiveError::Failed(error)) => return Err(error.into()),
                Err(refused) => {
                    drop(receiving);
                    pass_over(self.inner, field).await?;
                    while !self.finishing.is_empty() {
                        self.finish_one().await?;
                    }
                    return self.record(name, Err(refused));
                }
            }
        }
        if self.finishing.len() >= FINISHING {
            self.finish_one().await?;
        }
        // The task continues if this is dropped, and removes the file then.
        self.finishing.push_back((name, actix_rt::spawn(receiving.finish())));
        Ok(())
    }

    fn check_count(&self) -> Result<(), Problem> {
        let limit = self.inner.limits.max_batch_files;
        if self.arrived.len() + self.finishing.len() < limit as usize {
            return Ok(());
        }
        Err(Problem::too_large(format!(
            "a batch has at most {limit} files (limits.max_batch_files); send the others as another batch"
        )))
    }

    /// Takes a complete resumable upload, whose id is the content of the field.
    async fn join(&mut self, owner: &Owner, mut field: Field) -> Result<(), Problem> {
        self.check_count()?;
        let mut text = Vec::new();
        while let Some(bytes) = field.next().await {
            text.extend_from_slice(&bytes.map_err(|error| unreadable(self.inner, error))?);
            if text.len() > MAX_ID_BYTES {
                break;
            }
        }
        let id = std::str::from_utf8(&text).ok().and_then(|it| it.trim().parse::<UploadId>().ok());
        let id = id.ok_or_else(|| {
            Problem::invalid(format!("a field `{RESUMABLE}` does not hold the id of a resumable upload"))
        })?;
        while !self.finishing.is_empty() {
            self.finish_one().await?;
        }
        let resumables = self.inner.intake.resumables();
        // The same id twice would wait for itself.
        if self.arrived.iter().any(|it| matches!(&it.source, Source::Received(it) if it.id() == id)) {
            return Err(Problem::invalid(format!("{id} is named twice")));
        }
        let Resumable { file_name, length, .. } = resumables.get(owner, id).await?;
        self.resumed_bytes = self.resumed_bytes.saturating_add(length);
        if self.resumed_bytes > self.inner.limits.max_batch_bytes {
            return Err(too_long(self.inner));
        }
        match resumables.complete(owner, id).await {
            Ok((received, held)) => {
                self.held.push(held);
                self.record(file_name, Ok(received))
            }
            Err(refused) => self.record(file_name, Err(refused)),
        }
    }

    async fn all(mut self) -> Result<(Vec<Arrived>, Vec<Held>), Problem> {
        while !self.finishing.is_empty() {
            self.finish_one().await?;
        }
        Ok((self.arrived, self.held))
    }

    async fn finish_one(&mut self) -> Result<(), Problem> {
        let Some((name, finishing)) = self.finishing.pop_front() else { return Ok(()) };
        let finished = finishing.await.unwrap_or_else(|_| {
            let message = format!("{name} could not be received; the log says why");
            Err(ReceiveError::Refused(Failure::new(0, Stage::Queued, FailureKind::Panicked, message)))
        });
        self.record(name, finished)
    }

    fn record(&mut self, name: String, finished: Result<Received, ReceiveError>) -> Result<(), Problem> {
        let source = match finished {
            Ok(received) => Source::Received(received),
            Err(ReceiveError::Refused(failure)) => Source::Refused(failure),
            // A fault of the disk is not a fault of the file.
            Err(ReceiveError::Failed(error)) => return Err(error.into()),
        };
        self.arrived.push(Arrived { name, source });
        Ok(())
    }
}

async fn pass_over(inner: &Inner, mut field: Field) -> Result<(), Problem> {
    while let Some(bytes) = field.next().await {
        bytes.map_err(|error| unreadable(inner, error))?;
    }
    Ok(())
}

/// The name that a client gave to a file, truncated if it is long. `None` for a plain text field. Browsers
/// write a quotation mark within it as `%22`.
fn name_of(field: &Field) -> Option<String> {
    let disposition = field.content_disposition()?;
    let name = match disposition.get_filename() {
        Some(name) => name.replace("%22", "\""),
        None => String::from_utf8_lossy(&disposition.get_filename_ext()?.value).into_owned(),
    };
    // The end of a path is its most telling part.
    let cut = name.char_indices().rev().nth(MAX_NAME_CHARS - 1).map_or(0, |(at, _)| at);
    Some(name.get(cut..).unwrap_or_default().to_owned())
}

/// Ignored fields must have plain names; other names are likely mistakes, such as `files[]`.
fn check_name(name: &str) -> Result<(), Problem> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.bytes().all(plain) {
        return Ok(());
    }
    let shown: String = name.chars().take(40).collect();
    Err(Problem::invalid(format!("the body has a field {shown:?}; send files under the name `{FIELD}`")))
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    check_coding(headers)?;
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("multipart/form-data") {
        return Ok(());
    }
    Err(Problem::unsupported(format!(
        "the body is {essence:?}, but must be multipart/form-data with files in it"
    )))
}

/// Bodies are taken as they are.
fn check_coding(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            let coding = String::from_utf8_lossy(coding.as_bytes()).into_owned();
            Err(Problem::unsupported(format!(
                "the body has the Content-Encoding {coding:?}; send it without one"
            )))
        }
        Some(_) | None => Ok(()),
    }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_long(inner: &Inner) -> Problem {
    let max = inner.limits.max_batch_bytes;
    Problem::too_large(format!(
        "a batch has at most {max} bytes (limits.max_batch_bytes); send the files as several batches"
    ))
}

fn unreadable(inner: &Inner, error: MultipartError) -> Problem {
    match error {
        MultipartError::Payload(PayloadError::Overflow) => too_long(inner),
        MultipartError::Payload(PayloadError::Io(error)) if error.kind() == std::io::ErrorKind::TimedOut => {
            Problem::timed_out(format!(
                "the body arrived at less than {} bytes a second (server.min_bytes_per_second) for {} ms; \
                 none of it was kept, \
                 send it again",
                inner.server.min_bytes_per_second,
                inner.server.body_timeout.as_millis()
            ))
        }
        MultipartError::Payload(PayloadError::Io(error))
            if error.kind() == std::io::ErrorKind::ConnectionAborted =>
        {
            Problem::busy(format!("{OUSTED}; none of it was kept, send it again with fewer at once"))
        }
        MultipartError::Payload(PayloadError::Io(error))
            if error.kind() == std::io::ErrorKind::InvalidData =>
        {
            Problem::malformed(error.to_string())
        }
        MultipartError::Payload(_) | MultipartError::Incomplete => {
            Problem::malformed("the body ended before it was complete; none of it was kept, send it again")
        }
        error => Problem::malformed(format!("the body is not valid multipart/form-data: {error}")),
    }
}
