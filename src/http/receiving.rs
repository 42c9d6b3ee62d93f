//! The places of requests that upload files. When all are taken, an owner who has few takes the place of the
//! slowest request of the owner who has most: a few owners with slow bodies could keep all others out.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use mediamill_actors::id::Owner;
use tokio::time::Instant;

/// A body younger than this is taken to be as fast as this time allows.
const SHORTEST: Duration = Duration::from_secs(1);

/// Why a request lost its place, as the beginning of a sentence.
pub(super) const OUSTED: &str = "too many requests are uploading files, and this one was the slowest of the owner \
                                 with most of them, so another owner has its place";

/// The requests that upload files.
#[derive(Debug, Clone, Default)]
pub(super) struct Receivers(Arc<Mutex<Vec<Arc<Receiver>>>>);

/// A request that uploads files.
#[derive(Debug)]
struct Receiver {
    owner: Owner,
    began: Instant,
    /// Bytes that have arrived.
    bytes: AtomicU64,
    /// Another owner has its place.
    ousted: std::sync::atomic::AtomicBool,
    waker: AtomicWaker,
}

/// A place, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    all: Receivers,
    receiver: Arc<Receiver>,
}

/// The limit that is reached.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    Owner,
    Total,
}

impl Receivers {
    /// Number of requests.
    pub(super) fn total(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len() as u32
    }

    /// Takes a place for a request of an owner, or takes one from another owner who has at least two more.
    pub(super) fn take(&self, owner: &Owner, max: u32, max_total: u32) -> Result<Place, Full> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |owner: &Owner| all.iter().filter(|it| it.owner == *owner).count();
        let own = of(owner);
        if own >= max as usize {
            return Err(Full::Owner);
        }
        if all.len() >= max_total as usize {
            let now = Instant::now();
            let slowest = all
                .iter()
                .enumerate()
                .map(|(at, it)| (std::cmp::Reverse(of(&it.owner)), it.rate(now), at))
                .min()
                .filter(|(most, ..)| most.0 >= own + 2);
            let Some((_, _, at)) = slowest else { return Err(Full::Total) };
            all.swap_remove(at).oust();
        }
        let receiver = Arc::new(Receiver {
            owner: owner.clone(),
            began: Instant::now(),
            bytes: AtomicU64::new(0),
            ousted: false.into(),
            waker: AtomicWaker::new(),
        });
        all.push(Arc::clone(&receiver));
        Ok(Place { all: self.clone(), receiver })
    }
}

impl Receiver {
    /// Bytes a second.
    fn rate(&self, now: Instant) -> u64 {
        let elapsed = now.duration_since(self.began).max(SHORTEST).as_millis() as u64;
        self.bytes.load(Ordering::Relaxed).saturating_mul(1000) / elapsed
    }

    fn oust(&self) {
        self.ousted.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl Place {
    /// A handle for the body of the request.
    pub(super) fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.receiver))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|it| !Arc::ptr_eq(it, &self.receiver));
    }
}

/// Counts the bytes of a body, and ends it when its place is taken.
#[derive(Debug)]
pub(super) struct Watch(Arc<Receiver>);

impl Watch {
    /// Counts bytes that arrived.
    pub(super) fn count(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Ready when the place is another owner's.
    pub(super) fn poll_ousted(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.waker.register(cx.waker());
        if self.0.ousted.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Owner {
        Owner::new(name).expect("an owner")
    }

    fn is_ousted(place: &Place) -> bool {
        let mut cx = Context::from_waker(futures_util::task::noop_waker_ref());
        place.watch().poll_ousted(&mut cx).is_ready()
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_body_of_the_owner_with_most_places_gives_way() {
        let receivers = Receivers::default();
        let take = |name: &str| receivers.take(&owner(name), 4, 6);
        let ann: Vec<_> = (0..4).map(|_| take("ann").expect("a place")).collect();
        assert_eq!(take("ann").expect_err("full"), Full::Owner);
        let bob: Vec<_> = (0..2).map(|_| take("bob").expect("a place")).collect();
        for (place, bytes) in ann.iter().chain(&bob).zip([900, 700, 800, 600, 1, 2]) {
            place.watch().count(bytes);
        }
        tokio::time::advance(Duration::from_secs(3)).await;
        let eve = take("eve").expect("the place of ann's slowest");
        let ousted: Vec<_> = ann.iter().chain(&bob).map(is_ousted).collect();
        assert_eq!(ousted, [false, false, false, true, false, false], "bob has fewer");
        assert!(!is_ousted(&eve));
        assert_eq!(receivers.total(), 6);
        // The new request of ann would take a place from nobody who has two more than she.
        assert_eq!(take("ann").expect_err("full"), Full::Total);
        let _second = take("eve").expect("ann has three, eve one");
        assert!(is_ousted(&ann[1]));
        assert_eq!(take("eve").expect_err("ann has two, as eve has"), Full::Total);
        drop(ann);
        assert_eq!(receivers.total(), 4);
        take("eve").expect("a free place");
    }
}
