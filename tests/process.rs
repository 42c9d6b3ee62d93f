//! `mediamill process` from outside.

mod program;
#[path = "../actors/tests/support/raws.rs"]
mod raws;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use program::{busy_server, command, photo, picture};
#[cfg(unix)]
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A folder with pictures, and a data folder beside it.
struct Album {
    folder: tempfile::TempDir,
}

impl Album {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("photos")).expect("made");
        Self { folder }
    }

    fn photos(&self) -> PathBuf {
        // The program prints paths without links.
        self.folder.path().canonicalize().expect("it is there").join("photos")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn put(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.photos().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, bytes).expect("written");
        path
    }

    fn process(&self, options: &[&str]) -> Command {
        let mut process = command();
        process.args(["process", "--data-dir"]).arg(self.data()).args(options);
        process
    }

    /// Processes all pictures. Returns the printed objects by file name.
    fn run(&self, options: &[&str]) -> (BTreeMap<String, Value>, Output) {
        let output = self.process(&["--json"]).args(options).arg(self.photos()).output().expect("it runs");
        (by_name(&String::from_utf8_lossy(&output.stdout)), output)
    }
}

fn by_name(stdout: &str) -> BTreeMap<String, Value> {
    stdout
        .lines()
        .map(|line| {
            let object: Value = serde_json::from_str(line).expect("nothing but JSON");
            let path = Path::new(object["path"].as_str().expect("a path"));
            (path.file_name().expect("a name").to_string_lossy().into_owned(), object)
        })
        .collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn skipped(files: &BTreeMap<String, Value>) -> Vec<&str> {
    files.iter().filter(|(_, it)| it["skipped"] == true).map(|(name, _)| name.as_str()).collect()
}

#[test]
fn a_second_run_processes_new_and_changed_files_only() {
    let album = Album::new();
    for (seed, name) in ["a.bmp", "b.bmp", "c.bmp", "d.bmp"].into_iter().enumerate() {
        album.put(name, picture(seed as u8));
    }
    let (first, output) = album.run(&[]);
    assert_eq!(
        (output.status.code(), first.len(), skipped(&first).len()),
        (Some(0), 4, 0),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("4 completed"), "the summary is on standard error: {}", stderr(&output));

    let (second, output) = album.run(&[]);
    assert_eq!(skipped(&second), ["a.bmp", "b.bmp", "c.bmp", "d.bmp"]);
    assert!(stderr(&output).contains("4 unchanged"), "{}", stderr(&output));
    for (name, file) in &second {
        let same = |key: &str| file[key] == first[name][key];
        assert!(
            ["description", "facts", "thumbnail", "status", "audit_score"].into_iter().all(same),
            "{file}"
        );
    }

    let photos = album.photos();
    fs::rename(photos.join("a.bmp"), photos.join("renamed.bmp")).expect("renamed");
    fs::create_dir(photos.join("below")).expect("made");
    fs::rename(photos.join("b.bmp"), photos.join("below/b.bmp")).expect("moved");
    album.put("c.bmp", picture(99));
    album.put("e.bmp", picture(100));
    let (third, _) = album.run(&[]);
    assert_eq!(skipped(&third), ["b.bmp", "d.bmp", "renamed.bmp"]);
    let path = |name: &str| third[name]["path"].as_str().map(PathBuf::from);
    assert_eq!(path("b.bmp"), Some(photos.join("below/b.bmp")));

    let (forced, _) = album.run(&["--force"]);
    assert_eq!((forced.len(), skipped(&forced).len()), (5, 0));
    let (last, _) = album.run(&[]);
    assert_eq!(skipped(&last).len(), 5);
}

#[test]
fn a_changed_sidecar_renews_the_facts_and_keeps_the_description() {
    let album = Album::new();
    album.put("a.jpg", photo(1));
    album.put("b.jpg", photo(2));
    let (first, _) = album.run(&[]);
    assert!(first["a.jpg"]["facts"].get("title").is_none(), "{}", first["a.jpg"]);
    let sidecar = |title: &str| {
        format!(
            "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description \
             xmlns:dc='http://purl.org/dc/elements/1.1/' dc:title='{title}'/></rdf:RDF>"
        )
    };
    for title in ["Lake", "The castle"] {
        album.put("a.xmp", sidecar(title));
        let (files, output) = album.run(&[]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(skipped(&files), ["b.jpg"]);
        let file = &files["a.jpg"];
        assert_eq!(
            (&file["facts"]["title"], &file["status"]),
            (&title.into(), &"completed".into()),
            "{file}"
        );
        assert_eq!(file["description"], first["a.jpg"]["description"]);
        let (files, _) = album.run(&[]);
        assert_eq!(skipped(&files), ["a.jpg", "b.jpg"]);
        assert_eq!(files["a.jpg"]["facts"]["title"], title);
    }
    fs::remove_file(album.photos().join("a.xmp")).expect("removed");
    let (files, _) = album.run(&[]);
    assert!(files["a.jpg"]["facts"].get("title").is_none(), "{}", files["a.jpg"]);
}

#[test]
fn an_object_for_each_file_has_all_fields() {
    let album = Album::new();
    album.put("a.bmp", picture(1));
    album.put("cut.bmp", &picture(2)[..600]);
    album.put("empty.jpg", b"");
    let (files, output) = album.run(&[]);
    assert_eq!(output.status.code(), Some(1), "an upload failed: {}", stderr(&output));
    for key in [
        "path",
        "status",
        "skipped",
        "description",
        "objects",
        "facts",
        "audit_score",
        "needs_review",
        "thumbnail",
        "failure",
    ] {
        assert!(files.values().all(|file| file.get(key).is_some()), "{key}");
    }
    let good = &files["a.bmp"];
    assert!(
        good["status"] == "completed"
            && good["failure"].is_null()
            && good["facts"]["width"] == 20
            && good.get("path_bytes").is_none(),
        "{good}"
    );
    assert!(good["description"].as_str().is_some_and(|it| it.len() > 20) && good["audit_score"].is_u64());
    let thumbnail = Path::new(good["thumbnail"].as_str().expect("a thumbnail"));
    assert!(thumbnail.is_absolute() && thumbnail.exists());
    let failed = &files["cut.bmp"];
    assert_eq!(failed["status"], "failed", "{failed}");
    let failures = failed["failure"].as_array().expect("a list");
    assert_eq!(failures.len(), 2);
    for (failure, attempt) in failures.iter().zip(1..) {
        assert!(failure["attempt"] == attempt && failure["kind"] == "undecodable", "{failure}");
        assert!(
            failure["stage"].is_string()
                && failure["message"].as_str().is_some_and(|it| it.contains("cut.bmp"))
        );
    }
    let refused = &files["empty.jpg"];
    assert_eq!(
        (&refused["status"], refused["failure"].as_array().map(Vec::len)),
        (&"refused".into(), Some(1))
    );
}

#[test]
fn a_given_file_that_is_not_media_is_refused_and_one_in_a_folder_is_counted() {
    let album = Album::new();
    album.put("a.bmp", picture(1));
    let notes = album.put("notes.txt", b"Dear diary, nothing happened.");
    let (files, output) = album.run(&[]);
    assert_eq!((files.len(), output.status.code()), (1, Some(0)));
    assert!(stderr(&output).contains("1 neither pictures nor videos"), "{}", stderr(&output));
    let output = album.process(&["--json"]).arg(&notes).output().expect("it runs");
    let files = by_name(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(files["notes.txt"]["status"], "refused");
    assert!(stderr(&output).contains("notes.txt"), "{}", stderr(&output));
}

#[test]
fn a_file_that_is_called_a_photo_and_is_none_is_named_and_fails_the_run() {
    let album = Album::new();
    album.put("a.bmp", picture(1));
    album.put("zeros.jpg", vec![0; 4000]);
    album.put("text.PNG", b"Dear diary, nothing happened.");
    album.put("unknown.mp4", b"\x7fELF and no video at all");
    album.put("empty.heic", b"");
    // Nobody calls these photos.
    album.put(".nomedia", b"");
    album.put("._a.bmp", b"\0\x05\x16\x07");
    album.put("notes.txt", b"");
    let (files, output) = album.run(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(files.keys().eq(["a.bmp", "empty.heic", "text.PNG", "unknown.mp4", "zeros.jpg"]), "{files:?}");
    for (name, why) in [
        ("zeros.jpg", "begins with zeros"),
        ("text.PNG", "no picture or video"),
        ("unknown.mp4", "no picture or video"),
        ("empty.heic", "is empty"),
    ] {
        let file = &files[name];
        assert_eq!(file["status"], "refused", "{file}");
        assert!(file["failure"][0]["message"].as_str().is_some_and(|it| it.contains(why)), "{file}");
        assert!(stderr(&output).contains(name), "the summary has it: {}", stderr(&output));
    }
    assert!(stderr(&output).contains("3 neither pictures nor videos"), "{}", stderr(&output));
}

#[test]
fn a_video_without_ffmpeg_is_refused_and_fails_the_run() {
    let album = Album::new();
    album.put("a.bmp", picture(1));
    album.put("clip.mp4", b"\0\0\0\x18ftypisom\0\0\x02\0isommp42");
    let mut process = album.process(&["--json"]);
    let output = process.env("PATH", album.data()).arg(album.photos()).output().expect("it runs");
    let files = by_name(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(
        (&files["a.bmp"]["status"], &files["clip.mp4"]["status"]),
        (&"completed".into(), &"refused".into())
    );
    assert!(files["clip.mp4"]["failure"][0]["message"].as_str().is_some_and(|it| it.contains("ffmpeg")));
}

#[cfg(unix)]
#[test]
fn sockets_and_pipes_are_neither_opened_nor_named() {
    let album = Album::new();
    album.put("a.bmp", picture(1));
    let _socket = std::os::unix::net::UnixListener::bind(album.photos().join("socket.jpg")).expect("bound");
    let pipe = Command::new("mkfifo").arg(album.photos().join("pipe.mp4")).status().expect("it runs");
    assert!(pipe.success());
    let (files, output) = album.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(files.keys().eq(["a.bmp"]), "{files:?}");
    assert!(stderr(&output).contains("2 neither pictures nor videos"), "{}", stderr(&output));
}

#[test]
fn what_cannot_be_meant_ends_with_2_and_names_it() {
    let album = Album::new();
    let refused = |process: &mut Command, named: &str| {
        let output = process.output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(named) && output.stdout.is_empty(), "{named}: {}", stderr(&output));
    };
    refused(&mut album.process(&[]), "PATH");
    refused(album.process(&["--jsno"]).arg(album.photos()), "--jsno");
    refused(&mut album.process(&["/nowhere/at/all"]), "/nowhere/at/all");
    let config = album.folder.path().join("config.toml");
    for (text, key) in [
        ("[store]\ndata_dri = \"x\"\n", "data_dri"),
        ("[limits]\nmax_pixels = \"many\"\n", "limits.max_pixels"),
        ("[monitor]\ntick_ms = 1\n", "monitor.tick_ms"),
    ] {
        fs::write(&config, text).expect("written");
        refused(album.process(&["--config"]).arg(&config).arg(album.photos()), key);
    }
    let value = "MEDIAMILL__WORKERS__CONCURRENCY";
    refused(album.process(&[]).env(value, "few").arg(album.photos()), "workers.concurrency");
    fs::create_dir_all(album.data()).expect("made");
    refused(album.process(&[]).arg(album.data()), "data folder");
}

#[test]
fn a_provider_that_is_given_up_fails_the_files_and_is_not_reported_as_answering() {
    let album = Album::new();
    album.put("a.bmp", picture(1));
    let unused = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port");
    let output = album
        .process(&["--provider", "ollama"])
        .arg(album.photos())
        .env("MEDIAMILL__PROVIDER__BASE_URL", format!("http://{unused}"))
        .env("MEDIAMILL__PROVIDER__GIVE_UP_AFTER_MS", "1")
        .output()
        .expect("it runs");
    let stderr = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("is not waited for any more") && !stderr.contains("the provider answers"),
        "{stderr}"
    );
}

#[test]
fn a_provider_that_answers_only_probes_is_not_reported_as_answering() {
    let album = Album::new();
    album.put("a.bmp", picture(1));
    let output = album
        .process(&["--provider", "ollama"])
        .arg(album.photos())
        .env("MEDIAMILL__PROVIDER__BASE_URL", busy_server())
        .env("MEDIAMILL__PROVIDER__GIVE_UP_AFTER_MS", "4000")
        .output()
        .expect("it runs");
    let stderr = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let waits = stderr.lines().filter(|it| it.contains("waiting for the model server since"));
    assert!(waits.count() == 1 && !stderr.contains("the provider answers"), "{stderr}");
}

#[test]
fn the_data_folder_is_skipped() {
    let album = Album::new();
    album.put("a.bmp", picture(1));
    let data = album.photos().join("data");
    for skips in [0, 1] {
        let mut process = command();
        process.args(["process", "--json", "--data-dir"]).arg(&data).arg(album.photos());
        let files = by_name(&String::from_utf8_lossy(&process.output().expect("it runs").stdout));
        assert_eq!((files.len(), skipped(&files).len()), (1, skips), "{files:?}");
    }
}

#[cfg(unix)]
#[test]
fn the_data_folder_is_skipped_behind_a_link_too() {
    let album = Album::new();
    album.put("a.bmp", picture(1));
    fs::create_dir_all(album.data()).expect("made");
    std::os::unix::fs::symlink(album.data(), album.photos().join("all")).expect("linked");
    for _ in 0..2 {
        let (files, output) = album.run(&[]);
        assert!(files.keys().eq(["a.bmp"]), "{files:?} {}", stderr(&output));
    }
}

#[test]
fn a_copy_that_was_described_in_the_same_run_is_not_skipped() {
    let album = Album::new();
    for number in 0..40 {
        album.put(format!("{number:02}.bmp"), picture(number));
    }
    // The copy is in the second batch, when the first one has completed or is about to.
    album.put("x-copy.bmp", picture(0));
    let (files, output) = album.run(&[]);
    assert_eq!((output.status.code(), files.len()), (Some(0), 41), "{}", stderr(&output));
    assert!(skipped(&files).is_empty(), "{files:?}");
}

#[test]
fn copies_of_files_of_an_earlier_run_are_unchanged() {
    let album = Album::new();
    album.put("a.bmp", picture(1));
    album.run(&[]);
    album.put("b.bmp", picture(1));
    album.put("c.bmp", picture(1));
    for run in ["with new copies", "with the same copies"] {
        let (files, output) = album.run(&[]);
        assert_eq!(skipped(&files), ["a.bmp", "b.bmp", "c.bmp"], "a run {run}: {}", stderr(&output));
    }
}

#[cfg(unix)]
#[test]
fn a_name_with_control_characters_is_one_plain_line() {
    let album = Album::new();
    album.put("a\n\u{1b}[2Jb.bmp", &picture(1)[..600]);
    let output = album.process(&[]).arg(album.photos()).output().expect("it runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(!stdout.contains('\u{1b}') && stdout.starts_with("failed"), "{stdout}");
    assert!(stdout.lines().all(|line| !line.starts_with('b')), "{stdout}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_works_while_nobody_reads_the_results() {
    let album = Album::new();
    for number in 0..=255 {
        for copy in 0..6 {
            let mut picture = picture(number);
            picture.push(copy);
            album.put(format!("{number}-{copy}.bmp"), picture);
        }
    }
    let mut process = album.process(&["--json"]);
    process.arg(album.photos()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = process.spawn().expect("it runs");
    // The pipe is full then: there are results, and nobody reads them.
    let mut first = [0];
    child.stdout.as_mut().expect("piped").read_exact(&mut first).expect("a first byte");
    let pressed = Instant::now();
    kill_process(Pid::from_child(&child), Signal::INT).expect("sent");
    let code = child.wait().expect("it ends").code();
    assert!(pressed.elapsed() < Duration::from_secs(3), "it took {:?}", pressed.elapsed());
    assert_eq!(code, Some(130));
}

#[cfg(unix)]
#[test]
fn circular_links_and_unreadable_folders_are_reported_and_the_rest_is_processed() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let album = Album::new();
    album.put("a.bmp", picture(1));
    album.put("below/b.bmp", picture(2));
    album.put("closed/c.bmp", picture(3));
    symlink(album.photos(), album.photos().join("below/round")).expect("linked");
    symlink(album.photos().join("nothing"), album.photos().join("dangling.jpg")).expect("linked");
    let closed = album.photos().join("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("closed");
    // Root can read every folder.
    let readable = fs::read_dir(&closed).is_ok();
    let (files, output) = album.run(&[]);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("open");
    // The broken link is refused, and the files of an unreadable folder were not processed.
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    for name in ["a.bmp", "b.bmp"] {
        assert_eq!(files[name]["status"], "completed");
    }
    let why = |name: &str| files[name]["failure"][0]["message"].as_str().unwrap_or_default().to_owned();
    assert!(why("round").contains("is a link back to"), "{files:?}");
    assert!(why("dangling.jpg").contains("dangling.jpg"), "{files:?}");
    if readable {
        assert_eq!(files["c.bmp"]["status"], "completed");
    } else {
        assert!(why("closed").contains("cannot read"), "{files:?}");
    }
}

#[cfg(unix)]
#[test]
fn links_lead_out_of_a_folder_on_request_only_and_no_folder_is_entered_twice() {
    use std::os::unix::fs::symlink;
    let album = Album::new();
    album.put("here/a.bmp", picture(1));
    symlink("here", album.photos().join("again")).expect("linked");
    symlink("here/a.bmp", album.photos().join("b.bmp")).expect("linked");
    let elsewhere = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(elsewhere.path().join("below")).expect("made");
    fs::write(elsewhere.path().join("below/c.bmp"), picture(2)).expect("written");
    fs::write(elsewhere.path().join("d.bmp"), picture(3)).expect("written");
    symlink(elsewhere.path(), album.photos().join("out")).expect("linked");
    symlink(elsewhere.path().join("below"), album.photos().join("out too")).expect("linked");
    symlink(elsewhere.path().join("d.bmp"), album.photos().join("private.bmp")).expect("linked");
    let (files, output) = album.run(&[]);
    // What is refused fails the run.
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let of = |status: &str| -> Vec<String> {
        files.iter().filter(|(_, it)| it["status"] == status).map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(of("completed"), ["a.bmp"], "{files:?}");
    assert_eq!(of("refused"), ["out", "out too", "private.bmp"]);
    assert!(files["out"]["failure"][0]["message"].as_str().is_some_and(|it| it.contains("--follow")));
    let (files, output) = album.run(&["--follow"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(files.keys().eq(["a.bmp", "c.bmp", "d.bmp"]), "{files:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_not_utf_8_works() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
    let album = Album::new();
    album.put(OsStr::from_bytes(b"caf\xe9.bmp"), picture(1));
    for skips in [0, 1] {
        let (files, output) = album.run(&[]);
        assert_eq!((output.status.code(), skipped(&files).len()), (Some(0), skips), "{}", stderr(&output));
        let file = &files["caf\u{fffd}.bmp"];
        assert_eq!(file["status"], "completed");
        let bytes = file["path_bytes"].as_str().expect("hexadecimal digits");
        assert!(bytes.ends_with("636166e92e626d70"), "{file}");
    }
}

#[test]
fn a_file_that_vanishes_or_changes_in_the_queue_fails_and_the_rest_completes() {
    let album = Album::new();
    for number in 0..6 {
        album.put(format!("{number}.jpg"), photo(number));
    }
    let gone = album.put("x-gone.bmp", picture(1));
    let changed = album.put("y-changed.bmp", picture(2));
    album.put("z.bmp", picture(3));
    let mut process = album.process(&["--json"]);
    // One worker, so that the last file is queued.
    process.arg(album.photos()).env("MEDIAMILL__WORKERS__CONCURRENCY", "1").stdout(Stdio::piped());
    let mut child = process.stderr(Stdio::piped()).spawn().expect("it runs");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut stdout = String::new();
    out.read_line(&mut stdout).expect("a first line");
    fs::remove_file(&gone).expect("removed");
    fs::write(&changed, picture(4)).expect("changed");
    out.read_to_string(&mut stdout).expect("the rest");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let files = by_name(&stdout);
    assert_eq!(files.values().filter(|it| it["status"] == "completed").count(), 7);
    for (name, kind) in [("x-gone.bmp", "file_missing"), ("y-changed.bmp", "file_changed")] {
        let file = &files[name];
        assert!(file["status"] == "failed" && file["failure"][1]["kind"] == kind, "{file}");
        assert!(stderr(&output).contains(name), "the summary has it: {}", stderr(&output));
    }
    // The changed file is new to the next run, and the missing file is ignored.
    let (files, output) = album.run(&[]);
    assert_eq!(
        (output.status.code(), files.len(), skipped(&files).len()),
        (Some(0), 8, 7),
        "{}",
        stderr(&output)
    );
}

#[cfg(unix)]
#[test]
fn ctrl_c_hands_back_and_stops_and_the_next_run_finishes() {
    let album = Album::new();
    for number in 0..12 {
        album.put(format!("{number:02}.jpg"), photo(number));
    }
    let mut process = album.process(&["--json"]);
    let mut child =
        process.arg(album.photos()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut stdout = String::new();
    out.read_line(&mut stdout).expect("a first line");
    let pressed = Instant::now();
    kill_process(Pid::from_child(&child), Signal::INT).expect("sent");
    out.read_to_string(&mut stdout).expect("the rest");
    let output = child.wait_with_output().expect("it ends");
    // The promise is one second; the rest allows for busy machines.
    assert!(pressed.elapsed() < Duration::from_secs(3), "it took {:?}", pressed.elapsed());
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let first = by_name(&stdout);
    assert_eq!(first.len(), 12, "every file has its line: {stdout}");
    let done = first.values().filter(|it| it["status"] == "completed").count();
    assert!(first.values().all(|it| it["status"] == "completed" || it["status"] == "pending"), "{stdout}");
    assert!((1..12).contains(&done), "{done} were done");

    let (files, output) = album.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        files.len() == 12 && files.values().all(|it| it["status"] == "completed" && it["failure"].is_null())
    );
    assert_eq!(skipped(&files).len(), done, "what was done is not done again");
}

#[cfg(unix)]
#[test]
fn a_run_after_a_kill_ends_even_if_uploads_end_while_their_files_are_classified() {
    let album = Album::new();
    for number in 0..120 {
        album.put(format!("{number:03}.bmp"), picture(number));
    }
    for _ in 0..3 {
        let mut process = album.process(&["--json"]);
        let mut child = process
            .arg(album.photos())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        out.read_line(&mut String::new()).expect("a first line");
        child.kill().expect("killed");
        child.wait().expect("it is gone");
    }
    let (files, output) = album.run(&[]);
    assert_eq!((output.status.code(), files.len()), (Some(0), 120), "{}", stderr(&output));
    let lines = String::from_utf8_lossy(&output.stdout).lines().count();
    assert_eq!(lines, 120, "one for each file, also if it was taken up");
    assert!(files.values().all(|it| it["status"] == "completed"));
}

#[test]
fn a_raw_file_beside_its_jpeg_is_printed_as_its_companion_and_counts_for_no_upload() {
    let album = Album::new();
    let (jpeg, small) = (photo(1), photo(2));
    let still = album.put("IMG_1.jpg", &jpeg);
    album.put("IMG_1.cr2", raws::cr2(&jpeg, &small));
    album.put("IMG_2.jpg", photo(3));
    for skipped in [false, true] {
        let (printed, output) = album.run(&[]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(printed.len(), 3);
        let raw = &printed["IMG_1.cr2"];
        assert_eq!(raw["companion_of"].as_str(), still.to_str());
        assert_eq!((&raw["status"], &raw["skipped"]), (&"completed".into(), &skipped.into()));
        assert!(raw["description"].is_null() && printed["IMG_1.jpg"].get("companion_of").is_none());
        let count = if skipped { "2 unchanged" } else { "2 completed" };
        assert!(stderr(&output).contains(count), "{}", stderr(&output));
    }
}
