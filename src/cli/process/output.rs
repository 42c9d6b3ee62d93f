//! Lines for standard output, written by a thread of their own, so that a blocked reader such as a pager
//! holds up neither the engine nor Ctrl-C.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal as _, Write as _},
    thread::{self, JoinHandle},
    time::Duration,
};

use indicatif::MultiProgress;
use tokio::sync::mpsc;

/// Capacity of the queue to the thread, in lines.
const AHEAD: usize = 64;
/// Number of waiting lines at which no more work is submitted.
const MAX_WAITING: usize = 1024;

/// See the module.
pub(super) struct Output {
    lines: mpsc::Sender<String>,
    waiting: VecDeque<String>,
    writer: Option<JoinHandle<io::Result<()>>>,
}

impl Output {
    /// # Errors
    /// The system cannot start a thread.
    pub(super) fn new(bars: &MultiProgress) -> io::Result<Self> {
        let (lines, mut taken) = mpsc::channel::<String>(AHEAD);
        // On a terminal, the bars are redrawn below the lines.
        let bars = io::stdout().is_terminal().then(|| bars.clone());
        let writer = thread::Builder::new().name("mediamill-output".into()).spawn(move || {
            while let Some(mut line) = taken.blocking_recv() {
                line.push('\n');
                let print = || io::stdout().write_all(line.as_bytes());
                match &bars {
                    Some(bars) => bars.suspend(print)?,
                    None => print()?,
                }
            }
            io::stdout().flush()
        })?;
        Ok(Self { lines, waiting: VecDeque::new(), writer: Some(writer) })
    }

    pub(super) fn print(&mut self, line: String) {
        if !self.waiting.is_empty() {
            return self.waiting.push_back(line);
        }
        if let Err(mpsc::error::TrySendError::Full(line) | mpsc::error::TrySendError::Closed(line)) =
            self.lines.try_send(line)
        {
            self.waiting.push_back(line);
        }
    }

    /// Returns `true` while the reader keeps up.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING
    }

    /// Hands one waiting line to the thread. Without one it does not return, unless writing failed.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) async fn hand_over(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            self.lines.closed().await;
        }
        if let Ok(permit) = self.lines.reserve().await {
            if let Some(line) = self.waiting.pop_front() {
                permit.send(line);
            }
            return Ok(());
        }
        Err(self.failed())
    }

    /// The error that ended the thread.
    fn failed(&mut self) -> io::Error {
        match self.writer.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => error,
            _ => io::Error::other("the thread that writes standard output ended"),
        }
    }

    /// Waits until all lines are written, up to the limit if there is one.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) async fn finish(mut self, limit: Option<Duration>) -> io::Result<()> {
        let all = async move {
            while !self.waiting.is_empty() {
                self.hand_over().await?;
            }
            let Self { lines, writer, .. } = self;
            drop(lines);
            let Some(writer) = writer else { return Ok(()) };
            let joined = tokio::task::spawn_blocking(move || writer.join()).await;
            match joined {
                Ok(Ok(written)) => written,
                Ok(Err(_)) | Err(_) => Err(io::Error::other("the thread that writes standard output ended")),
            }
        };
        match limit {
            Some(limit) => tokio::time::timeout(limit, all).await.unwrap_or(Ok(())),
            None => all.await,
        }
    }
}
