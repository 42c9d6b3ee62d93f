//! Runs: a process's lease on its attempts. A run starts, is renewed, and ends; the run of a dead
//! process is recovered.

use super::{
    super::{
        CommandError, Recovered, RunEnd, RunId, RunRecord, Scope, Token,
        unit_of_work::{Command, Of, Touches, UnitOfWork},
    },
    attempts::hand_back,
    events::emit,
    steps::release,
};
use crate::{
    event::EventKind,
    upload::{Status, Step},
};

/// Ended runs whose records are kept, so that repeated commands about them get the same answer.
const ENDED_KEPT: usize = 16;

/// Starts a run. Answers with the work that it took over, if its start was done before.
pub(in super::super) struct StartRun {
    pub(in super::super) run: RunId,
}

impl Command for StartRun {
    type Answer = Option<Recovered>;

    fn touches(&self) -> Touches {
        Touches { runs: vec![self.run], ..Touches::default() }
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<Self::Answer, CommandError> {
        match work.run(self.run) {
            Some(RunRecord { ended: Some(_), .. }) => return Err(CommandError::Stale),
            Some(record) => return Ok(record.recovered),
            None => {}
        }
        let end = |run| work.run(run).and_then(|it| it.ended).map(|it| (it.at, run));
        let mut ended: Vec<_> = work.runs().into_iter().filter_map(end).collect();
        ended.sort_unstable();
        let surplus = ended.len().saturating_sub(ENDED_KEPT);
        ended.into_iter().take(surplus).try_for_each(|(_, run)| work.put_run(run, None))?;
        let record = RunRecord { v: 1, started_at: work.now(), provider: None, recovered: None, ended: None };
        work.put_run(self.run, Some(record))?;
        Ok(None)
    }
}

/// Records the work that the start of a run took over.
pub(in super::super) struct EndStart {
    pub(in super::super) run: RunId,
    pub(in super::super) recovered: Recovered,
}

impl Command for EndStart {
    type Answer = ();

    fn touches(&self) -> Touches {
        Touches { runs: vec![self.run], ..Touches::default() }
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<(), CommandError> {
        let record = live(work, self.run)?.clone();
        work.put_run(self.run, Some(RunRecord { recovered: Some(self.recovered), ..record }))
    }
}

/// The record of a run that has started and not ended.
pub(super) fn live(work: &dyn UnitOfWork, run: RunId) -> Result<&RunRecord, CommandError> {
    work.run(run).filter(|it| it.ended.is_none()).ok_or(CommandError::Stale)
}

/// Ends a run whose attempts have ended.
fn end(work: &mut dyn UnitOfWork, run: RunId, attempts: usize, resting: usize) -> Result<(), CommandError> {
    let now = work.now();
    // Attempts of stores of older versions have runs without a record.
    let record = work.run(run).cloned().unwrap_or(RunRecord {
        v: 1,
        started_at: now,
        provider: None,
        recovered: None,
        ended: None,
    });
    let ended = Some(RunEnd { at: now, attempts, resting });
    work.put_run(run, Some(RunRecord { provider: None, ended, ..record }))
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
        match work.run(self.run) {
            Some(RunRecord { ended: Some(end), .. }) => return Ok(end.attempts),
            Some(_) => {}
            None => return Ok(0),
        }
        let running = work.held_by(Of::Run(self.run));
        for id in &running {
            if let Some(token) = work.held(*id).map(Token::of) {
                hand_back(work, &token, false)?;
            }
        }
        end(work, self.run, running.len(), 0)?;
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
        if let Some(end) = work.run(run).and_then(|it| it.ended) {
            return Ok(RecoveredRun { interrupted: end.attempts, resting: end.resting });
        }
        let running = work.held_by(Of::Run(run));
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
        end(work, run, recovered.interrupted, recovered.resting)?;
        Ok(recovered)
    }
}
