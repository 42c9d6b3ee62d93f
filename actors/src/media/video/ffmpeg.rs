//! Runs `ffmpeg` and `ffprobe` as confined child processes: they write no file, have an empty environment and
//! no terminal, and their memory, processor time and output are bounded; `confined.rs` takes further rights
//! away. A child is killed if the future that waits for it is dropped.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::confined::{self, Input, Spawned};

/// Address space that a child takes before it has read a byte, in bytes.
const BASE_BYTES: u64 = 320 << 20;
/// Most bytes of a child's standard error.
const MAX_LOG_BYTES: usize = 1 << 20;

/// The paths of the programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Programs {
    pub(super) ffmpeg: PathBuf,
    pub(super) ffprobe: PathBuf,
}

/// A program that is not on `PATH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Ffmpeg,
    Ffprobe,
}

impl Missing {
    /// What is missing and what to do, as the end of a sentence.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Ffmpeg => "ffmpeg is not on PATH: install the package ffmpeg",
            Self::Ffprobe => "ffprobe is not on PATH: install the package ffmpeg",
        }
    }
}

/// The limits of a child.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    /// Memory in addition to [`BASE_BYTES`], in bytes.
    pub(super) memory: u64,
    /// Processor time.
    pub(super) cpu: Duration,
    /// Bytes of a piece of output, and the number of pieces. A child that writes more is killed.
    pub(super) output: (usize, usize),
}

/// The result of a child.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: ExitStatus,
    /// The pieces of output; the last one may be short.
    pub(super) output: Vec<Vec<u8>>,
    /// Its standard error.
    pub(super) log: String,
    /// It wrote more than it was allowed to and was killed.
    pub(super) flooded: bool,
}

impl Programs {
    /// Looks for both on `PATH`.
    ///
    /// # Errors
    /// The first one that is missing.
    pub(crate) fn find() -> Result<Self, Missing> {
        Self::find_on(std::env::var_os("PATH").as_deref())
    }

    fn find_on(path: Option<&OsStr>) -> Result<Self, Missing> {
        let find = |name: &str, missing| {
            // The child has another working folder, so relative folders would not mean the same.
            let mut places =
                std::env::split_paths(path.unwrap_or_default()).filter(|place| place.is_absolute());
            let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
            places.find_map(|place| Some(place.join(&file)).filter(|file| executable(file))).ok_or(missing)
        };
        Ok(Self { ffmpeg: find("ffmpeg", Missing::Ffmpeg)?, ffprobe: find("ffprobe", Missing::Ffprobe)? })
    }
}

#[cfg(unix)]
fn executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn executable(file: &Path) -> bool {
    file.is_file()
}

/// Runs a program to its end.
///
/// # Errors
/// The program cannot be started, or waited for.
pub(super) async fn run(
    program: &Path,
    arguments: Vec<OsString>,
    input: Input<'_>,
    allowance: Allowance,
) -> std::io::Result<Answer> {
    let mut command = limited(program, allowance);
    command
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .env("AV_LOG_FORCE_NOCOLOR", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let Spawned { mut child, mut group } = confined::spawn(command, program, &input).await?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let (Some(mut stdin), Input::Bytes(input)) = (stdin, input) {
            // A child that has read enough closes its end.
            let _ = stdin.write_all(input).await;
        }
    };
    let mut output = Vec::new();
    let mut log = Vec::new();
    let flooded = {
        // A child with more output would wait for ever for it to be read.
        let read = async {
            let more = pieces(stdout, allowance.output, &mut output).await;
            if more {
                group.kill();
            }
            more
        };
        let listen = async {
            let mut lines = Vec::new();
            let more = pieces(stderr, (MAX_LOG_BYTES, 1), &mut lines).await;
            if more {
                group.kill();
            }
            log = lines.pop().unwrap_or_default();
            more
        };
        let ((), more, more_log) = tokio::join!(write, read, listen);
        more || more_log
    };
    let status = child.wait().await?;
    group.ended();
    Ok(Answer { status, output, log: String::from_utf8_lossy(&log).into_owned(), flooded })
}

/// Reads `count` pieces of `size` bytes. Returns `true` if there was more.
async fn pieces(
    pipe: Option<impl AsyncRead + Unpin>,
    (size, count): (usize, usize),
    pieces: &mut Vec<Vec<u8>>,
) -> bool {
    let Some(mut pipe) = pipe else { return false };
    for _ in 0..count {
        let mut piece = Vec::with_capacity(size.min(1 << 20));
        // Bytes that were read before an error are as good as bytes before the end.
        let _ = (&mut pipe).take(size as u64).read_to_end(&mut piece).await;
        let short = piece.len() < size;
        if !piece.is_empty() {
            pieces.push(piece);
        }
        if short {
            return false;
        }
    }
    pipe.read_u8().await.is_ok()
}

/// A shell sets the limits, which a process can set only for itself, and becomes the program. Limits that the
/// system does not know are left out. No file may grow by a byte.
#[cfg(unix)]
fn limited(program: &Path, allowance: Allowance) -> Command {
    const LIMITS: &str =
        "{ ulimit -c 0; ulimit -f 0; ulimit -t \"$1\"; ulimit -v \"$2\"; } 2>/dev/null; shift 2; exec \"$@\"";
    let seconds = allowance.cpu.as_secs().max(1);
    let kib = (allowance.memory + BASE_BYTES) >> 10;
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(LIMITS).arg("sh").arg(seconds.to_string()).arg(kib.to_string()).arg(program);
    // In a group of its own it gets no Ctrl-C, and its own children are killed with it.
    command.process_group(0).current_dir("/");
    command
}

#[cfg(not(unix))]
fn limited(program: &Path, _: Allowance) -> Command {
    Command::new(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_is_named() {
        assert_eq!(Programs::find_on(None), Err(Missing::Ffmpeg));
        assert_eq!(Programs::find_on(Some(OsStr::new("/nowhere:relative"))), Err(Missing::Ffmpeg));
    }
}
