//! Whose turn it is, where one server has room for one model alone and must change models between descriptions and embeddings.

use tokio::sync::watch;

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// A description.
    Vision,
    /// An embedding.
    Embedding,
    /// An embedding that somebody waits for in front of a screen: it comes next.
    Query,
}

/// Lets descriptions go on until enough embeddings have come together, then these. Whatever comes alone is not kept waiting.
#[derive(Debug)]
pub(super) struct Turns {
    batch: usize,
    now: watch::Sender<Now>,
}

#[derive(Debug, Default)]
struct Now {
    embeds: bool,
    vision: Count,
    embedding: Count,
    query: Count,
}

#[derive(Debug, Default)]
struct Count {
    waiting: usize,
    running: usize,
}

impl Now {
    fn count(&mut self, work: Work) -> &mut Count {
        match work {
            Work::Vision => &mut self.vision,
            Work::Embedding => &mut self.embedding,
            Work::Query => &mut self.query,
        }
    }

    fn may_start(&self, work: Work, batch: usize) -> bool {
        let embedding = self.embedding.running + self.query.running;
        let enough = self.query.waiting > 0 || self.embedding.waiting >= batch;
        match work {
            // What was collected is worked off before the model changes back.
            Work::Vision if self.embeds => embedding + self.embedding.waiting + self.query.waiting == 0,
            Work::Vision => embedding == 0 && !enough,
            Work::Embedding | Work::Query => {
                self.vision.running == 0 && (self.embeds || enough || self.vision.waiting == 0)
            }
        }
    }
}

/// Somebody who wants a turn, and then has it.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    work: Work,
    runs: bool,
}

impl Turns {
    /// Collects `batch` embeddings; 1: nobody waits for anybody.
    pub(super) fn new(batch: usize) -> Self {
        Self { batch, now: watch::Sender::new(Now::default()) }
    }

    /// Says that there is something to do, which others take into account from now on.
    pub(super) fn announce(&self, work: Work) -> Turn<'_> {
        self.now.send_modify(|now| now.count(work).waiting += 1);
        Turn { turns: self, work, runs: false }
    }
}

impl Turn<'_> {
    /// Waits for the turn; it ends when this is dropped. Answers whether the server has to change models for it.
    pub(super) async fn begin(&mut self) -> bool {
        let (work, batch) = (self.work, self.turns.batch);
        let mut watch = self.turns.now.subscribe();
        loop {
            let mut changes = None;
            self.turns.now.send_if_modified(|now| {
                let free = batch <= 1 || now.may_start(work, batch);
                if free {
                    let count = now.count(work);
                    count.waiting -= 1;
                    count.running += 1;
                    let embeds = work != Work::Vision;
                    changes = Some(batch > 1 && std::mem::replace(&mut now.embeds, embeds) != embeds);
                }
                free
            });
            if let Some(changes) = changes {
                self.runs = true;
                return changes;
            }
            // The sender lives as long as this does.
            let _ = watch.changed().await;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.now.send_modify(|now| {
            let count = now.count(self.work);
            if self.runs {
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

    use super::{Work::*, *};

    fn begins(turn: &mut Turn<'_>) -> Option<bool> {
        turn.begin().now_or_never()
    }

    #[test]
    fn embeddings_wait_until_enough_have_come_together_and_are_then_worked_off() {
        let turns = Turns::new(2);
        let (mut photo, mut next) = (turns.announce(Vision), turns.announce(Vision));
        assert_eq!(begins(&mut photo), Some(false));
        let mut first = turns.announce(Embedding);
        assert_eq!(begins(&mut first), None, "the server describes");
        drop(photo);
        assert_eq!(begins(&mut first), None, "another description comes before the model changes");
        assert_eq!(begins(&mut next), Some(false));
        let mut second = turns.announce(Embedding);
        let mut last = turns.announce(Vision);
        drop(next);
        assert_eq!(begins(&mut last), None, "enough have come together");
        assert_eq!((begins(&mut first), begins(&mut second)), (Some(true), Some(false)));
        drop(first);
        assert_eq!(begins(&mut last), None);
        drop(second);
        assert_eq!(begins(&mut last), Some(true));
    }

    #[test]
    fn what_comes_alone_is_not_kept_waiting() {
        let turns = Turns::new(8);
        let mut embedding = turns.announce(Embedding);
        assert_eq!(begins(&mut embedding), Some(true));
        drop(embedding);
        assert_eq!(begins(&mut turns.announce(Vision)), Some(true));
        let waiting = turns.announce(Vision);
        let mut embedding = turns.announce(Embedding);
        assert_eq!(begins(&mut embedding), None);
        drop(waiting);
        assert_eq!(begins(&mut embedding), Some(true), "whoever gives up is not waited for");
    }

    #[test]
    fn a_search_comes_next() {
        let turns = Turns::new(8);
        let (mut photo, mut next) = (turns.announce(Vision), turns.announce(Vision));
        assert_eq!(begins(&mut photo), Some(false));
        let mut search = turns.announce(Query);
        assert_eq!((begins(&mut search), begins(&mut next)), (None, None), "no call is broken off for it");
        drop(photo);
        assert_eq!((begins(&mut next), begins(&mut search)), (None, Some(true)));
        drop(search);
        assert_eq!(begins(&mut next), Some(true));
    }

    #[test]
    fn without_collecting_nobody_waits() {
        let turns = Turns::new(1);
        let (mut photo, mut embedding) = (turns.announce(Vision), turns.announce(Embedding));
        assert_eq!((begins(&mut photo), begins(&mut embedding)), (Some(false), Some(false)));
    }
}
