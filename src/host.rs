//! A host's own server and the engine in it, ended together.

use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use mediamill_actors::{
    batch_supervisor::Drain,
    pipeline::{Pipeline, Stopped},
};

use crate::http::Handle;

/// Runs a host's server with the engine in it until the process is told to stop, and then stops both in good order: no more work is taken,
/// running attempts have `limit` to finish and the rest is handed back, sockets and event streams are closed so that their clients come back
/// to the next process, and requests get their answers, for which the server's `shutdown_timeout` is the limit. When this answers, port and
/// data folder are free.
///
/// Signals are awaited here, so the server is told to leave them alone (`disable_signals`). Otherwise it cuts requests off at Ctrl-C.
///
/// A server that is stopped by its own handle ends the engine too.
///
/// # Errors
/// A sentence: the engine stopped by itself, or the server did not end well.
pub async fn host(server: Server, pipeline: Pipeline, handle: Handle, limit: Duration) -> Result<(), String> {
    let (http, mut task) = (server.handle(), actix_rt::spawn(server));
    let mut served = None;
    tokio::select! {
        () = told_to_stop() => log::info!("stops; running attempts have {} s", limit.as_secs()),
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
    let broken = |error: &dyn std::fmt::Display| format!("the server did not stop in good order: {error}");
    served.map_err(|error| broken(&error))?.map_err(|error| broken(&error))
}

/// Ends the engine's work, then what its clients wait for.
pub(crate) async fn end(pipeline: &Pipeline, handle: &Handle, http: &ServerHandle, limit: Duration) {
    handle.announce_stop();
    // An engine that stopped by itself no longer answers.
    let _ = pipeline.supervisor.send(Drain(limit)).await;
    pipeline.stopped().await;
    handle.close();
    http.stop(true).await;
}

/// Ends when the process is told to stop: by Ctrl-C (SIGINT) or by SIGTERM, as service managers and containers do it.
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

/// Ends when the process is told to stop, by Ctrl-C.
#[cfg(not(unix))]
pub async fn told_to_stop() {
    let _ = actix_rt::signal::ctrl_c().await;
}
