//! The command line as a person sees it, at a terminal of 80 columns.
#![cfg(unix)]

mod program;

use std::{fs, net::TcpListener, path::PathBuf, process::Command};

use program::{command, photo, picture, terminal::Terminal};

/// Names that are wider than their characters.
const WIDE: [&str; 4] =
    ["🏖️ beach 🌊.jpg", "写真旅行の思い出.jpg", "👩\u{200d}👧 가족.jpg", "Ünïcödé e\u{301}.jpg"];

/// A folder with pictures, and a data folder beside it.
struct Album(tempfile::TempDir);

impl Album {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("photos")).expect("made");
        Self(folder)
    }

    fn photos(&self) -> PathBuf {
        self.0.path().join("photos")
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.photos().join(name), bytes).expect("written");
    }

    fn process(&self, options: &[&str]) -> Command {
        let mut process = command();
        process.args(["process", "--data-dir"]).arg(self.0.path().join("data")).args(options);
        process.arg(self.photos());
        process
    }
}

/// Number of bars of the whole run on a screen.
fn bars(screen: &str) -> usize {
    screen.lines().filter(|row| row.contains('%') && row.contains(" files")).count()
}

#[test]
fn wide_names_leave_one_bar_and_failures_are_one_line_each() {
    let album = Album::new();
    for (number, name) in WIDE.into_iter().enumerate() {
        album.put(name, photo(number as u8));
        let cut = format!("cut {} {name}", "very ".repeat(16));
        album.put(&cut.replace(".jpg", ".bmp"), &picture(number as u8)[..600]);
    }
    let mut terminal = Terminal::run(&mut album.process(&[]));
    let (mut most, mut described) = (0, false);
    terminal.until(|screen| {
        most = most.max(bars(screen));
        described |= screen.contains("describing");
        false
    });
    let (status, rows, written) = terminal.finish();
    let all = rows.join("\n");
    assert_eq!(status.code(), Some(1), "{all}");
    assert_eq!((most, bars(&all), described), (1, 0, true), "{all}");
    assert_eq!(rows.iter().filter(|row| row.starts_with("failed")).count(), 4, "{all}");
    let has_reason = |row: &String| row.split_once(": ").is_some_and(|(_, reason)| reason.len() > 15);
    assert!(rows.iter().take(4).all(has_reason), "each failure has one row, with its reason: {all}");
    assert!(rows[4].starts_with("4 completed, 4 failed; "), "{all}");
    assert!(String::from_utf8_lossy(&written).contains("\u{1b}[31m"), "failures are red");
    // What to do next.
    for words in ["search", "serve", "ollama pull", "--provider ollama process"] {
        assert!(rows[5..].iter().any(|row| row.contains(words)), "{words}: {all}");
    }
}

#[test]
fn descriptions_are_shown_on_demand_and_colours_not_at_all_if_unwanted() {
    let album = Album::new();
    album.put("a.bmp", picture(1));
    let terminal = Terminal::run(album.process(&["-v"]).env("NO_COLOR", "1"));
    let (status, rows, written) = terminal.finish();
    let all = rows.join("\n");
    assert!(status.success(), "{all}");
    let line = rows.iter().position(|row| row == "completed a.bmp").expect("a line for the file");
    assert!(rows[line + 1].starts_with("          This is"), "{all}");
    let written = String::from_utf8_lossy(&written).into_owned();
    assert!((30..38).all(|colour| !written.contains(&format!("\u{1b}[{colour}m"))), "{written:?}");

    let terminal = Terminal::run(&mut album.process(&["--force"]));
    let (_, rows, _) = terminal.finish();
    assert!(rows[0].starts_with("1 completed; "), "{rows:?}");

    let (status, rows, _) = Terminal::run(&mut album.process(&["--force", "-q"])).finish();
    assert_eq!((status.code(), rows), (Some(0), Vec::new()));
}

#[test]
fn a_run_that_waits_says_so_in_one_row_and_ctrl_c_ends_it() {
    let album = Album::new();
    album.put("a.bmp", picture(1));
    let mut process = album.process(&["--provider", "ollama"]);
    // Nobody listens at an address that was given back.
    let unused = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port");
    let mut terminal =
        Terminal::run(process.env("MEDIAMILL__PROVIDER__BASE_URL", format!("http://{unused}")));
    let says = |row: &str| {
        row.starts_with("waiting for the model server since") && row.trim_end().ends_with("goes on)")
    };
    assert!(terminal.until(|screen| screen.lines().any(says)), "it waits");
    terminal.interrupt();
    let (status, rows, _) = terminal.finish();
    assert_eq!(status.code(), Some(130), "{rows:?}");
    assert!(rows.iter().any(|row| row.contains("1 left for the next run")), "{rows:?}");
    assert!(!rows.iter().any(|row| row.contains(" 0.0 files")), "{rows:?}");
}
