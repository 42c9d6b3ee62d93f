//! Spawns child processes that may do little: see `ffmpeg.rs` for the whole of their limits.
//!
//! A thread restricts itself and spawns the child, which inherits the restrictions. The thread ends then, so
//! this process stays as it is. On Linux these hold, as far as the kernel has them:
//!
//! - no new privileges, so that setuid programs give none;
//! - Landlock: files can only be read, and only programs with their libraries, and the one file that the child
//!   is given; no signals to other processes, no TCP;
//! - seccomp: no sockets of any kind, no `io_uring`, no look into other processes.
//!
//! Elsewhere the child has its limits and its environment only.

use std::fs::File;
use std::io::{self, Seek as _};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use tokio::process::{Child, Command};

/// The standard input of a child.
#[derive(Debug)]
pub(super) enum Input<'a> {
    /// These bytes, through a pipe.
    Bytes(&'a [u8]),
    /// The file itself, which the child can open anew as `/dev/stdin`.
    File(Arc<File>),
}

/// A child and its process group, which is killed when this is dropped.
pub(super) struct Spawned {
    pub(super) child: Child,
    pub(super) group: Group,
}

/// Spawns `command`, which runs `program`, with its standard input.
///
/// # Errors
/// The child cannot be spawned.
///
/// # Panics
/// Outside of a tokio runtime.
pub(super) async fn spawn(mut command: Command, program: &Path, input: &Input<'_>) -> io::Result<Spawned> {
    let file = match input {
        Input::Bytes(_) => {
            command.stdin(Stdio::piped());
            None
        }
        Input::File(file) => {
            // Where `/dev/stdin` is no new handle, the child continues at this one's position.
            (&**file).rewind()?;
            command.stdin(file.try_clone()?);
            Some(Arc::clone(file))
        }
    };
    let (runtime, program) = (tokio::runtime::Handle::current(), program.to_owned());
    let (answer, spawned) = tokio::sync::oneshot::channel();
    let spawn = move || {
        let _runtime = runtime.enter();
        restrict(&program, file.as_deref());
        let spawned = command.spawn().map(|child| Spawned { group: Group::of(&child), child });
        // Nobody waits any more: the child is killed as it is dropped.
        drop(answer.send(spawned));
    };
    std::thread::Builder::new().name("mediamill-spawn".into()).spawn(spawn)?;
    spawned.await.unwrap_or_else(|_| Err(io::Error::other("the thread that starts programs panicked")))
}

/// Restricts the calling thread and its future children, as far as the kernel can.
#[cfg(target_os = "linux")]
fn restrict(program: &Path, file: Option<&File>) {
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        log::debug!("children may gain privileges: {error}");
    }
    if let Err(error) = linux::files(program, file) {
        log::debug!("Landlock does not confine a child: {error}");
    }
    if let Err(error) = linux::calls() {
        log::debug!("seccomp does not confine a child: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
fn restrict(_: &Path, _: Option<&File>) {}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::path::Path;
    use std::sync::OnceLock;

    use landlock::{
        ABI, Access as _, AccessFs, AccessNet, PathBeneath, Ruleset, RulesetAttr as _,
        RulesetCreatedAttr as _, RulesetError, Scope, path_beneath_rules,
    };
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

    /// The newest interface of Landlock that is known here; older kernels do what they can.
    const NEWEST: ABI = ABI::V7;
    /// Folders of programs and libraries.
    const PROGRAMS: [&str; 9] =
        ["/usr", "/bin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store", "/gnu/store"];
    /// Files that the loader and libraries look into.
    const SYSTEM: [&str; 7] = [
        "/etc/ld.so.cache",
        "/etc/ld.so.preload",
        "/dev/zero",
        "/dev/urandom",
        "/proc/cpuinfo",
        "/proc/meminfo",
        "/sys/devices/system",
    ];

    /// Lets the thread read programs, libraries and `file`, and nothing else.
    pub(super) fn files(program: &Path, file: Option<&File>) -> Result<(), RulesetError> {
        // A link in `PATH` may lead to a program elsewhere, with its libraries beside it.
        let program = program.canonicalize().unwrap_or_else(|_| program.to_owned());
        let libraries = program.parent().and_then(Path::parent).map(|folder| folder.join("lib"));
        let own = libraries.as_deref().into_iter().chain([program.as_path()]);
        let run = AccessFs::from_read(NEWEST);
        let look = AccessFs::ReadFile | AccessFs::ReadDir;
        let mut rules = Ruleset::default()
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()?
            .add_rules(path_beneath_rules(PROGRAMS, run))?
            .add_rules(path_beneath_rules(own, run))?
            .add_rules(path_beneath_rules(SYSTEM, look))?
            .add_rules(path_beneath_rules(["/dev/null"], AccessFs::ReadFile | AccessFs::WriteFile))?;
        if let Some(file) = file {
            rules = rules.add_rule(PathBeneath::new(file, AccessFs::ReadFile))?;
        }
        rules.restrict_self().map(drop)
    }

    /// Forbids system calls that no decoder needs.
    pub(super) fn calls() -> Result<(), seccompiler::Error> {
        static FILTER: OnceLock<BpfProgram> = OnceLock::new();
        let filter = match FILTER.get() {
            Some(filter) => filter,
            None => FILTER.get_or_init({
                let filter = filter()?;
                || filter
            }),
        };
        seccompiler::apply_filter(filter)
    }

    fn filter() -> Result<BpfProgram, seccompiler::Error> {
        let forbidden = [
            libc::SYS_socket,
            libc::SYS_socketpair,
            libc::SYS_connect,
            libc::SYS_io_uring_setup,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_mount,
        ];
        let rules = forbidden.into_iter().map(|call| (call, Vec::new())).collect();
        let (allow, refuse) = (SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32));
        let filter = SeccompFilter::new(rules, allow, refuse, std::env::consts::ARCH.try_into()?)?;
        Ok(filter.try_into()?)
    }
}

/// The child's process group, which is killed when this is dropped.
pub(super) struct Group(Option<u32>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id())
    }

    #[cfg(unix)]
    pub(super) fn kill(&self) {
        let group = self.0.and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(group) = group {
            // It may have ended already.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }

    #[cfg(not(unix))]
    pub(super) fn kill(&self) {}

    /// Forgets the group after the child has ended, since another process may get its number.
    pub(super) fn ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
