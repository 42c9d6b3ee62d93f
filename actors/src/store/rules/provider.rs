//! The state of the provider, as a run sees it.

use std::collections::BTreeMap;

use super::{
    super::{
        CommandError, RunId,
        unit_of_work::{Command, Touches, UnitOfWork},
    },
    events::emit,
    runs::live,
};
use crate::{
    analysis::ProviderState,
    event::EventKind,
    id::{BatchId, Owner},
};

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
        let mut record = live(work, run)?.clone();
        if record.provider.as_ref() == Some(&state) {
            return Ok(());
        }
        let was_waiting = record.provider.as_ref().is_some_and(|it| it.waiting().is_some());
        let changed = was_waiting || state.waiting().is_some();
        record.provider = Some(state);
        work.put_run(run, Some(record))?;
        if !changed {
            return Ok(());
        }
        // The event has a batch, so that it gives a message in a replay, too.
        let mut first: BTreeMap<Owner, (u64, BatchId)> = BTreeMap::new();
        for id in work.unfinished_batches() {
            let Some(batch) = work.change_batch(id)? else { continue };
            batch.pace = None;
            let (owner, named) = (batch.owner.clone(), (batch.number, id));
            first.entry(owner).and_modify(|it| *it = named.min(*it)).or_insert(named);
        }
        first.into_values().try_for_each(|(_, batch)| emit(work, batch, None, EventKind::ProviderChanged))
    }
}
