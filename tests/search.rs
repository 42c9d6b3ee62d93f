//! `mediamill search` from outside.

mod program;

use std::{fs, path::Path, process::Output};

use program::{command, picture};

fn search(data: &Path, options: &[&str]) -> Output {
    command().args(["search", "--data-dir"]).arg(data).args(options).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A data folder with two described pictures that differ only in their names.
fn described() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let (photos, data) = (folder.path().join("photos"), folder.path().join("data"));
    fs::create_dir(&photos).expect("made");
    for (seed, name) in [(1, "gardasee.png"), (9, "gerlitzen.png")] {
        fs::write(photos.join(name), picture(seed)).expect("written");
    }
    let process =
        command().args(["process", "--data-dir"]).arg(&data).arg(&photos).output().expect("it runs");
    assert!(process.status.success(), "{}", text(&process.stderr));
    (folder, data)
}

#[test]
fn the_nearest_comes_first_and_unrelated_results_are_announced() {
    let (_folder, data) = described();
    for words in ["gardasee", "Gardase"] {
        let found = search(&data, &["--json", words]);
        let hits: Vec<serde_json::Value> =
            text(&found.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(hits.len(), 2, "{hits:?}");
        assert!(hits[0]["path"].as_str().is_some_and(|path| path.ends_with("gardasee.png")), "{hits:?}");
        assert!(hits[0]["score"].as_f64() > hits[1]["score"].as_f64());
    }
    let near = search(&data, &["--limit", "1", "gardasee"]);
    assert_eq!(text(&near.stdout).lines().count(), 2, "path and description");
    assert!(!text(&near.stderr).contains("no description is close"), "{}", text(&near.stderr));

    let far = search(&data, &["submarine"]);
    assert!(far.status.success());
    assert!(text(&far.stderr).contains("no description is close to these words"), "{}", text(&far.stderr));
}

#[test]
fn a_search_without_a_store_is_refused_with_advice() {
    let folder = tempfile::tempdir().expect("a folder");
    let found = search(&folder.path().join("data"), &["cat"]);
    assert_eq!(found.status.code(), Some(2), "{}", text(&found.stderr));
    assert!(!folder.path().join("data").exists(), "nothing is made");
}

#[cfg(target_os = "linux")]
#[test]
fn results_that_cannot_be_written_are_an_error() {
    let (_folder, data) = described();
    let full = fs::File::options().write(true).open("/dev/full").expect("it is there");
    let found = command().args(["search", "--data-dir"]).arg(&data).arg("gardasee").stdout(full).output();
    let found = found.expect("it runs");
    let stderr = text(&found.stderr);
    assert!(found.status.code() == Some(2) && stderr.contains("cannot write the results"), "{stderr}");
}
