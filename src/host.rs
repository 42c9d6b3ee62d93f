//! A host's own server and the engine in it, stopped together.

use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use mediamill_actors::{
    batch_supervisor::Drain,
    pipeline::{Pipeline, Stopped},
};

use crate::http::Handle;

/// Runs a host's server with the engine in it until the process gets a signal to stop, and then shuts both
/// down gracefully: no more work is taken, running attempts have `limit` to finish and the others are handed
/// back; WebSockets and event streams are closed, so that their clients reconnect; open requests are answered
/// within the server's `shutdown_timeout`. Port and data folder are free when this returns.
///
/// This function handles the signals, so the server needs `disable_signals`; otherwise it aborts requests at
/// Ctrl-C.
///
/// If the server is stopped by its own handle, the engine stops too.
///
/// # Errors
/// A sentence: the engine stopped by itself, or the server failed.
pub async fn host(server: Server, pipeline: Pipeline, handle: Handle, limit: Duration) -> Result<(), String> {
    let (http, mut task) = (server.handle(), actix_rt::spawn(server));
    let mut served = None;
    tokio::select! {
        () = told_to_stop() => log::info!("stopping; running attempts have {} s", limit.as_secs()),
        _ = pipeline.stopped() => {}
        it = &mut task => served = Some(it),
    }
    end(&pipeline, &handle, &http, limit).await;
    let served = match served {
        Some(served) => served,
        None => task.await,
    };
    drop(handle);
    match pipeline.stop(Duration::ZERO).await {
        Stopped::Drained => {}
        why => return Err(why.to_string()),
    }
    let broken = |error: &dyn std::fmt::Display| format!("the server did not shut down gracefully: {error}");
    served.map_err(|error| broken(&error))?.map_err(|error| broken(&error))
}

/// Stops the engine, then closes the streams and stops the server.
pub(crate) async fn end(pipeline: &Pipeline, handle: &Handle, http: &ServerHandle, limit: Duration) {
    handle.announce_stop();
    // There is no answer from an engine that stopped by itself.
    let _ = pipeline.supervisor.send(Drain(limit)).await;
    pipeline.stopped().await;
    handle.close();
    http.stop(true).await;
}

/// Completes when the process gets a signal to stop: Ctrl-C (SIGINT), or SIGTERM from service managers and
/// containers.
#[cfg(unix)]
pub async fn told_to_stop() {
    use actix_rt::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = actix_rt::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = actix_rt::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// Completes when the process gets a signal to stop: Ctrl-C.
#[cfg(not(unix))]
pub async fn told_to_stop() {
    let _ = actix_rt::signal::ctrl_c().await;
}
