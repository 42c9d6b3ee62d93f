//! The one writer: a queue of commands that is drained in groups, one transaction and one wait for
//! the disk for each.
//!
//! One thread drains the queue, since an allocator keeps memory for each thread that ever
//! allocated: the memory of sled's transactions would be kept once for each thread of the runtime's
//! pool. A blocking job waits for that thread, since tokio's paused clock waits for blocking jobs
//! only.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{self, SendError},
    },
    thread,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use sled::transaction::{ConflictableTransactionError, TransactionError, Transactional};
use tokio::{runtime::Handle, sync::oneshot};

use super::{
    Sled,
    pages::sentence,
    unit_of_work::{Draft, Finished},
};
use crate::store::{CommandError, FaultPoint, Notice, RunId, unit_of_work::Command};

/// Most commands of one group.
const GROUP: usize = 256;
/// Shortest time between two waits for the disk of the high-water mark.
const HIGHWATER_EVERY: Duration = Duration::from_secs(1);

/// Sends the answer of a command, once its group is durable or has failed.
type Reply = Box<dyn FnOnce(Result<(), &str>) + Send>;
/// A command that waits for its group.
type Change = Box<dyn FnOnce(&mut Draft<'_>) -> Reply + Send>;

/// Commands that wait for the committer.
#[derive(Default)]
pub(super) struct Inbox {
    commands: VecDeque<Change>,
    /// Whether a job is draining the queue.
    draining: bool,
}

/// The thread that writes. It ends with the store.
pub(super) struct Writer(mpsc::Sender<Drain>);

/// A store with a queue to be drained.
struct Drain {
    sled: Arc<Sled>,
    /// The runtime whose clock gives the time.
    runtime: Handle,
    /// Dropped when the queue is empty.
    done: mpsc::Sender<()>,
}

impl Writer {
    pub(super) fn start() -> io::Result<Self> {
        let (sender, drains) = mpsc::channel::<Drain>();
        thread::Builder::new().name("mediamill-store".into()).spawn(move || {
            for Drain { sled, runtime, done } in drains {
                let entered = runtime.enter();
                sled.drain();
                // This drop may close the store, and the waiting job waits for that, too.
                drop((sled, entered, done));
            }
        })?;
        Ok(Self(sender))
    }

    /// Lets the thread drain a store, and waits until the queue is empty. Must be called in a
    /// blocking job.
    fn wait_for(sled: Arc<Sled>) {
        let (done, ended) = mpsc::channel();
        let writer = sled.writer.0.clone();
        match writer.send(Drain { sled, runtime: Handle::current(), done }) {
            Ok(()) => {
                // No value is sent: this ends when the sender is dropped.
                let _ = ended.recv();
            }
            Err(SendError(Drain { sled, .. })) => sled.drain(),
        }
    }
}

impl Sled {
    /// Applies a command, which is queued before this returns; the future ends when the command is durable.
    pub(in super::super) fn write<C: Command>(
        self: &Arc<Self>,
        command: C,
    ) -> impl Future<Output = Result<C::Answer, CommandError>> + Send + use<C> {
        let (sender, receiver) = oneshot::channel();
        match self.broken.get() {
            Some(text) => drop(sender.send(Err(CommandError::Unknown(text.clone())))),
            None => self.enqueue(Box::new(move |draft| {
                let result = apply(command, draft);
                if let Err(CommandError::Unknown(text)) = &result {
                    draft.poison(text);
                }
                Box::new(move |durable| {
                    let _ = sender.send(match durable {
                        Ok(()) => result,
                        Err(text) => Err(CommandError::Unknown(text.to_owned())),
                    });
                })
            })),
        }
        let ended = || Err(CommandError::Unknown("the committer has ended; the log says why".into()));
        receiver.map(move |answer| answer.unwrap_or_else(|_| ended()))
    }

    fn enqueue(self: &Arc<Self>, command: Change) {
        let mut inbox = self.inbox.lock();
        inbox.commands.push_back(command);
        if !std::mem::replace(&mut inbox.draining, true) {
            let sled = Arc::clone(self);
            tokio::task::spawn_blocking(move || Writer::wait_for(sled));
        }
    }

    fn drain(&self) {
        loop {
            let group: Vec<Change> = {
                let mut inbox = self.inbox.lock();
                let length = inbox.commands.len().min(GROUP);
                if length == 0 && !self.is_to_forget() {
                    inbox.draining = false;
                    return;
                }
                inbox.commands.drain(..length).collect()
            };
            match group.is_empty() {
                true => self.commit(vec![forget()]),
                false => self.commit(group),
            }
        }
    }

    /// Whether old events can be forgotten while no command waits.
    fn is_to_forget(&self) -> bool {
        self.broken.get().is_none() && self.state.lock().is_idle_with_surplus()
    }

    fn commit(&self, group: Vec<Change>) {
        if let Some(text) = self.broken.get() {
            // A draft that cannot be written must leave the state unchanged.
            return drop_with(group, text);
        }
        let mut replies = Vec::with_capacity(group.len());
        // Readers wait until the changes that they would see are durable.
        let reading = self.reading.write();
        let done = catch_unwind(AssertUnwindSafe(|| {
            let mut state = self.state.lock();
            let mut draft = Draft::new(&self.trees, &mut state);
            for command in group {
                replies.push(command(&mut draft));
            }
            let Finished { writes, notices } = draft.finish()?;
            let change = state.newest_change;
            let written = self.trees.iter().zip(writes).filter(|(_, writes)| !writes.is_empty());
            let (trees, writes): (Vec<sled::Tree>, Vec<_>) =
                written.map(|(tree, writes)| (tree.tree().clone(), writes)).unzip();
            if trees.is_empty() {
                return Ok((change, notices));
            }
            self.faults.check(FaultPoint::BeforeCommit)?;
            let transacted = trees[..].transaction(|trees| {
                for (tree, writes) in trees.iter().zip(&writes) {
                    for (key, value) in writes {
                        match value {
                            Some(value) => tree.insert(key, value)?,
                            None => tree.remove(key)?,
                        };
                    }
                }
                Ok::<_, ConflictableTransactionError<()>>(())
            });
            match transacted {
                Ok(()) | Err(TransactionError::Abort(())) => {}
                Err(TransactionError::Storage(error)) => return Err(sentence(error)),
            }
            let flushing = Instant::now();
            self.flush().map_err(sentence)?;
            self.db_file.sync_data().map_err(|error| error.to_string())?;
            self.check_folder()?;
            self.flushes.fetch_add(1, Ordering::Relaxed);
            self.flush_us.fetch_add(flushing.elapsed().as_micros() as u64, Ordering::Relaxed);
            self.note_depth(&state);
            self.faults.check(FaultPoint::AfterCommit)?;
            Ok((change, notices))
        }));
        let panicked = || Err("the code that writes the store panicked; the log says where".to_owned());
        let result = done.unwrap_or_else(|_| panicked());
        if result.is_err() {
            self.reload();
        }
        parking_lot::RwLockWriteGuard::unlock_fair(reading);
        match result {
            Ok((change, notices)) => {
                self.note_highwater(change);
                // This comes before the answers, so that a caller finds its change among the
                // durable ones.
                self.durable_change.store(change, Ordering::Release);
                self.send(notices);
                for reply in replies {
                    reply(Ok(()));
                }
                self.newest.send_modify(|generation| *generation += 1);
            }
            Err(text) => {
                let text = self.broken.get_or_init(|| text);
                for reply in replies {
                    reply(Err(text));
                }
                self.newest.send_modify(|generation| *generation += 1);
            }
        }
    }

    /// Sends notices of durable changes, each to its run, or to every run.
    fn send(&self, notices: Vec<(Option<RunId>, Notice)>) {
        if notices.is_empty() {
            return;
        }
        let mut receivers = self.notices.lock();
        receivers.retain(|_, receiver| !receiver.is_closed());
        for (run, notice) in notices {
            for (_, receiver) in receivers.iter().filter(|(of, _)| run.is_none_or(|run| run == **of)) {
                // A receiver that is gone needs no notice.
                let _ = receiver.send(notice.clone());
            }
        }
    }

    /// Notes a durable change, without waiting for the disk each time: the number survives the process at
    /// once, and a power cut up to [`HIGHWATER_EVERY`] later.
    fn note_highwater(&self, change: u64) {
        let mut highwater = self.highwater.lock();
        let waits = highwater.1.is_none_or(|last| last.elapsed() >= HIGHWATER_EVERY);
        highwater.0.write(change, waits);
        if waits {
            highwater.1 = Some(Instant::now());
        }
    }

    /// Makes sure that the file of the store still has a name: all that is written to one that was deleted is
    /// lost with the process.
    #[cfg(unix)]
    fn check_folder(&self) -> Result<(), String> {
        use std::os::unix::fs::MetadataExt as _;
        match self.db_file.metadata() {
            Ok(metadata) if metadata.nlink() == 0 => Err(format!(
                "{} was deleted while the program was using it; the results since then are lost",
                self.data_dir.join("store").display()
            )),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[cfg(not(unix))]
    fn check_folder(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Applies a command to the draft.
fn apply<C: Command>(command: C, draft: &mut Draft<'_>) -> Result<C::Answer, CommandError> {
    if !draft.state.is_loaded() {
        return Err(CommandError::Stale);
    }
    draft.declare(command.touches());
    command.apply(draft)
}

/// Forgets old events.
fn forget() -> Change {
    Box::new(|draft| {
        if let Err(error) = draft.forget_some() {
            draft.poison(&error.to_string());
        }
        Box::new(|_| {})
    })
}

fn drop_with(group: Vec<Change>, text: &str) {
    log::debug!("{} changes refused, since the store is broken: {text}", group.len());
    // Dropping a command drops its sender, which answers `Unknown`.
    drop(group);
}
