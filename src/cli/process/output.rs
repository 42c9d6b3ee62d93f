//! Lines on standard output, written by a thread of their own: a reader that stands still, like a pager, must hold up neither the engine
//! nor Ctrl-C.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal as _, Write as _},
    thread::{self, JoinHandle},
    time::Duration,
};

use indicatif::MultiProgress;
use tokio::sync::mpsc;

/// Lines that the thread may have before it.
const AHEAD: usize = 64;
/// Lines that wait before no more work is taken in.
const MOST_WAITING: usize = 1024;

/// See the module.
pub(super) struct Output {
    lines: mpsc::Sender<String>,
    waiting: VecDeque<String>,
    writer: Option<JoinHandle<io::Result<()>>>,
}

impl Output {
    /// # Errors
    /// The system has no thread to give.
    pub(super) fn new(bars: &MultiProgress) -> io::Result<Self> {
        let (lines, mut taken) = mpsc::channel::<String>(AHEAD);
        // Bars are drawn around what stands on the same terminal.
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

    /// Whether the reader keeps up.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MOST_WAITING
    }

    /// Hands one more line to the thread; ends only if there is one, or with the error.
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

    /// Why the thread ended.
    fn failed(&mut self) -> io::Error {
        match self.writer.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => error,
            _ => io::Error::other("what writes standard output ended"),
        }
    }

    /// Waits until all is written, at most so long if there is a limit.
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
                Ok(Err(_)) | Err(_) => Err(io::Error::other("what writes standard output ended")),
            }
        };
        match limit {
            Some(limit) => tokio::time::timeout(limit, all).await.unwrap_or(Ok(())),
            None => all.await,
        }
    }
}
