//! A run in the program that holds the data folder, followed through its socket.

use std::future::Future;

use tokio::sync::mpsc;

use super::events::{End, Event};
use crate::cli::{Interrupt, client::Client, link::Wanted};

/// Starts the run and passes its events on until it is over, the command is interrupted, or the reader asks
/// for an end.
pub(super) async fn follow(
    client: &Client,
    wanted: &Wanted,
    reader: &mpsc::Sender<Event>,
    mut interrupt: Interrupt,
    told: impl Future<Output = End>,
) {
    let mut is_over = false;
    let lines =
        client.lines("local/process", wanted, async |line| match serde_json::from_slice::<Event>(&line) {
            Ok(event) => {
                is_over = matches!(event, Event::Over { .. });
                reader.send(event).await.is_ok() && !is_over
            }
            Err(error) => {
                is_over = true;
                let end =
                    End::Stopped(format!("{} sent an event that cannot be read: {error}", client.name()));
                let _ = reader.send(Event::Over { end, resting: 0 }).await;
                false
            }
        });
    let end = tokio::select! {
        followed = lines => match followed {
            Ok(()) if is_over => return,
            Ok(()) => End::Stopped(format!(
                "{} stopped; what it has accepted is kept, and the same command continues",
                client.name()
            )),
            Err(why) => End::Stopped(why),
        },
        () = interrupt.wait() => End::Interrupted,
        end = told => end,
    };
    let _ = reader.send(Event::Over { end, resting: 0 }).await;
}
