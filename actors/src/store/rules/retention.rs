//! Retention of events and of empty batches. Forgetting an event costs as much as writing one, so a tenth more than
//! the limit is kept while there is work, and the surplus is forgotten when nothing is in flight.

use super::super::{CommandError, unit_of_work::UnitOfWork};
use crate::id::Owner;

/// The part of the limit by which more events may be kept while there is work: one tenth.
const SLACK: u64 = 10;
/// About how many events are forgotten in one unit of work, so that the next command waits some
/// milliseconds at most.
const AT_ONCE: u64 = 500;

/// Makes room for `new` events of an owner. Beyond the slack, each new event forgets up to two
/// old ones, so that a lowered limit causes no pause. Answers with whether there is a surplus.
pub(in super::super) fn make_room(
    work: &mut dyn UnitOfWork,
    owner: &Owner,
    keep: u64,
    new: u64,
) -> Result<bool, CommandError> {
    let (first, surplus) = surplus(work, owner, keep)?;
    let most = surplus.saturating_sub(keep / SLACK).min(2 * new);
    if most > 0 {
        work.forget_events(owner, most, first + surplus)?;
    }
    Ok(surplus > 0)
}

/// Forgets some of an owner's surplus. Answers with whether there is more.
pub(in super::super) fn forget_some(
    work: &mut dyn UnitOfWork,
    owner: &Owner,
    keep: u64,
) -> Result<bool, CommandError> {
    let (first, surplus) = surplus(work, owner, keep)?;
    if surplus == 0 {
        return Ok(false);
    }
    // A backend may keep events together; then the rest of a surplus stays until its neighbours go.
    Ok(work.forget_events(owner, AT_ONCE, first + surplus)? >= AT_ONCE)
}

/// The number of an owner's oldest event, and the number of events beyond the limit.
fn surplus(work: &mut dyn UnitOfWork, owner: &Owner, keep: u64) -> Result<(u64, u64), CommandError> {
    let (first, last) = work.kept_events(owner)?;
    Ok((first, (last + 1).saturating_sub(first).saturating_sub(keep)))
}

/// Batches without uploads that are kept of each owner. They are those whose files were all refused or
/// deleted, and without a limit they would grow the store for ever.
const EMPTY_KEPT: usize = 100;

/// Removes the oldest batches of an owner that have ended without uploads, beyond [`EMPTY_KEPT`].
pub(in super::super) fn forget_empty_batches(
    work: &mut dyn UnitOfWork,
    owner: &Owner,
) -> Result<(), CommandError> {
    let empty = work.empty_batches(owner);
    let surplus = empty.len().saturating_sub(EMPTY_KEPT);
    empty.into_iter().take(surplus).try_for_each(|batch| work.remove_batch(batch))
}
