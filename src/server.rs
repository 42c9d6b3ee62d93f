//! The whole server: engine, routes and listener, started and stopped together.

mod connections;

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use actix_rt::task::JoinHandle;
use actix_web::{
    App, HttpServer,
    dev::{Extensions, ServerHandle},
    middleware::from_fn,
};
use mediamill_actors::pipeline::{Options, Pipeline, Stopped};

use self::connections::Connections;
use crate::{
    config::{self, Config},
    host,
    http::{self, Handle},
};

/// How long open requests may continue after the engine has stopped, in seconds.
const LAST_REQUESTS_S: u64 = 3;

/// A running server.
pub struct Server {
    address: SocketAddr,
    pipeline: Pipeline,
    handle: Handle,
    http: ServerHandle,
    task: JoinHandle<std::io::Result<()>>,
}

/// Starts the engine in the present actix system and serves it at a listener, until it is stopped.
///
/// # Errors
/// A sentence that says how to fix it: a value of the configuration is invalid, the listener accepts
/// connections from other machines without authentication, or the store does not open.
pub async fn run(config: Config, listener: TcpListener) -> Result<Server, String> {
    run_with(config, listener, Options::default()).await
}

/// As [`run`], with options that a configuration file cannot express.
///
/// # Errors
/// As [`run`].
pub async fn run_with(config: Config, listener: TcpListener, options: Options) -> Result<Server, String> {
    config.validate()?;
    let address =
        listener.local_addr().map_err(|error| format!("cannot find the address of the listener: {error}"))?;
    if !address.ip().is_loopback() && !config.auth.is_configured() {
        return Err(format!(
            "{address} can be reached by others, but there is no authentication; set auth.keys or \
             auth.jwt_secret_env, or listen on 127.0.0.1"
        ));
    }
    let pipeline =
        Pipeline::start_with(config.engine.clone(), options).await.map_err(|error| error.to_string())?;
    let handle = match Handle::new(&pipeline, &config) {
        Ok(handle) => handle,
        Err(error) => {
            pipeline.stop(Duration::ZERO).await;
            return Err(error);
        }
    };
    let server = match serve(&config.server, listener, handle.clone()) {
        Ok(server) => server,
        Err(error) => {
            drop(handle);
            pipeline.stop(Duration::ZERO).await;
            return Err(format!("cannot listen at {address}: {error}"));
        }
    };
    let http = server.handle();
    Ok(Server { address, pipeline, handle, http, task: actix_rt::spawn(server) })
}

fn serve(
    config: &config::Server,
    listener: TcpListener,
    handle: Handle,
) -> std::io::Result<actix_web::dev::Server> {
    let workers = config.workers.map_or_else(processors, |it| it.get() as usize);
    let (connections, origins) = (Connections::new(config), config.allowed_origins.clone());
    let app = move || {
        let mut cors = actix_cors::Cors::default()
            .allowed_methods(["GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"])
            .allowed_headers(["authorization", "content-type", "last-event-id", "range"])
            .allowed_headers(http::RESUMABLE_REQUEST_HEADERS)
            .expose_headers(http::RESUMABLE_ANSWER_HEADERS)
            .max_age(600);
        for origin in &origins {
            cors = cors.allowed_origin(origin);
        }
        App::new()
            .configure(http::site(handle.clone()))
            .wrap(actix_web::middleware::Condition::new(!origins.is_empty(), cors))
            .wrap(from_fn(http::log))
            .wrap(from_fn(connections::note))
    };
    let server = HttpServer::new(app)
        .workers(workers)
        .max_connections((config.max_connections as usize).div_ceil(workers))
        .keep_alive(config.keep_alive)
        .client_request_timeout(config.head_timeout)
        .client_disconnect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .disable_signals()
        .shutdown_timeout(LAST_REQUESTS_S)
        .on_connect(move |connection, data: &mut Extensions| connections.register(connection, data))
        .listen(listener)?;
    Ok(server.run())
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Server {
    /// The address of the listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The engine.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Completes when the engine stops by itself, with the reason.
    pub fn stopped(&self) -> impl Future<Output = Stopped> + 'static {
        self.pipeline.stopped()
    }

    /// Shuts down gracefully: no more work is taken, running attempts have `limit` to finish and the others
    /// are handed back; then streams are closed, so that their clients reconnect, and open requests are
    /// answered. Port and data folder are free when this returns.
    pub async fn stop(self, limit: Duration) -> Stopped {
        let Self { pipeline, handle, http, task, .. } = self;
        host::end(&pipeline, &handle, &http, limit).await;
        if let Err(error) = task.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            log::warn!("the server did not shut down gracefully: {error}");
        }
        drop(handle);
        pipeline.stop(Duration::ZERO).await
    }
}
