//! Damaged stores: they open with all their data, or they are refused with advice.

mod program;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use program::{command, mediamill, picture};

/// A folder with a store of some pictures, and its dump.
struct Kept {
    folder: tempfile::TempDir,
    dump: Vec<u8>,
}

impl Kept {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let photos = folder.path().join("photos");
        fs::create_dir(&photos).expect("made");
        for seed in 0..6 {
            fs::write(photos.join(format!("{seed}.bmp")), picture(seed)).expect("written");
        }
        let mut kept = Self { folder, dump: Vec::new() };
        let processed = mediamill(&["process", &kept.path("photos"), "--data-dir", &kept.path("data")]);
        assert!(processed.status.success(), "{}", stderr(&processed));
        kept.dump = kept.dumped("data").stdout;
        assert!(kept.dump.len() > 10_000);
        kept
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    fn dumped(&self, data: &str) -> Output {
        mediamill(&["dump", "--data-dir", &self.path(data)])
    }

    /// A copy of the data folder.
    fn copy(&self, name: &str) -> PathBuf {
        let to = self.folder.path().join(name);
        copy(&self.folder.path().join("data"), &to);
        to
    }

    /// Checks that a data folder has all its data.
    fn whole(&self, data: &str) {
        let output = self.dumped(data);
        assert!(output.status.success() && output.stdout == self.dump, "{}", stderr(&output));
    }
}

fn copy(from: &Path, to: &Path) {
    // A folder that others may look into is refused.
    std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700).create(to).expect("made");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("copied");
        }
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Checks that the program ended by itself, with advice.
fn refused(output: &Output, what: &str) {
    let stderr = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{what}: {stderr}");
    assert!(
        stderr.starts_with("mediamill: ") && stderr.lines().count() == 1 && !stderr.contains("panicked"),
        "{what}: {stderr}"
    );
    assert!(
        ["restore", "choose another folder", "mend"].iter().any(|it| stderr.contains(it)),
        "{what}: {stderr}"
    );
}

#[test]
fn a_store_of_a_killed_process_is_healed() {
    let kept = Kept::new();
    let data = kept.copy("snapshot");
    let left = data.join("store/snap.0000000000000001.generating");
    fs::write(&left, b"half a snapsh").expect("written");
    kept.whole("snapshot");
    assert!(!left.exists());
    let data = kept.copy("highwater");
    fs::remove_file(data.join("HIGHWATER")).expect("removed");
    kept.whole("highwater");
    for (name, text) in [("garbled", &b"\xff\xfe\x00"[..]), ("emptied", b"")] {
        fs::write(kept.copy(name).join("HIGHWATER"), text).expect("written");
        kept.whole(name);
    }
}

#[test]
fn a_store_with_a_damaged_snapshot_keeps_all_its_data() {
    let kept = Kept::new();
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 3] = [
        ("emptied", Vec::clear),
        ("halved", |bytes| bytes.truncate(bytes.len() / 2)),
        ("flipped", |bytes| bytes.iter_mut().skip(9).take(3).for_each(|byte| *byte ^= 0x55)),
    ];
    for (name, damage) in damages {
        let store = kept.copy(name).join("store");
        let mut snapshots = 0;
        for entry in fs::read_dir(&store).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.file_name().is_some_and(|it| it.to_string_lossy().starts_with("snap.")) {
                let mut bytes = fs::read(&path).expect("a snapshot");
                damage(&mut bytes);
                fs::write(&path, bytes).expect("written");
                snapshots += 1;
            }
        }
        assert!(snapshots > 0, "sled wrote a snapshot when it was closed");
        kept.whole(name);
    }
}

#[test]
fn a_store_whose_folder_is_gone_is_reported() {
    let kept = Kept::new();
    fs::remove_dir_all(kept.copy("lost").join("store")).expect("removed");
    refused(&kept.dumped("lost"), "without its store");
    let checked = mediamill(&["check", "--data-dir", &kept.path("lost")]);
    assert_eq!(checked.status.code(), Some(1), "{}", stderr(&checked));
    assert!(String::from_utf8_lossy(&checked.stdout).contains("is gone"));
}

#[test]
fn a_thumbnail_that_was_cut_is_found() {
    let kept = Kept::new();
    let data = kept.copy("cut");
    let mut shards = fs::read_dir(data.join("thumbnails")).expect("a folder");
    let shard = shards.next().expect("a shard").expect("an entry").path();
    let thumbnail = fs::read_dir(shard).expect("a folder").next().expect("a file").expect("an entry").path();
    fs::OpenOptions::new().write(true).open(thumbnail).expect("opened").set_len(100).expect("cut");
    let checked = mediamill(&["check", "--data-dir", &kept.path("cut")]);
    let stdout = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(stdout.contains("1 thumbnails are missing or damaged"), "{stdout}");
}

#[test]
fn a_truncated_store_is_never_taken_for_whole() {
    let kept = Kept::new();
    let length = fs::metadata(kept.path("data/store/db")).expect("a store").len();
    for eighth in 0..8 {
        let name = format!("cut-{eighth}");
        let db = kept.copy(&name).join("store/db");
        fs::OpenOptions::new()
            .write(true)
            .open(&db)
            .expect("opened")
            .set_len(length * eighth / 8)
            .expect("cut");
        let output = kept.dumped(&name);
        if output.status.success() {
            assert!(output.stdout == kept.dump, "cut at {eighth}/8: it is short");
        } else {
            refused(&output, &format!("cut at {eighth}/8"));
        }
    }
    let data = kept.copy("gone");
    fs::remove_file(data.join("store/db")).expect("removed");
    refused(&kept.dumped("gone"), "without its file");
}

#[test]
fn flipped_bytes_are_refused_with_a_sentence_or_have_no_effect() {
    let kept = Kept::new();
    let whole = fs::read(kept.path("data/store/db")).expect("a store");
    // Most of the file is unused space.
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut refusals = 0;
    for number in 0..24 {
        let name = format!("flipped-{number}");
        let mut bytes = whole.clone();
        bytes[used[used.len() * number / 24]] ^= 0x55;
        fs::write(kept.copy(&name).join("store/db"), bytes).expect("written");
        let output = kept.dumped(&name);
        let checked = mediamill(&["check", "--data-dir", &kept.path(&name)]);
        assert!(
            !stderr(&checked).contains("panicked") && checked.status.code().is_some(),
            "{}",
            stderr(&checked)
        );
        if !output.status.success() {
            refusals += 1;
            refused(&output, &name);
        }
    }
    assert!(refusals > 0, "damage is noticed");
}

#[test]
fn a_read_only_data_folder_is_refused_before_any_work() {
    let kept = Kept::new();
    let process = |data: &str| mediamill(&["process", &kept.path("photos"), "--data-dir", data]);
    refused(&process(&kept.path("photos/0.bmp/data")), "below a file");
    if cfg!(target_os = "linux") {
        refused(&process("/proc/mediamill"), "a folder that cannot be written");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let closed = kept.copy("closed");
        let close = |mode| fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).expect("set");
        fs::remove_file(closed.join("LOCK")).expect("removed");
        close(0o500);
        // Root can write to every folder.
        let writable = fs::write(closed.join("LOCK"), b"").is_ok();
        let output = process(&kept.path("closed"));
        close(0o700);
        if writable { assert!(output.status.success()) } else { refused(&output, "read only") }
    }
}

/// Runs the program with files limited to `kib` KiB, like on a full disk.
#[cfg(target_os = "linux")]
fn limited(kib: u64, arguments: &[&str]) -> Output {
    let program = command();
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", kib * 2);
    let mut limited = Command::new("sh");
    limited.args(["-c", &script]).arg(program.get_program()).args(arguments);
    limited.env_remove("RUST_LOG").env("RUST_BACKTRACE", "0").output().expect("it runs")
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_the_run_with_a_sentence_and_loses_nothing() {
    let kept = Kept::new();
    // A store of six small pictures takes about 60 KiB.
    let fresh = limited(24, &["process", &kept.path("photos"), "--data-dir", &kept.path("fresh")]);
    assert!(matches!(fresh.status.code(), Some(1 | 2)), "{}", stderr(&fresh));
    assert!(
        !stderr(&fresh).contains("damaged") && !stderr(&fresh).contains("panicked"),
        "{}",
        stderr(&fresh)
    );

    let photos = kept.folder.path().join("photos");
    for seed in 6..=255 {
        fs::write(photos.join(format!("{seed}.bmp")), picture(seed)).expect("written");
    }
    let kib = fs::metadata(kept.path("data/store/db")).expect("a store").len() / 1024;
    let arguments = ["process", &kept.path("photos"), "--data-dir", &kept.path("data")];
    let none = limited(kib, &arguments);
    assert!(matches!(none.status.code(), Some(1 | 2)), "{}", stderr(&none));
    assert!(!stderr(&none).contains("damaged") && !stderr(&none).contains("panicked"), "{}", stderr(&none));
    // sled writes half a MiB when it opens.
    let full = limited(kib + 520, &arguments);
    assert_eq!(full.status.code(), Some(1), "{}", stderr(&full));
    assert!(
        stderr(&full).contains("make room on its disk") && !stderr(&full).contains("panicked"),
        "{}",
        stderr(&full)
    );
    let after = mediamill(&arguments);
    assert_eq!(after.status.code(), Some(0), "{}", stderr(&after));
    let checked = mediamill(&["check", "--data-dir", &kept.path("data")]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    let dump = String::from_utf8(kept.dumped("data").stdout).expect("text");
    let uploads = dump.lines().filter(|it| it.starts_with("{\"tree\":\"uploads\""));
    assert_eq!(uploads.filter(|it| it.contains("\"status\":\"completed\"")).count(), 256);
}
