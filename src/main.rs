//! The program `mediamill`. So far it dumps and restores stores; the commands that do the work come with the actors.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

#[actix_rt::main]
async fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // A damaged store makes sled panic while it opens; that becomes an error with a sentence.
        if std::thread::current().name() != Some(mediamill_actors::store::OPENING_THREAD) {
            quiet(panic);
        }
    }));
    match cli::Arguments::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("mediamill: {message}");
            ExitCode::from(2)
        }
    }
}
