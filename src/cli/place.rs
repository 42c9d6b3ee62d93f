//! Where a command does its work: at a server, in the program that holds the data folder, or in the folder.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{
    Verbosity,
    client::Client,
    link::{self, About, Link, PROTOCOL, Role},
    terminal::from_home,
};
use mediamill::Config;
use mediamill_actors::{
    id::Owner,
    pipeline::{Options, Pipeline, StartError},
    store::{OpenError, Scope},
};

/// How long a program that locks the folder has to open its socket, or to end.
const SOON: Duration = Duration::from_secs(10);
/// Longest wait for a program that takes a connection and does not answer.
const ENDING: Duration = Duration::from_secs(2);

/// What all commands share besides the configuration.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) verbosity: Verbosity,
    /// The options with which another command finds the same data folder, with a space before each.
    pub(super) options: String,
    pub(super) owner: Owner,
    pub(super) server: Option<String>,
    pub(super) provider: Option<String>,
    pub(super) model: Option<String>,
}

/// Where a command does its work.
pub(super) enum Place {
    /// The server that `--server` names.
    Server(Client),
    /// The program that holds the data folder.
    Holder(Client, Box<About>),
    /// The folder itself, which nobody holds.
    Folder,
}

/// An engine, or somebody who has one.
pub(super) enum Started {
    Here(Box<Pipeline>),
    Elsewhere(Client, Box<About>),
}

impl Shared {
    /// Finds the place.
    ///
    /// # Errors
    /// A sentence: there is a program, and it cannot be used.
    pub(super) async fn place(&self, config: &Config) -> Result<Place, String> {
        if let Some(address) = &self.server {
            return Client::remote(address).map(Place::Server);
        }
        Ok(match self.holder(config).await? {
            Some((client, about)) => Place::Holder(client, about),
            None => Place::Folder,
        })
    }

    /// The program that holds the data folder, if one serves its socket.
    async fn holder(&self, config: &Config) -> Result<Option<(Client, Box<About>)>, String> {
        let Some(socket) = link::path(&config.engine.store.data_dir) else { return Ok(None) };
        let client = Client::local(&socket, self.owner.clone())?;
        let began = Instant::now();
        let about = loop {
            if !self.answers(&socket, config).await? {
                return Ok(None);
            }
            match client.get::<About>("local/about", &[]).await {
                Ok(about) => break about,
                // A program that is ending may still take the connection.
                Err(_) if began.elapsed() < ENDING => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(error) => return Err(error),
            }
        };
        if about.protocol != PROTOCOL {
            return Err(format!(
                "the mediamill that holds {} is version {} (process {}), and this one is {}, and they do not \
                 understand each other; use the same version, or stop the other one first",
                from_home(&config.engine.store.data_dir),
                about.version,
                about.pid,
                env!("CARGO_PKG_VERSION")
            ));
        }
        Ok(Some((client, Box::new(about))))
    }

    /// Whether a program listens at the socket.
    async fn answers(&self, socket: &Path, config: &Config) -> Result<bool, String> {
        use std::io::ErrorKind;
        match tokio::net::UnixStream::connect(socket).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(format!(
                "cannot reach the mediamill that holds {}: {error}; run the command as the same user",
                from_home(&config.engine.store.data_dir)
            )),
            // There is no socket, or a killed program left it. Any other fault is one of the folder, which the
            // store names when it is opened.
            Err(_) => Ok(false),
        }
    }

    /// Starts an engine in this process, or finds the program that holds the folder. One that locks it without
    /// a socket is about to open one, or is a command that ends soon.
    ///
    /// # Errors
    /// A sentence: the engine does not start, or the folder stays locked.
    pub(super) async fn start(&self, config: &Config, scope: Scope) -> Result<Started, String> {
        let began = Instant::now();
        loop {
            let options = Options { scope: scope.clone(), ..Options::default() };
            match Pipeline::start_with(config.engine.clone(), options).await {
                Ok(pipeline) => return Ok(Started::Here(Box::new(pipeline))),
                Err(StartError::Open(OpenError::Locked { .. })) if began.elapsed() < SOON => {}
                Err(error) => return Err(error.to_string()),
            }
            if let Some((client, about)) = self.holder(config).await? {
                return Ok(Started::Elsewhere(client, about));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Refuses options that only the program that holds the folder could have followed when it started.
    pub(super) fn must_suit(&self, about: &About) -> Result<(), String> {
        let differs = |option: &str, wanted: &str, present: &str| {
            format!(
                "{option} {wanted} has no effect here: the mediamill that holds the data folder (process {}) \
                 runs with {present}; stop it first, or leave the option out",
                about.pid
            )
        };
        if let Some(provider) = self.provider.as_ref().filter(|it| **it != about.provider) {
            return Err(differs("--provider", provider, &about.provider));
        }
        let present = about.vision_model.as_deref();
        if let Some(model) = self.model.as_deref().filter(|model| Some(*model) != present) {
            return Err(differs("--model", model, present.unwrap_or("its default model")));
        }
        Ok(())
    }

    /// Serves the socket of the data folder. Without it the program works all the same.
    pub(super) fn link(&self, pipeline: &Pipeline, config: &Config, role: Role) -> Option<Link> {
        Link::serve(pipeline, config, role).map_err(|error| log::warn!("{error}")).ok()
    }

    /// Asks the place, and an engine of this command's own if nobody holds the folder. That engine begins no
    /// work.
    ///
    /// # Errors
    /// A sentence.
    pub(super) async fn ask(&self, config: &Config) -> Result<Asked, String> {
        let (client, about) = match self.place(config).await? {
            Place::Server(client) => return Ok(Asked { client, about: None, own: None }),
            Place::Holder(client, about) => (client, about),
            Place::Folder => {
                super::must_exist(&config.engine)?;
                match self.start(config, Scope::Below(Vec::new())).await? {
                    Started::Here(pipeline) => return self.own(*pipeline, config).await,
                    Started::Elsewhere(client, about) => (client, about),
                }
            }
        };
        Ok(Asked { client, about: Some(about), own: None })
    }

    async fn own(&self, pipeline: Pipeline, config: &Config) -> Result<Asked, String> {
        let served = Link::hidden(&pipeline, config);
        let client = served.and_then(|link| Ok((Client::local(link.socket(), self.owner.clone())?, link)));
        match client {
            Ok((client, link)) => Ok(Asked { client, about: None, own: Some((pipeline, link)) }),
            Err(error) => {
                pipeline.stop(Duration::ZERO).await;
                Err(error)
            }
        }
    }
}

/// Somebody who answers.
pub(super) struct Asked {
    pub(super) client: Client,
    /// The program that holds the folder, if another one does.
    pub(super) about: Option<Box<About>>,
    own: Option<(Pipeline, Link)>,
}

impl Asked {
    /// Whether nobody works on uploads now.
    pub(super) fn is_idle(&self) -> bool {
        self.own.is_some()
    }

    /// Frees the folder, if this command holds it.
    pub(super) async fn done(self) {
        if let Some((pipeline, link)) = self.own {
            link.close().await;
            pipeline.stop(Duration::ZERO).await;
        }
    }
}
