//! `ffmpeg` and `ffprobe` as child processes that can do little: no network, no other file, nothing written, no input from
//! the terminal, an empty environment, bounded memory, processor time and output. A child dies with the future that waits for it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

/// What a child maps into memory before it has read a byte, in bytes.
const BASE_BYTES: u64 = 320 << 20;
/// Most that is kept of what a child says.
const MAX_LOG_BYTES: usize = 1 << 20;

/// Where the programs lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) ffmpeg: PathBuf,
    pub(super) ffprobe: PathBuf,
}

/// What a child may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    /// Memory beyond what it maps at its start, in bytes.
    pub(super) memory: u64,
    /// Processor time.
    pub(super) cpu: Duration,
    /// Output that is wanted, as a number of pieces of so many bytes; it is ended if it gives more.
    pub(super) output: (usize, usize),
}

/// What a child gave.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: ExitStatus,
    /// The pieces of output; the last one may be short.
    pub(super) output: Vec<Vec<u8>>,
    pub(super) log: String,
    /// It gave more than it was allowed to, and was ended for that.
    pub(super) flooded: bool,
}

impl Programs {
    /// Looks for both on `PATH`.
    ///
    /// # Errors
    /// The name of the one that is not there.
    pub(super) fn find() -> Result<Self, &'static str> {
        Self::find_on(std::env::var_os("PATH").as_deref())
    }

    fn find_on(path: Option<&OsStr>) -> Result<Self, &'static str> {
        let find = |name: &'static str| {
            // A place that is not absolute would be another one for a child.
            let mut places =
                std::env::split_paths(path.unwrap_or_default()).filter(|place| place.is_absolute());
            let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
            places.find_map(|place| Some(place.join(&file)).filter(|file| executable(file))).ok_or(name)
        };
        Ok(Self { ffmpeg: find("ffmpeg")?, ffprobe: find("ffprobe")? })
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

/// Runs a program to its end with `input` on its standard input.
///
/// # Errors
/// The program cannot be started, or waited for.
pub(super) async fn run(
    program: &Path,
    arguments: Vec<OsString>,
    input: Option<Vec<u8>>,
    allowance: Allowance,
) -> std::io::Result<Answer> {
    let mut command = confined(program, allowance);
    command
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .env("AV_LOG_FORCE_NOCOLOR", "1")
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut group = Group::of(&child);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A child that has seen enough closes its end.
            let _ = stdin.write_all(&input).await;
        }
    };
    let mut output = Vec::new();
    let mut log = Vec::new();
    let flooded = {
        // Whatever a child would say beyond that is not wanted, and it would wait for ever for somebody to listen.
        let read = async {
            let more = pieces(stdout, allowance.output, &mut output).await;
            if more {
                group.kill();
            }
            more
        };
        let listen = async {
            let mut said = Vec::new();
            let more = pieces(stderr, (MAX_LOG_BYTES, 1), &mut said).await;
            if more {
                group.kill();
            }
            log = said.pop().unwrap_or_default();
            more
        };
        let ((), more, said_more) = tokio::join!(write, read, listen);
        more || said_more
    };
    let status = child.wait().await?;
    group.ended();
    Ok(Answer { status, output, log: String::from_utf8_lossy(&log).into_owned(), flooded })
}

/// Reads so many pieces of so many bytes; tells whether there was more.
async fn pieces(
    pipe: Option<impl AsyncRead + Unpin>,
    (size, count): (usize, usize),
    pieces: &mut Vec<Vec<u8>>,
) -> bool {
    let Some(mut pipe) = pipe else { return false };
    for _ in 0..count {
        let mut piece = Vec::with_capacity(size.min(1 << 20));
        // What was read before an error is as good as before an end.
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

/// The shell sets the limits, which a process can only do for itself, and becomes the program. One that the system does not
/// know is left out. A file may not grow by a byte.
#[cfg(unix)]
fn confined(program: &Path, allowance: Allowance) -> Command {
    const LIMITS: &str =
        "{ ulimit -c 0; ulimit -f 0; ulimit -t \"$1\"; ulimit -v \"$2\"; } 2>/dev/null; shift 2; exec \"$@\"";
    let seconds = allowance.cpu.as_secs().max(1);
    let kib = (allowance.memory + BASE_BYTES) >> 10;
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(LIMITS).arg("sh").arg(seconds.to_string()).arg(kib.to_string()).arg(program);
    // A group of its own: it hears no Ctrl-C, and what it might start ends with it.
    command.process_group(0).current_dir("/");
    command
}

#[cfg(not(unix))]
fn confined(program: &Path, _: Allowance) -> Command {
    Command::new(program)
}

/// The child's process group, which is ended when this is dropped.
struct Group(Option<u32>);

impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        Self(child.id())
    }

    #[cfg(unix)]
    fn kill(&self) {
        let group = self.0.and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(group) = group {
            // It may have ended by itself.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }

    #[cfg(not(unix))]
    fn kill(&self) {}

    /// It was waited for, and its number may belong to another process by now.
    fn ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_is_named() {
        assert_eq!(Programs::find_on(None), Err("ffmpeg"));
        assert_eq!(Programs::find_on(Some(OsStr::new("/nowhere:relative"))), Err("ffmpeg"));
    }
}
