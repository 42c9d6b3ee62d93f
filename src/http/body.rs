//! A body that comes in: not more than may be, and not so slowly that it never ends.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{error::PayloadError, web::Bytes};
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep_until};

/// Passes a body on. It ends with [`PayloadError::Overflow`] if it is too long, and with [`io::ErrorKind::TimedOut`] if its sender is too slow.
///
/// Only the time counts in which it is waited for: what is done with the bytes may take as long as it likes.
pub(super) struct Paced<S> {
    body: S,
    /// Bytes that may still come.
    left: u64,
    /// As long as this is waited for bytes together, as many as `floor` must come.
    window: Duration,
    floor: u64,
    /// What was waited for, and what came, in the present window.
    waited: Duration,
    came: u64,
    /// Since when it is waited for bytes, and until when at the longest.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<S> Paced<S> {
    /// A body of at most `most` bytes. Within each `window` of waiting there must come `per_second` bytes for each second, and one in any case.
    pub(super) fn new(body: S, most: u64, window: Duration, per_second: u64) -> Self {
        let floor = (u128::from(per_second) * window.as_millis() / 1000).max(1) as u64;
        Self { body, left: most, window, floor, waited: Duration::ZERO, came: 0, waiting: None }
    }
}

impl<S> Stream for Paced<S>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Poll::Ready(next) = Pin::new(&mut this.body).poll_next(cx) {
            if let Some((since, _)) = this.waiting.take() {
                this.waited += since.elapsed();
            }
            let Some(Ok(bytes)) = &next else { return Poll::Ready(next) };
            this.came += bytes.len() as u64;
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
            if this.came < this.floor {
                return Poll::Ready(Some(Err(PayloadError::Io(io::ErrorKind::TimedOut.into()))));
            }
            (this.waited, this.came, this.waiting) = (Duration::ZERO, 0, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use tokio::time::sleep;

    use super::*;

    /// A body that sends a piece of `bytes` after each pause.
    fn body(pauses: Vec<u64>, bytes: usize) -> Pin<Box<impl Stream<Item = Result<Bytes, PayloadError>>>> {
        Box::pin(stream::iter(pauses).then(move |ms| async move {
            sleep(Duration::from_millis(ms)).await;
            Ok(Bytes::from(vec![0; bytes]))
        }))
    }

    async fn read(
        body: Pin<Box<impl Stream<Item = Result<Bytes, PayloadError>>>>,
        most: u64,
        slow_reader: Duration,
    ) -> Result<usize, PayloadError> {
        let mut paced = Paced::new(body, most, Duration::from_secs(10), 100);
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
    async fn a_slow_reader_is_not_the_fault_of_the_sender() {
        let length = read(body(vec![10; 50], 10), 5000, Duration::from_secs(60)).await;
        assert_eq!(length.expect("the sender is quick"), 500);
    }
}
