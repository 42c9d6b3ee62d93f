//! Steps: the changes of an upload's record.

use jiff::Timestamp;

use super::{
    AttemptOutcome, AttemptRecord, Description, Failure, FailureKind, PastRound, Stage, Status, Thumbnail,
    Upload,
};
use crate::{
    analysis::{Identity, Object},
    media::Facts,
};

/// A change of an upload's record. A record changes in no other way.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A worker begins the next attempt.
    Begin,
    /// The decode has given a thumbnail and facts.
    Prepare {
        /// Whether there is a thumbnail now.
        thumbnail: Thumbnail,
        /// Facts that need no model.
        facts: Facts,
    },
    /// A description is recorded.
    Describe {
        /// The description.
        description: Description,
        /// The objects that were found.
        objects: Vec<Object>,
    },
    /// The description of an earlier attempt is still valid; its embedding is next.
    Embed,
    /// The vector is recorded; the upload completes.
    Complete {
        /// The provider and the model that made the vector.
        by: Identity,
        /// The part of the description that was embedded and the reason; `None` if all of it was.
        changed: Option<String>,
    },
    /// The thumbnail of a completed upload was made, or cannot be made.
    MakeThumbnail(Thumbnail),
    /// The attempt failed.
    Fail(Failure),
    /// The attempt does not count.
    HandBack {
        /// Whether the provider went away during a call for this upload.
        provider_went_away: bool,
    },
    /// The process died during the attempt.
    Interrupt {
        /// Whether the upload ran alone.
        alone: bool,
        /// Interruptions while alone that end the upload; 0 for no limit.
        limit: u32,
    },
    /// The upload is cancelled.
    Cancel,
    /// A new round begins for a failed upload.
    Retry {
        /// Number of the round.
        round: u32,
    },
}

/// A step that the record's status does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IllegalStep {
    /// The status of the upload.
    pub from: Status,
}

impl Upload {
    /// Takes one step.
    ///
    /// # Errors
    /// [`IllegalStep`] if the status does not allow it; the record is unchanged then.
    pub fn apply(&mut self, step: Step, now: Timestamp) -> Result<(), IllegalStep> {
        let illegal = IllegalStep { from: self.status };
        let to = |status: Status, allowed: bool| if allowed { Ok(status) } else { Err(illegal) };
        let from = self.status;
        match step {
            Step::Begin => {
                self.status = to(Status::Analyzing, from == Status::Pending)?;
                self.stage = Stage::ExtractingFrames;
                self.attempt += 1;
                if self.attempts.len() == Self::MAX_ATTEMPTS {
                    self.attempts.remove(0);
                }
                self.attempts.push(AttemptRecord {
                    number: self.attempt,
                    started_at: now,
                    ended_at: None,
                    outcome: None,
                });
            }
            Step::Prepare { thumbnail, facts } => {
                to(from, from.is_active())?;
                self.stage = Stage::VisionAnalysis;
                self.thumbnail = thumbnail;
                self.facts = Some(facts);
            }
            Step::Describe { description, objects } => {
                self.status = to(Status::Embedding, from == Status::Analyzing)?;
                self.stage = Stage::EmbeddingGeneration;
                self.description = Some(description);
                self.objects = objects;
            }
            Step::Embed => {
                self.status = to(Status::Embedding, from == Status::Analyzing && self.description.is_some())?;
                self.stage = Stage::EmbeddingGeneration;
            }
            Step::Complete { by, changed } => {
                self.status = to(Status::Completed, from == Status::Embedding)?;
                self.stage = Stage::Completed;
                self.embedded_by = Some(by);
                self.embedding_changed = changed;
                self.end_attempt(AttemptOutcome::Completed, now);
            }
            Step::MakeThumbnail(thumbnail) => {
                to(from, from == Status::Completed)?;
                self.thumbnail = thumbnail;
            }
            Step::Fail(failure) => {
                to(from, from.is_active())?;
                self.failures.push(failure);
                self.end_attempt(AttemptOutcome::Failed, now);
                self.rest_or_fail(self.failures.len() >= Self::MAX_FAILURES);
            }
            Step::HandBack { provider_went_away } => {
                to(from, from.is_active())?;
                self.provider_away += u32::from(provider_went_away);
                let suspect = self.suspect;
                self.end_attempt(AttemptOutcome::HandedBack, now);
                self.suspect = suspect;
                self.rest_or_fail(false);
            }
            Step::Interrupt { alone, limit } => {
                to(from, from.is_active())?;
                self.interruptions += u32::from(alone);
                self.end_attempt(AttemptOutcome::Interrupted, now);
                self.suspect = true;
                let hopeless = limit > 0 && self.interruptions >= limit;
                if hopeless {
                    self.suspect = false;
                    self.failures.push(Failure::new(
                        self.attempt,
                        Stage::ExtractingFrames,
                        FailureKind::Interrupted,
                        format!(
                            "the process died {} times while this file alone was worked on; \
                             limits.max_interruptions is {limit}",
                            self.interruptions
                        ),
                    ));
                }
                self.rest_or_fail(hopeless);
            }
            Step::Cancel => {
                self.status = to(Status::Cancelled, !from.is_terminal())?;
                self.stage = Stage::Failed;
                self.suspect = false;
                if from.is_active() {
                    self.end_attempt(AttemptOutcome::GivenUp, now);
                }
            }
            Step::Retry { round } => {
                self.status = to(Status::Pending, from == Status::Failed)?;
                self.stage = Stage::Queued;
                if self.history.len() == Self::MAX_HISTORY {
                    self.history.remove(0);
                }
                self.history.push(PastRound {
                    round: self.round,
                    failures: std::mem::take(&mut self.failures),
                    interruptions: std::mem::take(&mut self.interruptions),
                });
                self.provider_away = 0;
                self.round = round;
            }
        }
        self.updated_at = now;
        Ok(())
    }

    fn end_attempt(&mut self, outcome: AttemptOutcome, now: Timestamp) {
        self.suspect = false;
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.ended_at = Some(now);
            attempt.outcome = Some(outcome);
        }
    }

    fn rest_or_fail(&mut self, fail: bool) {
        (self.status, self.stage) =
            if fail { (Status::Failed, Stage::Failed) } else { (Status::Pending, Stage::Queued) };
    }
}
