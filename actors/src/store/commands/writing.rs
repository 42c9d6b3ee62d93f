//! The admission of a batch that is written in pieces, also if nobody waits for it any more.

use futures_util::{FutureExt as _, TryFutureExt as _, future::BoxFuture};
use tokio::runtime::Handle;

use super::Commands;
use crate::{
    id::{BatchId, Owner},
    store::{
        CommandError,
        rules::admission::{Admission, AdmitMore, Pieces},
    },
};

/// An admission that is being written. Dropped before its end, it continues in a task of its own: the batch
/// would otherwise wait for its last piece until the next start.
pub(super) struct Writing {
    commands: Commands,
    owner: Owner,
    batch: Option<BatchId>,
    pieces: Pieces,
    /// The answer to the newest piece, until it has come.
    answer: Option<Answer>,
    /// Whether the newest piece found the batch cancelled.
    is_cancelled: bool,
    ended: bool,
}

type Answer = BoxFuture<'static, Result<Admission, CommandError>>;

impl Writing {
    /// An admission whose first piece is queued.
    pub(super) fn new(
        commands: Commands,
        owner: Owner,
        batch: Option<BatchId>,
        pieces: Pieces,
        first: Answer,
    ) -> Self {
        // A single piece needs nobody who waits for it.
        let ended = pieces.is_ended();
        Self { commands, owner, batch, pieces, answer: Some(first), is_cancelled: false, ended }
    }

    /// Writes the pieces, and waits for the last one.
    pub(super) async fn finish(mut self) -> Result<(), CommandError> {
        let written = self.write().await;
        self.ended = true;
        written
    }

    async fn write(&mut self) -> Result<(), CommandError> {
        while let Some(answer) = &mut self.answer {
            let admission = answer.await;
            self.answer = None;
            match admission? {
                Admission::Begun { cancelled } => self.is_cancelled = cancelled,
                Admission::Repeated => return Ok(()),
            }
            if let Some(piece) = self.pieces.next() {
                let more = AdmitMore { owner: self.owner.clone(), batch: self.batch, piece };
                let begun = |cancelled| Admission::Begun { cancelled };
                self.answer = Some(self.commands.write(more).map_ok(begun).boxed());
            }
        }
        match self.batch.filter(|_| self.is_cancelled) {
            Some(batch) => self.commands.cancel(self.owner.clone(), batch).await,
            None => Ok(()),
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // Without a runtime the process ends, and the next start ends the admission.
        let (false, Ok(runtime)) = (self.ended, Handle::try_current()) else { return };
        let rest = Self {
            commands: self.commands.clone(),
            owner: self.owner.clone(),
            batch: self.batch,
            pieces: std::mem::take(&mut self.pieces),
            answer: self.answer.take(),
            is_cancelled: self.is_cancelled,
            ended: false,
        };
        runtime.spawn(async move {
            if let Err(error) = rest.finish().await {
                log::warn!("a batch that nobody waits for was not admitted whole: {error}");
            }
        });
    }
}
