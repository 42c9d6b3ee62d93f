//! Several commands at one data folder: a running program holds it, and the others work through it.
#![cfg(unix)]

mod program;

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use program::{busy_server, command, photo, picture};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A data folder, and a folder with pictures beside it.
struct World {
    folder: tempfile::TempDir,
    data: PathBuf,
    photos: PathBuf,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let whole = folder.path().canonicalize().expect("it is there");
        let (data, photos) = (whole.join("data"), whole.join("photos"));
        fs::create_dir(&photos).expect("made");
        Self { folder, data, photos }
    }

    fn put(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.photos.join(name);
        fs::write(&path, bytes).expect("written");
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command();
        command.args(arguments).arg("--data-dir").arg(&self.data);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("it runs")
    }

    fn process(&self, options: &[&str]) -> Output {
        self.command(&["process"]).args(options).arg(&self.photos).output().expect("it runs")
    }

    fn serve(&self) -> Running {
        self.serve_by(&mut self.command(&["serve", "--listen", "127.0.0.1:0"]))
    }

    fn serve_by(&self, command: &mut Command) -> Running {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it runs");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("listens at ")?.1.split_once(',')?.0.to_owned()))
            .expect("it listens");
        std::thread::spawn(move || lines.for_each(drop));
        // The address is printed when the socket is there.
        Running { child, address }
    }

    /// A run of `process` that waits for its model server.
    fn waiting_process(&self) -> Running {
        self.waiting_process_of("")
    }

    /// The same, with a folder below the pictures.
    fn waiting_process_of(&self, folder: &str) -> Running {
        let mut command = self.command(&["process", "--provider", "ollama"]);
        command.arg(self.photos.join(folder)).env("MEDIAMILL__PROVIDER__BASE_URL", busy_server());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        let running = Running { child, address: String::new() };
        let path = self.photos.join(folder).to_string_lossy().trim_end_matches('/').to_owned();
        self.until(&["status", "--json"], |it| {
            let waits = it["situation"]["waits"].as_array();
            !it["running"].is_null()
                && waits.is_some_and(|it| it.iter().any(|it| it["folder"] == path.as_str()))
        });
        running
    }

    /// Repeats a command that prints one JSON object until the object matches.
    fn until(&self, arguments: &[&str], so: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let output = self.run(arguments);
            let object = objects(&output).pop().unwrap_or_default();
            if so(&object) {
                return object;
            }
            assert!(began.elapsed() < PATIENCE, "{object} {}", err(&output));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A program in the background.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal");
    }

    fn end(&mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn objects(output: &Output) -> Vec<Value> {
    out(output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn an_evening_beside_a_running_server() {
    let world = World::new();
    world.put("gardasee.bmp", picture(1));
    world.put("gerlitzen.bmp", picture(9));
    let cut = world.put("cut.bmp", &picture(2)[..600]);
    let mut server = world.serve();

    let socket = world.data.join("socket");
    assert_eq!(fs::metadata(&socket).expect("it is there").permissions().mode() & 0o777, 0o600);

    // The server takes the folder in place, and the command shows how each file ends.
    let output = world.process(&["--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    let files = objects(&output);
    assert_eq!(files.len(), 3, "{files:?}");
    assert_eq!(files.iter().filter(|it| it["status"] == "completed").count(), 2, "{files:?}");
    assert!(err(&output).contains("2 completed, 1 failed"), "{}", err(&output));
    let again = world.process(&["--json"]);
    let skipped = objects(&again).iter().filter(|it| it["skipped"] == true).count();
    assert_eq!(skipped, 2, "{}", out(&again));

    let found = objects(&world.run(&["search", "--json", "gardasee"]));
    assert_eq!(found[0]["path"], world.photos.join("gardasee.bmp").to_str().expect("text"), "{found:?}");

    // The failure is found, its file is repaired, and it is tried again.
    let failed = world.run(&["list", "--failed"]);
    assert!(out(&failed).starts_with("failed    ") && out(&failed).contains("cut.bmp"), "{}", out(&failed));
    let retried = world.run(&["retry"]);
    assert!(out(&retried).contains("trying 1 file of batch"), "{} {}", out(&retried), err(&retried));
    world.until(&["list", "--failed", "--json"], |it| it["path"] == cut.to_str().expect("text"));
    fs::write(&cut, picture(2)).expect("written");
    let output = world.process(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(out(&output).contains("1 completed, 2 unchanged"), "{}", out(&output));
    assert_eq!(out(&world.run(&["list", "--failed"])), "");

    let status = world.until(&["status", "--json"], |it| it["situation"]["completed"] == 3);
    assert_eq!((&status["running"]["role"], &status["situation"]["failed"]), (&"serve".into(), &0.into()));
    let batches = objects(&world.run(&["batches", "--json"]));
    let mut batches = batches.iter().filter(|it| it["total_uploads"] != 0);
    assert!(batches.all(|it| it["folder"] == world.photos.to_str().expect("text")), "{batches:?}");
    assert!(out(&world.run(&["dump"])).lines().any(|line| line.contains("gardasee.bmp")));
    let check = objects(&world.run(&["check", "--json"])).pop().expect("an object");
    assert_eq!(check["ok"], true, "{check}");
    let finding = |subject: &str| {
        let found = check["findings"].as_array().expect("a list").iter().find(|it| it["subject"] == subject);
        found.expect(subject)["text"].as_str().expect("a sentence").to_owned()
    };
    assert!(finding("store").contains("everything is consistent"), "{check}");
    assert!(finding("program").contains(&server.child.id().to_string()), "{check}");

    assert_eq!(server.end(Signal::TERM), Some(0));
    assert!(!socket.exists(), "the socket went with the server");
    let found = world.run(&["search", "--json", "gardasee"]);
    assert_eq!(objects(&found).len(), 3, "the folder is free: {}", err(&found));
}

#[test]
fn a_socket_left_by_a_killed_server_is_no_obstacle() {
    let world = World::new();
    world.put("a.bmp", picture(1));
    let mut server = world.serve();
    assert_eq!(world.process(&[]).status.code(), Some(0));
    server.end(Signal::KILL);
    assert!(world.data.join("socket").exists());
    assert_eq!(objects(&world.run(&["list", "--json"])).len(), 1);
    let _server = world.serve();
    assert_eq!(objects(&world.run(&["list", "--json"])).len(), 1);
}

#[test]
fn a_waiting_run_answers_and_its_batches_are_paused_and_resumed() {
    let world = World::new();
    world.put("a.bmp", picture(1));
    world.put("b.bmp", picture(2));
    let mut run = world.waiting_process();
    let status = world.run(&["status"]);
    assert!(out(&status).contains("mediamill process runs"), "{} {}", out(&status), err(&status));
    assert!(out(&status).lines().any(|it| it.trim_start().starts_with("2  ")), "{}", out(&status));
    let batch = objects(&world.run(&["batches", "--json"])).remove(0);
    let id = batch["batch_id"].as_str().expect("an id");
    let name = &id[id.len() - 8..];
    let paused = world.run(&["pause", name]);
    assert!(out(&paused).contains("is paused"), "{} {}", out(&paused), err(&paused));
    assert!(out(&world.run(&["status"])).contains("(paused)"));
    assert!(out(&world.run(&["resume", name])).contains("goes on"));
    let refused = world.run(&["pause"]);
    assert_eq!(refused.status.code(), Some(2), "{}", err(&refused));
    assert_eq!(run.end(Signal::INT), Some(130));

    // Nobody holds the folder now.
    let status = world.run(&["status"]);
    assert!(
        out(&status).contains("no mediamill is running") && out(&status).contains("resume"),
        "{}",
        out(&status)
    );
    let cancelled = world.run(&["cancel", "--all"]);
    assert!(
        out(&cancelled).contains("cancelled 2 files of batch"),
        "{} {}",
        out(&cancelled),
        err(&cancelled)
    );
    let listed = objects(&world.run(&["list", "--status", "cancelled", "--json"]));
    assert_eq!(listed.len(), 2, "{listed:?}");
}

#[test]
fn work_left_behind_is_resumed_without_naming_its_folder() {
    let world = World::new();
    world.put("a.bmp", picture(1));
    assert_eq!(world.waiting_process().end(Signal::INT), Some(130));
    let resumed = world.run(&["resume"]);
    assert_eq!(resumed.status.code(), Some(0), "{}", err(&resumed));
    assert!(out(&resumed).contains("1 completed"), "{}", out(&resumed));
}

#[test]
fn ctrl_c_ends_the_display_and_the_holder_goes_on() {
    let world = World::new();
    world.put("a.bmp", picture(1));
    let mut serve = world.command(&["serve", "--listen", "127.0.0.1:0", "--provider", "ollama"]);
    let _server = world.serve_by(serve.env("MEDIAMILL__PROVIDER__BASE_URL", busy_server()));
    let mut child = world.command(&["process"]);
    child.arg(&world.photos).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut run = Running { child: child.spawn().expect("it runs"), address: String::new() };
    world.until(&["status", "--json"], |it| {
        it["situation"]["waits"].as_array().is_some_and(|it| !it.is_empty())
    });
    let mut stderr = run.child.stderr.take().expect("piped");
    assert_eq!(run.end(Signal::INT), Some(130));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut said).expect("text");
    assert!(said.contains("goes on"), "{said}");
    let status = world.until(&["status", "--json"], |_| true);
    assert_eq!(status["situation"]["waits"][0]["uploads"], 1, "{status}");
    let refused = world.command(&["process", "--provider", "builtin"]).arg(&world.photos).output();
    let refused = refused.expect("it runs");
    assert_eq!(refused.status.code(), Some(2));
    assert!(err(&refused).contains("--provider builtin has no effect"), "{}", err(&refused));
}

#[test]
fn a_holder_that_is_killed_in_the_middle_is_reported() {
    let world = World::new();
    world.put("a.bmp", picture(1));
    let mut serve = world.command(&["serve", "--listen", "127.0.0.1:0", "--provider", "ollama"]);
    let mut server = world.serve_by(serve.env("MEDIAMILL__PROVIDER__BASE_URL", busy_server()));
    let mut process = world.command(&["process"]);
    process.arg(&world.photos).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = process.spawn().expect("it runs");
    world.until(&["status", "--json"], |it| {
        it["situation"]["waits"].as_array().is_some_and(|it| !it.is_empty())
    });
    server.end(Signal::KILL);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    assert!(err(&output).contains("stopped"), "{}", err(&output));
}

#[test]
fn a_program_that_is_ending_is_no_obstacle() {
    let world = World::new();
    world.put("a.bmp", picture(1));
    assert!(world.run(&["process", world.photos.to_str().expect("text")]).status.success());
    // It takes a connection, as a program does that is being killed, and answers nothing.
    let ending = std::os::unix::net::UnixListener::bind(world.data.join("socket")).expect("bound");
    let ended = std::thread::spawn(move || drop((ending.accept().expect("asked"), ending.accept(), ending)));
    let listed = world.run(&["list"]);
    assert!(listed.status.success() && out(&listed).contains("a.bmp"), "{}", err(&listed));
    ended.join().expect("asked twice");
}

#[test]
fn owners_are_apart_on_the_socket() {
    let world = World::new();
    world.put("a.bmp", picture(1));
    let _server = world.serve();
    assert_eq!(world.process(&["--owner", "ann"]).status.code(), Some(0));
    assert_eq!(objects(&world.run(&["list", "--json", "--owner", "ann"])).len(), 1);
    assert_eq!(objects(&world.run(&["list", "--json"])).len(), 0);
}

#[test]
fn names_of_any_bytes_go_through_the_socket() {
    let world = World::new();
    world.put(OsStr::from_bytes(b"caf\xe9.bmp"), picture(1));
    let _server = world.serve();
    let output = world.process(&["--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let again = objects(&world.process(&["--json"]));
    assert_eq!((again.len(), &again[0]["skipped"]), (1, &true.into()), "{again:?}");
}

#[test]
fn a_folder_with_a_long_path_has_its_socket_elsewhere() {
    let mut world = World::new();
    world.put("a.bmp", picture(1));
    world.data = world.data.join("long".repeat(30));
    let runtime = world.folder.path().join("run");
    fs::create_dir(&runtime).expect("made");
    let with = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        command.env("XDG_RUNTIME_DIR", &runtime);
        command
    };
    let _server = world.serve_by(&mut with(&["serve", "--listen", "127.0.0.1:0"]));
    let output = with(&["process"]).arg(&world.photos).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(!world.data.join("socket").exists());
}

#[test]
fn a_server_at_an_address_takes_files_and_answers() {
    let (world, far) = (World::new(), World::new());
    world.put("gardasee.bmp", picture(1));
    world.put("cut.bmp", &picture(2)[..600]);
    world.put("notes.txt", "nothing");
    let server = far.serve();
    let ask = |arguments: &[&str]| {
        let mut command = command();
        command.args(arguments).args(["--server", server.address.trim_end_matches('/')]);
        command
    };
    let output = ask(&["process", "--json"]).arg(&world.photos).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    let mut statuses: Vec<_> = objects(&output).iter().map(|it| it["status"].to_string()).collect();
    statuses.sort();
    assert_eq!(statuses, [r#""completed""#, r#""failed""#, r#""refused""#], "{}", out(&output));
    let found = ask(&["search", "--json", "gardasee"]).output().expect("it runs");
    assert_eq!(objects(&found)[0]["path"], "gardasee.bmp", "{}", err(&found));
    let failed = ask(&["list", "--failed"]).output().expect("it runs");
    assert!(out(&failed).contains("cut.bmp"), "{} {}", out(&failed), err(&failed));
    for command in ["check", "serve"] {
        assert_eq!(ask(&[command]).output().expect("it runs").status.code(), Some(2));
    }
    let nobody = command().args(["list", "--server", "http://127.0.0.1:1"]).output().expect("it runs");
    assert!(err(&nobody).contains("cannot reach"), "{}", err(&nobody));
}

#[test]
fn a_run_waits_for_another_that_works_through_it() {
    let world = World::new();
    for folder in ["own", "others"] {
        fs::create_dir(world.photos.join(folder)).expect("made");
        for number in 0..6 {
            world.put(format!("{folder}/{number}.jpg"), photo(number + folder.len() as u8 * 20));
        }
    }
    let process = |folder: &str| {
        let mut command = world.command(&["process", "--json"]);
        command.arg(world.photos.join(folder)).stderr(Stdio::null());
        command
    };
    let first = process("own/1.jpg").stdout(Stdio::null()).spawn().expect("it runs");
    let mut first = Running { child: first, address: String::new() };
    world.until(&["status", "--json"], |it| it["running"]["role"] == "process");
    let second = process("others").output().expect("it runs");
    assert_eq!((second.status.code(), objects(&second).len()), (Some(0), 6), "{}", out(&second));
    assert_eq!(first.child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn files_on_which_the_holder_does_not_work_are_left_with_a_sentence() {
    let world = World::new();
    for name in ["own", "rest"] {
        fs::create_dir(world.photos.join(name)).expect("made");
        world.put(format!("{name}/{name}.bmp"), picture(name.len() as u8));
    }
    assert_eq!(world.waiting_process_of("rest").end(Signal::INT), Some(130));
    let _holder = world.waiting_process_of("own");
    let output = world.command(&["process"]).arg(world.photos.join("rest")).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    assert!(err(&output).contains("an earlier run left some of these files"), "{}", err(&output));
    assert!(out(&output).contains("1 left for the next run"), "{}", out(&output));
}
