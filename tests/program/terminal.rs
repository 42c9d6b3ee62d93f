//! The program at a terminal of 80 columns: a pseudo-terminal, and the screen that a person would see.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    num::NonZero,
    process::{Child, Command, ExitStatus},
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

const ROWS: NonZero<u16> = NonZero::new(24).expect("not zero");
const COLUMNS: NonZero<u16> = NonZero::new(80).expect("not zero");
/// Rows that the terminal keeps above the screen.
const SCROLLBACK: usize = 2000;

/// A program that runs at a terminal.
pub struct Terminal {
    child: Child,
    master: File,
    screen: vt100::Parser,
    /// All bytes that the program wrote.
    pub written: Vec<u8>,
}

impl Terminal {
    pub fn run(command: &mut Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let size = Winsize { ws_row: ROWS.get(), ws_col: COLUMNS.get(), ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("a size");
        let name = name.to_str().expect("a path");
        let ours = || File::options().read(true).write(true).open(name).expect("the other end");
        for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES"] {
            if command.get_envs().all(|(name, _)| name != variable) {
                command.env_remove(variable);
            }
        }
        command.env("TERM", "xterm-256color").stdin(ours()).stdout(ours()).stderr(ours());
        let child = command.spawn().expect("it runs");
        // The command keeps its ends open, and the terminal would not end with the program.
        command.stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        Self {
            child,
            master: File::from(master),
            screen: vt100::Parser::new(ROWS, COLUMNS, SCROLLBACK),
            written: Vec::new(),
        }
    }

    /// Reads until the screen matches, or until the program ends. `seen` looks at every screen on the way.
    pub fn until(&mut self, mut so: impl FnMut(&str) -> bool) -> bool {
        let mut chunk = [0; 4096];
        loop {
            // Row by row: a full row and the next one would count as one line.
            let rows: Vec<String> = self.screen.screen().rows(0, COLUMNS.get()).collect();
            if so(&rows.join("\n")) {
                return true;
            }
            match self.master.read(&mut chunk) {
                // The terminal has no other end any more.
                Ok(0) | Err(_) => return false,
                Ok(read) => {
                    self.written.extend_from_slice(&chunk[..read]);
                    self.screen.process(&chunk[..read]);
                }
            }
        }
    }

    /// Types something.
    pub fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("typed");
    }

    pub fn interrupt(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    }

    /// Waits for the end. Returns everything that was printed, row by row, as a person who scrolls up would
    /// see it.
    pub fn finish(mut self) -> (ExitStatus, Vec<String>, Vec<u8>) {
        self.until(|_| false);
        let status = self.child.wait().expect("it ends");
        let screen = self.screen.screen_mut();
        screen.set_scrollback(usize::MAX);
        let above = screen.scrollback();
        let mut rows: Vec<String> = Vec::new();
        for back in (1..=above).rev() {
            screen.set_scrollback(back);
            rows.extend(screen.rows(0, COLUMNS.get()).next());
        }
        screen.set_scrollback(0);
        rows.extend(screen.rows(0, COLUMNS.get()));
        while rows.last().is_some_and(|row| row.trim().is_empty()) {
            rows.pop();
        }
        (status, rows.into_iter().map(|row| row.trim_end().to_owned()).collect(), self.written)
    }
}
