//! The measured figures and their limits.

use std::time::SystemTime;

use serde::Deserialize;

use super::Fallible;

/// Limit of the 99th percentile of the API's answer times under load, in ms.
pub(super) const MOST_ANSWER_MS: f64 = 1000.0;
/// Limit of the 99th percentile of the times from a change to its sockets on a quiet machine, in
/// ms.
pub(super) const MOST_DELAY_MS: f64 = 50.0;
/// Limit of the 99th percentile of the times from a change of one owner to all of its sockets, in
/// ms. The client, which is one thread, takes most of it.
pub(super) const MOST_FAN_OUT_MS: f64 = 250.0;
/// Most memory that the server may hold, in MiB.
pub(super) const MOST_MIB: f64 = 768.0;
/// The part of a message that is read: parsing must not take longer than the measured times.
#[derive(Deserialize)]
pub(super) struct Told<'a> {
    pub(super) action: &'a str,
    pub(super) seq: Option<u64>,
    timestamp: Option<&'a str>,
    pub(super) snapshot: Option<bool>,
    #[serde(borrow)]
    pub(super) payload: Option<Payload<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Payload<'a> {
    pub(super) upload_id: Option<&'a str>,
    pub(super) status: &'a str,
}

impl Told<'_> {
    /// Age of the change, in ms; `None` for percentages, which have no change.
    pub(super) fn delay(&self) -> Option<f64> {
        let at: jiff::Timestamp = self.timestamp.filter(|_| self.action == "batch_progress")?.parse().ok()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(now.as_secs_f64() * 1000.0 - at.as_millisecond() as f64)
    }
}

/// Prints the quantiles of `times`. Fails if the 99th percentile exceeds `most` ms.
pub(super) fn report(what: &str, times: &mut [f64], most: f64) -> Fallible<()> {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        times
            .get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or(f64::NAN)
    };
    println!(
        "{what} {:.1} ms (median), {:.1} ms (p99), {:.1} ms (worst) of {}",
        at(0.5),
        at(0.99),
        at(1.0),
        times.len()
    );
    if at(0.99) <= most { Ok(()) } else { Err(format!("{what} more than {most} ms (p99)").into()) }
}
