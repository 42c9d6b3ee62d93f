//! The meaning of every command, written against a [`UnitOfWork`](super::unit_of_work::UnitOfWork).
//! A rule names no tree, key or encoding, so it exists once for all backends.
//!
//! [`admission`] admits batches; [`attempts`] begins and ends attempts; [`batches`] cancels,
//! pauses and retries; [`removal`] deletes; [`paths`] says which upload a path belongs to;
//! [`companions`] adds and removes further files of a shot;
//! [`runs`] starts, renews, recovers and ends runs; [`retention`] limits the event log. All of
//! them use the [`steps`] of uploads and the [`events`] of batches.

pub(super) mod admission;
pub(super) mod attempts;
pub(super) mod batches;
pub(super) mod companions;
pub(super) mod events;
pub(super) mod paths;
pub(super) mod provider;
pub(super) mod removal;
pub(super) mod retention;
pub(super) mod runs;
mod steps;

/// Uploads that one command writes, cancels or retries: a huge batch must not delay the commands of
/// others, and a backend holds what a unit of work replaces until its end (sled some 20 KiB for
/// each upload).
pub(super) const PIECE: usize = 1000;
