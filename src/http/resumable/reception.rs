//! Receives the bytes of resumable uploads, and submits complete ones.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use actix_web::{error::PayloadError, web::Payload};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use mediamill_actors::{
    batch_supervisor::SubmitBatch,
    error::Error,
    id::{Owner, UploadId},
    intake::{
        Admission, ReceiveError, Source,
        resumable::{Appending, Resumable},
    },
};

use super::headers::Checksum;
use crate::http::{
    Inner,
    body::Paced,
    error::Problem,
    receiving::{OUSTED, Place},
};

/// Interval at which expired uploads are removed, and refused submissions are tried again.
const FOLLOW_EVERY: Duration = Duration::from_secs(30);

/// Reads the body to its end, or as far as it arrives.
pub(super) async fn receive(
    inner: &Inner,
    mut appending: Appending,
    body: Payload,
    place: &Place,
    mut checksum: Option<Checksum>,
) -> Result<Resumable, Problem> {
    let server = &inner.server;
    let missing = appending.missing();
    let (window, least) = (server.body_timeout, server.min_bytes_per_second);
    let mut paced = Paced::new(body, missing, window, least, Some(place.watch()));
    let mut interrupted = std::pin::pin!(appending.interrupted());
    let mut stopping = inner.stopping.subscribe();
    let broken = loop {
        let next = tokio::select! {
            biased;
            () = &mut interrupted => break Some(Problem::conflict("another request continues this upload")),
            _ = stopping.wait_for(|stopping| *stopping) => break Some(Error::Stopping.into()),
            next = paced.next() => next,
        };
        match next {
            None => break None,
            Some(Ok(bytes)) => {
                if let Some(checksum) = &mut checksum {
                    checksum.update(&bytes);
                }
                appending.write(&bytes, checksum.is_none()).await?;
            }
            Some(Err(PayloadError::Overflow)) => {
                let more = format!("the body has more than the {missing} bytes that are missing");
                return Err(Problem::too_large(more));
            }
            Some(Err(PayloadError::Io(error))) if error.kind() == std::io::ErrorKind::TimedOut => {
                break Some(Problem::timed_out(
                    "the body arrived too slowly (server.min_bytes_per_second); continue where it ended",
                ));
            }
            Some(Err(PayloadError::Io(error))) if error.kind() == std::io::ErrorKind::ConnectionAborted => {
                break Some(Problem::busy(format!("{OUSTED}; continue where it ended")));
            }
            Some(Err(_)) => {
                break Some(Problem::malformed("the body ended early; continue where it ended"));
            }
        }
    };
    // Bytes that cannot be checked are not kept.
    match (broken, checksum) {
        (Some(broken), Some(_)) => Err(broken),
        (Some(broken), None) => {
            appending.finish().await?;
            Err(broken)
        }
        (None, Some(checksum)) => {
            if !checksum.holds() {
                return Err(Problem::checksum_mismatch(
                    "the bytes do not have the checksum of Upload-Checksum, and were not kept; send them again",
                ));
            }
            Ok(appending.finish().await?)
        }
        (None, None) => Ok(appending.finish().await?),
    }
}

/// Submits a complete upload as a batch of its own.
pub(super) async fn submit(inner: &Inner, owner: Owner, id: UploadId) -> Result<(), Problem> {
    let resumables = inner.intake.resumables();
    let (received, held) = match resumables.complete(&owner, id).await {
        Ok(complete) => complete,
        Err(ReceiveError::Refused(failure)) => return Err(Problem::invalid(failure.message)),
        Err(ReceiveError::Failed(error)) => return Err(error.into()),
    };
    let files = vec![Source::Received(received)];
    let submitted = inner.supervisor.send(SubmitBatch { owner, files, force: false }).await??;
    if let (Some(batch), Some(Admission::Accepted(_))) = (submitted.batch_id, submitted.files.first()) {
        resumables.submitted(id, batch).await;
    }
    drop(held);
    Ok(())
}

/// Submits complete uploads whose submission was refused for the moment, and removes expired ones, until the
/// server is dropped.
pub(in crate::http) async fn follow(inner: Weak<Inner>) {
    loop {
        {
            let Some(inner) = inner.upgrade() else { return };
            if let Err(error) = catch_up(&inner).await {
                log::warn!("resumable uploads: {error}");
            }
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

async fn catch_up(inner: &Arc<Inner>) -> Result<(), Error> {
    let resumables = inner.intake.resumables();
    for (owner, id) in resumables.unsubmitted().await? {
        if *inner.stopping.borrow() {
            return Ok(());
        }
        match submit(inner, owner, id).await {
            Ok(()) => log::info!("resumable upload {id} was submitted"),
            Err(problem) => log::warn!("resumable upload {id} cannot be submitted yet: {problem}"),
        }
    }
    match resumables.expire(Timestamp::now()).await? {
        0 => {}
        count => log::info!("{count} resumable uploads have expired"),
    }
    Ok(())
}
