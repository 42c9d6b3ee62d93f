//! The one writer: a queue of commands that is drained in groups, one transaction and one wait for the disk for each.
//!
//! The draining is done by one thread, since the system's allocator keeps memory for each thread that ever allocated: what sled uses up in a
//! transaction would be kept once for each thread of the runtime's pool. A blocking job waits for it, as a paused clock would not wait for a
//! thread alone.

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

use super::{Inner, WriteError, draft::Draft};

/// Most commands of one group.
const GROUP: usize = 256;
/// Shortest time between two writes of the high-water mark.
const HIGHWATER_EVERY: Duration = Duration::from_secs(1);

/// What is to be told once the group is on disk, or why it is not.
type Reply = Box<dyn FnOnce(Result<(), &str>) + Send>;
/// A change that is made in the draft of a group.
type Command = Box<dyn FnOnce(&mut Draft<'_>) -> Reply + Send>;

/// Commands that wait for the committer.
#[derive(Default)]
pub(super) struct Inbox {
    commands: VecDeque<Command>,
    /// A job drains the queue, so that a new command need not start one.
    draining: bool,
}

/// The thread that writes. It ends with the store.
pub(super) struct Writer(mpsc::Sender<Drain>);

/// A store whose queue is to be drained.
struct Drain {
    inner: Arc<Inner>,
    /// What time it is, is asked of the runtime.
    runtime: Handle,
    /// Dropped when it is done.
    done: mpsc::Sender<()>,
}

impl Writer {
    pub(super) fn start() -> io::Result<Self> {
        let (sender, drains) = mpsc::channel::<Drain>();
        thread::Builder::new().name("mediamill-store".into()).spawn(move || {
            for Drain { inner, runtime, done } in drains {
                let entered = runtime.enter();
                inner.drain();
                // The store may close with this, and whoever waits for the drain waits for that too.
                drop((inner, entered, done));
            }
        })?;
        Ok(Self(sender))
    }

    /// Lets the thread drain a store, and waits until it has. To be called in a blocking job.
    fn wait_for(inner: Arc<Inner>) {
        let (done, ended) = mpsc::channel();
        let writer = inner.writer.0.clone();
        match writer.send(Drain { inner, runtime: Handle::current(), done }) {
            Ok(()) => {
                // Nothing is sent: this ends when the sender is dropped.
                let _ = ended.recv();
            }
            Err(SendError(Drain { inner, .. })) => inner.drain(),
        }
    }
}

impl Inner {
    /// Makes a change; the future ends when it is on disk.
    ///
    /// `change` must not write anything to the draft before it refuses.
    pub(super) fn write<T, F>(
        self: &Arc<Self>,
        change: F,
    ) -> impl Future<Output = Result<T, WriteError>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&mut Draft<'_>) -> Result<T, WriteError> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        self.enqueue(Box::new(move |draft| {
            let result = change(draft);
            if let Err(WriteError::Unknown(text)) = &result {
                draft.poison(text);
            }
            Box::new(move |durable| {
                let _ = tell.send(match durable {
                    Ok(()) => result,
                    Err(text) => Err(WriteError::Unknown(text.to_owned())),
                });
            })
        }));
        told.map(|answer| answer.unwrap_or_else(|_| Err(WriteError::Unknown("the committer died".into()))))
    }

    fn enqueue(self: &Arc<Self>, command: Command) {
        let mut inbox = self.inbox.lock();
        inbox.commands.push_back(command);
        if !std::mem::replace(&mut inbox.draining, true) {
            let inner = Arc::clone(self);
            tokio::task::spawn_blocking(move || Writer::wait_for(inner));
        }
    }

    fn drain(&self) {
        loop {
            let group: Vec<Command> = {
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

    /// Whether old events are to be forgotten, as nobody waits for anything.
    fn is_to_forget(&self) -> bool {
        self.broken.get().is_none() && self.state.lock().is_to_forget()
    }

    fn commit(&self, group: Vec<Command>) {
        if let Some(text) = self.broken.get() {
            // The commands are not run: a draft that cannot be written must not move the state either.
            return drop_with(group, text);
        }
        let mut replies = Vec::with_capacity(group.len());
        // Readers wait until what they would see is on disk.
        let reading = self.reading.write();
        let done = catch_unwind(AssertUnwindSafe(|| {
            let mut state = self.state.lock();
            let mut draft = Draft::new(&self.trees, &mut state);
            for command in group {
                replies.push(command(&mut draft));
            }
            let writes = draft.finish()?;
            let change = state.newest_change;
            let written = self.trees.iter().zip(writes).filter(|(_, writes)| !writes.is_empty());
            let (trees, writes): (Vec<sled::Tree>, Vec<_>) =
                written.map(|(tree, writes)| (tree.clone(), writes)).unzip();
            if trees.is_empty() {
                return Ok(change);
            }
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
            self.db.flush().map_err(sentence)?;
            self.db_file.sync_data().map_err(|error| error.to_string())?;
            self.flushes.fetch_add(1, Ordering::Relaxed);
            self.flush_us.fetch_add(flushing.elapsed().as_micros() as u64, Ordering::Relaxed);
            self.note_load(&state);
            Ok(change)
        }));
        let result = done.unwrap_or_else(|_| Err("the committer panicked".into()));
        parking_lot::RwLockWriteGuard::unlock_fair(reading);
        match result {
            Ok(change) => {
                self.note_highwater(change);
                // Before the answers, so that whoever gets one finds the change among those that are on disk.
                self.durable_change.store(change, Ordering::Release);
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

    fn note_highwater(&self, change: u64) {
        let mut highwater = self.highwater.lock();
        if highwater.1.is_none_or(|last| last.elapsed() >= HIGHWATER_EVERY) {
            highwater.0.write(change);
            highwater.1 = Some(Instant::now());
        }
    }
}

/// What the system says by itself; sled adds how it names the error inside.
fn sentence(error: sled::Error) -> String {
    match error {
        sled::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// Forgets old events, and tells nobody.
fn forget() -> Command {
    Box::new(|draft| {
        if let Err(error) = draft.forget_some() {
            draft.poison(&error.to_string());
        }
        Box::new(|_| {})
    })
}

fn drop_with(group: Vec<Command>, text: &str) {
    log::debug!("{} changes refused, since the store is broken: {text}", group.len());
    // Dropping a command drops its sender, which answers `Unknown`.
    drop(group);
}
