//! The state of the provider, as a run sees it.

use super::super::{
    CommandError, RunId,
    unit_of_work::{Command, Touches, UnitOfWork},
};
use crate::{analysis::ProviderState, event::EventKind};

/// Records the state of the provider of a run. If batches then start or stop waiting for the
/// provider, every owner with unfinished uploads gets an event.
pub(in super::super) struct SetProviderState {
    pub(in super::super) run: RunId,
    pub(in super::super) state: ProviderState,
}

impl Command for SetProviderState {
    type Answer = ();

    fn touches(&self) -> Touches {
        Touches { runs: vec![self.run], unfinished_owners: true, ..Touches::default() }
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<(), CommandError> {
        let Self { run, state } = self;
        let mut record = work.run(run).cloned().ok_or(CommandError::Stale)?;
        if record.provider.as_ref() == Some(&state) {
            return Ok(());
        }
        let was_waiting = record.provider.as_ref().is_some_and(|it| it.waiting().is_some());
        let changed = was_waiting || state.waiting().is_some();
        record.provider = Some(state);
        work.put_run(run, record)?;
        if !changed {
            return Ok(());
        }
        for batch in work.unfinished_batches() {
            if let Some(batch) = work.change_batch(batch)? {
                batch.pace = None;
            }
        }
        for owner in work.unfinished_owners() {
            work.append_event(&owner, None, None, EventKind::ProviderChanged)?;
        }
        Ok(())
    }
}
