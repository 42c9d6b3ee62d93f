//! The program `mediamill`.

mod cli;

use std::io::{self, Write};

use clap::Parser as _;
use indicatif::MultiProgress;
use jiff::Timestamp;

/// What sled and the decoders hold is allocated by one thread and freed by another, which the allocator of most systems is slow at and keeps
/// much memory for.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[actix_rt::main]
async fn main() {
    let arguments = cli::Arguments::parse();
    let bars = MultiProgress::new();
    // What goes wrong with the store is told by us, once and with what to do.
    let filter = format!("{},sled=off", arguments.log_level());
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(filter))
        .target(env_logger::Target::Pipe(Box::new(AboveBars(bars.clone()))))
        .format(line)
        .init();
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // A damaged store makes sled panic while it opens; that becomes an error with a sentence.
        if std::thread::current().name() != Some(mediamill_actors::store::OPENING_THREAD) {
            quiet(panic);
        }
    }));
    let code = arguments.run(&bars).await.unwrap_or_else(|message| {
        eprintln!("mediamill: {message}");
        2
    });
    // Decoders that still run are not waited for, nor a reader that stands still.
    std::process::exit(code.into());
}

/// Writes a log line, as `env_logger` does by itself if it may bring a second library for the time.
fn line(out: &mut env_logger::fmt::Formatter, record: &log::Record<'_>) -> io::Result<()> {
    // What is told of a file may have lines of its own, and must not look like another one of the log.
    let message = record.args().to_string().replace('\n', "\n    ");
    writeln!(out, "[{:.0} {:<5} {}] {message}", Timestamp::now(), record.level(), record.target())
}

/// Log lines stand above the bars.
struct AboveBars(MultiProgress);

impl Write for AboveBars {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
