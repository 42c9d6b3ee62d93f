//! What is measured, and what it may be at most.

use std::time::SystemTime;

use serde::Deserialize;

use super::Fallible;

/// Longest time in which 99 of 100 answers of the API came while all was busy, in ms.
pub(super) const MOST_ANSWER_MS: f64 = 1000.0;
/// Longest time after which 99 of 100 changes reached their sockets while all was quiet, in ms.
pub(super) const MOST_DELAY_MS: f64 = 50.0;
/// Longest time after which 99 of 100 changes of one owner reached all of its sockets, in ms; most
/// of it is the client's, which is one thread.
pub(super) const MOST_FAN_OUT_MS: f64 = 250.0;
/// Most memory that the server may hold, in MiB.
pub(super) const MOST_MIB: f64 = 768.0;
/// As much of a message as is looked at: the client must not take longer than what it measures.
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
    /// How old the change is that it tells of, in ms; nothing for percentages, which tell of no change.
    pub(super) fn delay(&self) -> Option<f64> {
        let at: jiff::Timestamp = self.timestamp.filter(|_| self.action == "batch_progress")?.parse().ok()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(now.as_secs_f64() * 1000.0 - at.as_millisecond() as f64)
    }
}

/// Says how long something took; it fails if 99 of 100 took longer than `most` ms.
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
