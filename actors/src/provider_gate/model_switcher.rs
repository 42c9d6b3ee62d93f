//! Orders descriptions and embeddings on a server that has memory for one model only, so that it switches
//! models rarely.

use tokio::sync::watch;

/// The purpose of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallKind {
    /// A description.
    Vision,
    /// The embedding of a description.
    Embedding,
    /// The embedding of a search query, for which a person waits: it is next.
    Query,
}

/// Admits descriptions until a batch of embeddings is waiting, then these. A call that has no rivals never
/// waits.
#[derive(Debug)]
pub(super) struct ModelSwitcher {
    /// Embeddings to collect; 1: no call ever waits.
    batch: usize,
    load: watch::Sender<Load>,
}

/// The waiting and running calls.
#[derive(Debug, Default)]
struct Load {
    /// Whether the embedding model is the loaded one.
    embedding_loaded: bool,
    vision: Count,
    embedding: Count,
    query: Count,
}

#[derive(Debug, Default)]
struct Count {
    waiting: usize,
    running: usize,
}

impl Load {
    fn count(&mut self, kind: CallKind) -> &mut Count {
        match kind {
            CallKind::Vision => &mut self.vision,
            CallKind::Embedding => &mut self.embedding,
            CallKind::Query => &mut self.query,
        }
    }

    fn may_start(&self, kind: CallKind, batch: usize) -> bool {
        let embeddings_running = self.embedding.running + self.query.running;
        let switch_due = self.query.waiting > 0 || self.embedding.waiting >= batch;
        match kind {
            // All collected embeddings run before the vision model is loaded again.
            CallKind::Vision if self.embedding_loaded => {
                embeddings_running + self.embedding.waiting + self.query.waiting == 0
            }
            CallKind::Vision => embeddings_running == 0 && !switch_due,
            CallKind::Embedding | CallKind::Query => {
                self.vision.running == 0 && (self.embedding_loaded || switch_due || self.vision.waiting == 0)
            }
        }
    }
}

/// A call that waits for its model, and then runs on it. Dropping it ends either.
pub(super) struct Permit<'a> {
    switcher: &'a ModelSwitcher,
    kind: CallKind,
    running: bool,
}

impl ModelSwitcher {
    /// Collects `batch` embeddings, at least 1; with 1, no call ever waits.
    pub(super) fn new(batch: usize) -> Self {
        Self { batch, load: watch::Sender::new(Load::default()) }
    }

    /// Registers a call, which other calls take into account from now on.
    pub(super) fn register(&self, kind: CallKind) -> Permit<'_> {
        self.load.send_modify(|load| load.count(kind).waiting += 1);
        Permit { switcher: self, kind, running: false }
    }
}

impl Permit<'_> {
    /// Waits until the call may run; `true` if the server has to load another model for it.
    pub(super) async fn acquire(&mut self) -> bool {
        let (kind, batch) = (self.kind, self.switcher.batch);
        let mut changes = self.switcher.load.subscribe();
        loop {
            let mut switches = None;
            self.switcher.load.send_if_modified(|load| {
                let starts = batch <= 1 || load.may_start(kind, batch);
                if starts {
                    let count = load.count(kind);
                    count.waiting -= 1;
                    count.running += 1;
                    let embeds = kind != CallKind::Vision;
                    let before = std::mem::replace(&mut load.embedding_loaded, embeds);
                    switches = Some(batch > 1 && before != embeds);
                }
                starts
            });
            if let Some(switches) = switches {
                self.running = true;
                return switches;
            }
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.switcher.load.send_modify(|load| {
            let count = load.count(self.kind);
            if self.running {
                count.running -= 1;
            } else {
                count.waiting -= 1;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::{CallKind::*, *};

    fn acquired(permit: &mut Permit<'_>) -> Option<bool> {
        permit.acquire().now_or_never()
    }

    #[test]
    fn embeddings_are_collected_and_then_all_run() {
        let switcher = ModelSwitcher::new(2);
        let (mut photo, mut next) = (switcher.register(Vision), switcher.register(Vision));
        assert_eq!(acquired(&mut photo), Some(false));
        let mut first = switcher.register(Embedding);
        assert_eq!(acquired(&mut first), None, "a description is running");
        drop(photo);
        assert_eq!(acquired(&mut first), None, "another description is first");
        assert_eq!(acquired(&mut next), Some(false));
        let mut second = switcher.register(Embedding);
        let mut last = switcher.register(Vision);
        drop(next);
        assert_eq!(acquired(&mut last), None, "the batch is complete");
        assert_eq!((acquired(&mut first), acquired(&mut second)), (Some(true), Some(false)));
        drop(first);
        assert_eq!(acquired(&mut last), None);
        drop(second);
        assert_eq!(acquired(&mut last), Some(true));
    }

    #[test]
    fn a_call_without_rivals_does_not_wait() {
        let switcher = ModelSwitcher::new(8);
        let mut embedding = switcher.register(Embedding);
        assert_eq!(acquired(&mut embedding), Some(true));
        drop(embedding);
        assert_eq!(acquired(&mut switcher.register(Vision)), Some(true));
        let waiting = switcher.register(Vision);
        let mut embedding = switcher.register(Embedding);
        assert_eq!(acquired(&mut embedding), None);
        drop(waiting);
        assert_eq!(acquired(&mut embedding), Some(true), "a dropped call is no rival");
    }

    #[test]
    fn a_search_is_next() {
        let switcher = ModelSwitcher::new(8);
        let (mut photo, mut next) = (switcher.register(Vision), switcher.register(Vision));
        assert_eq!(acquired(&mut photo), Some(false));
        let mut search = switcher.register(Query);
        assert_eq!((acquired(&mut search), acquired(&mut next)), (None, None), "no running call is aborted");
        drop(photo);
        assert_eq!((acquired(&mut next), acquired(&mut search)), (None, Some(true)));
        drop(search);
        assert_eq!(acquired(&mut next), Some(true));
    }

    #[test]
    fn a_batch_of_one_makes_no_call_wait() {
        let switcher = ModelSwitcher::new(1);
        let (mut photo, mut embedding) = (switcher.register(Vision), switcher.register(Embedding));
        assert_eq!((acquired(&mut photo), acquired(&mut embedding)), (Some(false), Some(false)));
    }
}
