//! Places for calls, which owners take in turns: one who asks for a thousand embeddings at once waits for their
//! end, and another one waits for one of them.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::id::Owner;

/// The places, and the calls that wait for one.
#[derive(Debug)]
pub(super) struct Turns(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    /// Owners with waiting calls; the first one is next.
    owners: VecDeque<Waiting>,
}

/// The waiting calls of an owner, of which there is one at least.
#[derive(Debug)]
struct Waiting {
    owner: Owner,
    /// Calls for which a person waits, and the others.
    urgent: VecDeque<oneshot::Sender<Place>>,
    calls: VecDeque<oneshot::Sender<Place>>,
}

/// A place, which the next call takes when this is dropped.
#[derive(Debug)]
pub(super) struct Place(Weak<Mutex<State>>);

impl Turns {
    /// A number of places.
    pub(super) fn new(places: usize) -> Self {
        Self(Arc::new(Mutex::new(State { free: places, owners: VecDeque::new() })))
    }

    /// Waits for a place; `urgent` calls are the first ones of their owner. `None` never happens while `self`
    /// lives.
    pub(super) async fn take(&self, owner: &Owner, urgent: bool) -> Option<Place> {
        let place = {
            let mut state = self.0.lock();
            if state.free > 0 {
                state.free -= 1;
                return Some(Place(Arc::downgrade(&self.0)));
            }
            let (call, place) = oneshot::channel();
            let at = state.owners.iter().position(|it| it.owner == *owner).unwrap_or_else(|| {
                let waiting =
                    Waiting { owner: owner.clone(), urgent: VecDeque::new(), calls: VecDeque::new() };
                state.owners.push_back(waiting);
                state.owners.len() - 1
            });
            let waiting = &mut state.owners[at];
            if urgent { &mut waiting.urgent } else { &mut waiting.calls }.push_back(call);
            place
        };
        place.await.ok()
    }
}

impl State {
    /// The next call, of the owner who has waited longest for a turn.
    fn next(&mut self) -> Option<oneshot::Sender<Place>> {
        loop {
            let mut waiting = self.owners.pop_front()?;
            waiting.urgent.retain(|call| !call.is_closed());
            waiting.calls.retain(|call| !call.is_closed());
            let Some(call) = waiting.urgent.pop_front().or_else(|| waiting.calls.pop_front()) else {
                continue;
            };
            if !waiting.urgent.is_empty() || !waiting.calls.is_empty() {
                self.owners.push_back(waiting);
            }
            return Some(call);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(state) = self.0.upgrade() else { return };
        loop {
            let next = {
                let mut state = state.lock();
                let next = state.next();
                if next.is_none() {
                    state.free += 1;
                }
                next
            };
            let Some(next) = next else { return };
            match next.send(Place(self.0.clone())) {
                Ok(()) => return,
                // Nobody waits for it any more. Its place must not look for the next one, since this loop does.
                Err(mut place) => place.0 = Weak::new(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc, time::Duration};

    use super::*;

    #[actix_rt::test]
    async fn owners_take_turns_and_calls_that_ended_are_passed_over() {
        tokio::time::pause();
        let (turns, order) = (Rc::new(Turns::new(1)), Rc::new(RefCell::new(Vec::new())));
        let owner = |name: &str| Owner::new(name).expect("an owner");
        let first = turns.take(&owner("ann"), false).await;
        let mut calls = Vec::new();
        for (name, urgent) in [
            ("ann", false),
            ("ann", false),
            ("ann", false),
            ("ann", true),
            ("bob", false),
            ("bob", false),
            ("eve", false),
        ] {
            let (turns, order, owner) = (Rc::clone(&turns), Rc::clone(&order), owner(name));
            calls.push(actix_rt::spawn(async move {
                let place = turns.take(&owner, urgent).await;
                order.borrow_mut().push((name, urgent));
                tokio::time::sleep(Duration::from_secs(1)).await;
                drop(place);
            }));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        calls.remove(1).abort();
        calls.remove(3).abort();
        tokio::time::sleep(Duration::from_millis(1)).await;
        drop(first);
        for call in calls {
            call.await.expect("ended");
        }
        let expected = [("ann", true), ("bob", false), ("eve", false), ("ann", false), ("ann", false)];
        assert_eq!(*order.borrow(), expected);
        assert_eq!(turns.0.lock().free, 1);
    }
}
