//! The program `mediamill`.

mod cli;

use std::io::{self, Write};

use clap::Parser as _;
use indicatif::MultiProgress;
use jiff::Timestamp;
use mediamill_actors::text;

/// sled and the decoders free memory in other threads than they allocate it in, at which the allocators of
/// most systems are slow, and for which they keep much memory.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[actix_rt::main]
async fn main() {
    let arguments = cli::Arguments::parse();
    keep_to_ourselves();
    let bars = MultiProgress::new();
    // The engine reports faults of the store itself, once and with advice.
    let filter = format!("{},sled=off", arguments.log_level());
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(filter))
        .target(env_logger::Target::Pipe(Box::new(AboveBars(bars.clone()))))
        .format(line)
        .init();
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // sled panics if it opens a damaged store; the engine turns that into an error. A thread that ends may
        // drop a request after the pool that it came from.
        let opens = std::thread::current().name() == Some(mediamill_actors::store::OPENING_THREAD);
        if !opens && !is_of_an_ended_thread(panic) {
            quiet(panic);
        }
    }));
    let code = arguments.run(&bars).await.unwrap_or_else(|message| {
        eprintln!("mediamill: {}", text::one_line(&message));
        2
    });
    // Neither running decoders nor a blocked reader delay the exit.
    std::process::exit(code.into());
}

/// Whether a value was used whose thread has ended, which is harmless then.
fn is_of_an_ended_thread(panic: &std::panic::PanicHookInfo<'_>) -> bool {
    let text = panic.payload().downcast_ref::<String>().map(String::as_str);
    text.is_some_and(|text| text.starts_with("cannot access a Thread Local Storage value"))
}

/// Keeps files that the program makes from other users, and open files that it was started with from the child
/// processes that decode videos.
#[cfg(unix)]
fn keep_to_ourselves() {
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    close_fds::set_fds_cloexec(3, &[]);
}

#[cfg(not(unix))]
fn keep_to_ourselves() {}

/// Writes a log line in the format of `env_logger`, which would need a second library for the time.
fn line(out: &mut env_logger::fmt::Formatter, record: &log::Record<'_>) -> io::Result<()> {
    // A message with line breaks must not look like several log lines, and a name in it must not reach a terminal
    // as commands.
    let message = record.args().to_string();
    let message: Vec<_> = message.lines().map(text::one_line).collect();
    let message = message.join("\n    ");
    writeln!(out, "[{:.0} {:<5} {}] {message}", Timestamp::now(), record.level(), record.target())
}

/// Standard error, above the progress bars.
struct AboveBars(MultiProgress);

impl Write for AboveBars {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
