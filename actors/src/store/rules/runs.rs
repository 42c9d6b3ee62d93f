//! Runs: a process's lease on its attempts. A run starts, is renewed, and ends; the run of a dead
//! process is recovered.

use super::{
    super::{
        CommandError, RunId, RunRecord, Scope, Token,
        unit_of_work::{Command, Touches, UnitOfWork},
    },
    attempts::hand_back,
    events::emit,
    steps::release,
};
use crate::{
    event::EventKind,
    upload::{Status, Step},
};

/// Starts a run.
pub(in super::super) struct StartRun {
    pub(in super::super) run: RunId,
}

impl Command for StartRun {
    type Answer = ();

    fn touches(&self) -> Touches {
        Touches { runs: vec![self.run], ..Touches::default() }
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<(), CommandError> {
        if work.run(self.run).is_some() {
            return Ok(());
        }
        let now = work.now();
        work.put_run(self.run, RunRecord { v: 1, started_at: now, provider: None })
    }
}

/// Hands back all attempts of a run, and ends it: the process stops in good order. Answers with
/// the number of attempts.
pub(in super::super) struct EndRun {
    pub(in super::super) run: RunId,
}

impl Command for EndRun {
    type Answer = usize;

    fn touches(&self) -> Touches {
        Touches { runs: vec![self.run], ..Touches::default() }
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<usize, CommandError> {
        let running = work.held_by(self.run);
        for id in &running {
            if let Some(token) = work.held(*id).map(Token::of) {
                hand_back(work, &token, false)?;
            }
        }
        work.remove_run(self.run);
        Ok(running.len())
    }
}

/// Ends the attempts of a dead run as interrupted, and ends the run, so that later commands of
/// its process are refused.
pub(in super::super) struct RecoverRun {
    pub(in super::super) run: RunId,
    /// The uploads that this run takes up. The others wait for a later run.
    pub(in super::super) scope: Scope,
    /// Interruptions while alone that end an upload; 0: never.
    pub(in super::super) max_interruptions: u32,
}

/// The result of a recovery.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) struct RecoveredRun {
    /// Attempts that were running.
    pub(in super::super) interrupted: usize,
    /// Uploads of these outside the scope.
    pub(in super::super) resting: usize,
}

impl Command for RecoverRun {
    type Answer = RecoveredRun;

    fn touches(&self) -> Touches {
        Touches { runs: vec![self.run], unfinished_owners: true, ..Touches::default() }
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<RecoveredRun, CommandError> {
        let Self { run, scope, max_interruptions: limit } = self;
        let running = work.held_by(run);
        if running.is_empty() && work.run(run).is_none() {
            return Ok(RecoveredRun::default());
        }
        let mut recovered = RecoveredRun { interrupted: running.len(), resting: 0 };
        for id in running {
            let Some(held) = work.held(id).cloned() else { continue };
            let upload = release(work, id, Step::Interrupt { alone: held.attempt.alone, limit })?;
            work.revoke(&held);
            let last = upload.status == Status::Failed;
            let kind = EventKind::UploadInterrupted { attempt: held.upload.attempt, last };
            emit(work, upload.batch_id, Some(id), kind)?;
            // A suspect runs before all others, and alone: uploads outside the scope must not delay
            // those inside.
            if !last && !scope.includes(&upload) {
                work.set_aside(&upload);
                recovered.resting += 1;
            }
        }
        for batch in work.unfinished_batches() {
            if let Some(batch) = work.change_batch(batch)? {
                batch.pace = None;
            }
        }
        work.remove_run(run);
        Ok(recovered)
    }
}
