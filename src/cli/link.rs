//! The private socket of a data folder: the program that holds the folder serves its API there, with the
//! routes of `local`, and other commands of the same user reach it.
//!
//! The socket is in the data folder, or below `$XDG_RUNTIME_DIR` if its path would be longer than a socket
//! may have. Only its owner may connect (0600). It is made under another name and renamed, so nobody
//! connects before its permissions are set, and one that a killed program left behind is replaced.

mod local;

use std::{
    io,
    os::unix::{
        fs::{DirBuilderExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use actix_rt::task::JoinHandle;
use actix_web::{App, HttpServer, dev::ServerHandle};
use mediamill::{Config, Handle, engine::pipeline::Pipeline};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use self::local::Local;
pub(super) use self::local::{About, PROTOCOL, Places, Role, Situation, Wanted};
use super::engine::Engine;

/// Longest path of a socket in bytes.
const MAX_PATH: usize = 107;
/// Name of the socket in the data folder.
const NAME: &str = "socket";
/// Beginning of the folder in which a socket is made.
const NASCENT: &str = ".s";
/// Length of the longest path below the data folder, that of a new socket: `/.sXXXXXX/s`.
const NASCENT_BYTES: usize = 11;
/// How long open requests may continue when the socket closes, in seconds.
const LAST_REQUESTS_S: u64 = 1;

/// Path of the socket of a data folder; `None` if it is too long for a socket and the system names no folder
/// for the user's sockets.
pub(super) fn path(data_dir: &Path) -> Option<PathBuf> {
    if data_dir.as_os_str().len() + NASCENT_BYTES <= MAX_PATH {
        return Some(data_dir.join(NAME));
    }
    let runtime = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR").filter(|it| !it.is_empty())?);
    let whole = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned());
    let hash = base16ct::lower::encode_string(&Sha256::digest(whole.as_os_str().as_encoded_bytes())[..8]);
    Some(runtime.join("mediamill").join(hash))
}

/// A socket that is being served.
pub(super) struct Link {
    socket: PathBuf,
    server: ServerHandle,
    task: JoinHandle<io::Result<()>>,
    /// Number of runs of other commands.
    guests: watch::Receiver<usize>,
    /// Holds a socket that others do not find.
    _hidden: Option<tempfile::TempDir>,
}

impl Link {
    /// Serves an engine at the socket of its data folder.
    ///
    /// # Errors
    /// A sentence: other commands do not reach this program.
    pub(super) fn serve(pipeline: &Pipeline, config: &Config, role: Role) -> Result<Self, String> {
        let data_dir = &config.engine.store.data_dir;
        let Some(socket) = path(data_dir) else {
            return Err(format!(
                "the path of {} is too long for a socket, so other commands do not reach this program; set \
                 XDG_RUNTIME_DIR, or choose a shorter path with --data-dir",
                data_dir.display()
            ));
        };
        let bound = bind(&socket).map_err(|error| {
            format!(
                "cannot make the socket {}, so other commands do not reach this program: {error}",
                socket.display()
            )
        });
        Self::start(bound?, socket, None, pipeline, config, role)
    }

    /// Serves an engine at a socket that other commands do not find, for the time of one command.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn hidden(pipeline: &Pipeline, config: &Config) -> Result<Self, String> {
        let failed = |error: io::Error| format!("cannot make a socket in a temporary folder: {error}");
        let folder = tempfile::Builder::new().prefix("mediamill-").tempdir().map_err(failed)?;
        let socket = folder.path().join(NAME);
        let listener = UnixListener::bind(&socket).map_err(failed)?;
        Self::start(listener, socket, Some(folder), pipeline, config, Role::Command)
    }

    fn start(
        listener: UnixListener,
        socket: PathBuf,
        hidden: Option<tempfile::TempDir>,
        pipeline: &Pipeline,
        config: &Config,
        role: Role,
    ) -> Result<Self, String> {
        let handle = Handle::with(pipeline, config, Local);
        let about = About::new(pipeline, config, role);
        let (engine, engine_config) = (Engine::of(pipeline), config.engine.clone());
        let (counter, guests) = watch::channel(0);
        let app = move || {
            let (engine, about, counter) = (engine.clone(), about.clone(), counter.clone());
            App::new()
                .configure(local::routes(engine, about, engine_config.clone(), counter))
                .configure(mediamill::site(handle.clone()))
        };
        let server = HttpServer::new(app)
            .workers(1)
            .disable_signals()
            .shutdown_timeout(LAST_REQUESTS_S)
            .listen_uds(listener)
            .map_err(|error| format!("cannot serve the socket {}: {error}", socket.display()))?
            .run();
        let handle = server.handle();
        Ok(Self { socket, server: handle, task: actix_rt::spawn(server), guests, _hidden: hidden })
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Number of runs of other commands that work through this program, and every change of it.
    pub(super) fn guests(&self) -> watch::Receiver<usize> {
        self.guests.clone()
    }

    /// Removes the socket and ends its connections.
    pub(super) async fn close(self) {
        if let Err(error) = std::fs::remove_file(&self.socket) {
            log::warn!("cannot remove the socket {}: {error}", self.socket.display());
        }
        self.server.stop(true).await;
        let _ = tokio::time::timeout(Duration::from_secs(LAST_REQUESTS_S), self.task).await;
    }
}

/// A listener at this path, which only its owner may connect to. It replaces an earlier one.
fn bind(socket: &Path) -> io::Result<UnixListener> {
    let folder = socket.parent().unwrap_or(Path::new("/"));
    if !folder.exists() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    // A folder that only its owner may enter.
    let nascent = tempfile::Builder::new().prefix(NASCENT).tempdir_in(folder)?;
    let born = nascent.path().join("s");
    let listener = UnixListener::bind(&born)?;
    std::fs::set_permissions(&born, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&born, socket)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_in_its_folder_unless_its_path_would_be_too_long() {
        let short = Path::new("/home/ann/.local/share/mediamill");
        assert_eq!(path(short), Some(short.join("socket")));
        let long = PathBuf::from(format!("/{}", "x".repeat(100)));
        assert!(path(&long).is_none_or(|socket| !socket.starts_with(&long)));
    }

    #[test]
    fn only_its_owner_may_connect_and_one_left_behind_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        for _ in 0..2 {
            drop(bind(&socket).expect("bound"));
            let mode = std::fs::metadata(&socket).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            assert!(std::os::unix::net::UnixStream::connect(&socket).is_err(), "nobody listens");
        }
        let _listener = bind(&socket).expect("bound");
        assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
        assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), 1, "nothing else is left");
    }
}
