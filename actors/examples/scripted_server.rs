//! The scripted model server of the tests, alone: for trying the program without a model, and for tests with
//! the official clients (`tests/drift/run`).
//!
//! ```text
//! cargo run -p mediamill-actors --example scripted_server -- 11434
//! curl -d '{"delay_ms": 200, "chat": {"drip": {"every_ms": 100}}}' http://127.0.0.1:11434/script
//! curl http://127.0.0.1:11434/requests
//! ```

#[path = "../tests/support/model_server/mod.rs"]
mod model_server;

use std::net::SocketAddr;

use model_server::{ModelServer, Script};

#[actix_rt::main]
async fn main() {
    let port = std::env::args().nth(1).map_or(Ok(0), |it| it.parse());
    let Ok(port) = port else {
        eprintln!("usage: scripted_server [PORT]");
        std::process::exit(2);
    };
    let mut server = ModelServer::start_at(SocketAddr::from(([127, 0, 0, 1], port)), Script::default()).await;
    println!("{}", server.url());
    server.ended().await;
}
