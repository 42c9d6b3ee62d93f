//! Limits the length of a request body, and its rate from below.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{error::PayloadError, web::Bytes};
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::receiving::Watch;

/// A body that fails with [`PayloadError::Overflow`] if it is too long, with [`io::ErrorKind::TimedOut`] if its
/// sender is too slow, and with [`io::ErrorKind::ConnectionAborted`] if another request takes its place.
///
/// Only the time spent waiting for the sender counts, not the time in which the reader handles the bytes.
pub(super) struct Paced<S> {
    body: S,
    /// The place of its request.
    place: Option<Watch>,
    /// Number of bytes that may still arrive.
    left: u64,
    /// Length of a window of waiting time.
    window: Duration,
    /// Number of bytes that must arrive in each window.
    floor: u64,
    /// Waiting time so far in the present window.
    waited: Duration,
    /// Number of bytes that arrived in the present window.
    arrived: u64,
    /// The start of the present wait, and the timer at the end of the window.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<S> Paced<S> {
    /// A body of at most `max` bytes. In each `window` of waiting time, `per_second` bytes per second must
    /// arrive, and at least one byte.
    pub(super) fn new(body: S, max: u64, window: Duration, per_second: u64, place: Option<Watch>) -> Self {
        let floor = (u128::from(per_second) * window.as_millis() / 1000).max(1) as u64;
        Self { body, place, left: max, window, floor, waited: Duration::ZERO, arrived: 0, waiting: None }
    }
}

impl<S> Stream for Paced<S>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.place.as_ref().is_some_and(|place| place.poll_ousted(cx).is_ready()) {
            return Poll::Ready(Some(Err(PayloadError::Io(io::ErrorKind::ConnectionAborted.into()))));
        }
        if let Poll::Ready(next) = Pin::new(&mut this.body).poll_next(cx) {
            if let Some((since, _)) = this.waiting.take() {
                this.waited += since.elapsed();
            }
            let Some(Ok(bytes)) = &next else { return Poll::Ready(next) };
            this.arrived += bytes.len() as u64;
            if let Some(place) = &this.place {
                place.count(bytes.len());
            }
            return match this.left.checked_sub(bytes.len() as u64) {
                Some(left) => {
                    this.left = left;
                    Poll::Ready(next)
                }
                None => Poll::Ready(Some(Err(PayloadError::Overflow))),
            };
        }
        loop {
            let left = this.window.saturating_sub(this.waited);
            let (_, end) = this.waiting.get_or_insert_with(|| {
                let now = Instant::now();
                (now, Box::pin(sleep_until(now + left)))
            });
            if end.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if this.arrived < this.floor {
                return Poll::Ready(Some(Err(PayloadError::Io(io::ErrorKind::TimedOut.into()))));
            }
            (this.waited, this.arrived, this.waiting) = (Duration::ZERO, 0, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use tokio::time::sleep;

    use super::*;

    /// A body that sends a chunk of `bytes` bytes after each pause.
    fn body(pauses: Vec<u64>, bytes: usize) -> Pin<Box<impl Stream<Item = Result<Bytes, PayloadError>>>> {
        Box::pin(stream::iter(pauses).then(move |ms| async move {
            sleep(Duration::from_millis(ms)).await;
            Ok(Bytes::from(vec![0; bytes]))
        }))
    }

    async fn read(
        body: Pin<Box<impl Stream<Item = Result<Bytes, PayloadError>>>>,
        max: u64,
        slow_reader: Duration,
    ) -> Result<usize, PayloadError> {
        let mut paced = Paced::new(body, max, Duration::from_secs(10), 100, None);
        let mut length = 0;
        while let Some(bytes) = paced.next().await {
            length += bytes?.len();
            sleep(slow_reader).await;
        }
        Ok(length)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_too_long_or_too_slow_ends_with_an_error() {
        let quick = Duration::ZERO;
        assert_eq!(read(body(vec![100; 500], 10), 5000, quick).await.expect("fast enough"), 5000);
        assert!(matches!(read(body(vec![100; 500], 10), 4999, quick).await, Err(PayloadError::Overflow)));
        let timed_out =
            |read| matches!(read, Err(PayloadError::Io(error)) if error.kind() == io::ErrorKind::TimedOut);
        assert!(timed_out(read(body(vec![1000; 60], 1), 5000, quick).await), "a byte a second");
        assert!(timed_out(read(body(vec![10_001], 1 << 20), 1 << 21, quick).await), "silence");
        assert!(timed_out(read(body(vec![0, 0, 0, 20_001], 1000), 1 << 21, quick).await), "silence later");
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_slow_reader_does_not_count() {
        let length = read(body(vec![10; 50], 10), 5000, Duration::from_secs(60)).await;
        assert_eq!(length.expect("the sender is quick"), 500);
    }
}
