//! The command line from outside.

use std::process::{Command, Output};

fn mediamill(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mediamill")).args(arguments).output().expect("the program runs")
}

#[test]
fn a_dump_is_restored_into_an_empty_folder_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let dump = r#"{"tree":"meta","key":"format","value":4}
{"tree":"meta","key":"next_batch","value":7}
{"tree":"removals","key":"019e0000-0000-7000-8000-000000000000","value":null}
"#;
    std::fs::write(path("dump"), dump).expect("written");
    let restored = mediamill(&["restore", &path("dump"), "--data-dir", &path("data")]);
    assert!(restored.status.success(), "{restored:?}");
    let dumped = mediamill(&["dump", "--data-dir", &path("data")]);
    let (begin, end) = (
        r#"{"tree":"dump","key":"begin","value":"mediamill"}"#,
        r#"{"tree":"dump","key":"end","value":{"lines":3}}"#,
    );
    let dumped = String::from_utf8_lossy(&dumped.stdout).into_owned();
    assert_eq!(dumped, format!("{begin}\n{dump}{end}\n"), "with a frame, which older dumps lack");
    let again = mediamill(&["restore", &path("dump"), "--data-dir", &path("data")]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("not empty"), "{again:?}");
}

#[test]
fn a_damaged_and_a_missing_store_are_refused_with_a_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data").to_string_lossy().into_owned();
    let missing = mediamill(&["dump", "--data-dir", &data]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("there is no store"), "{missing:?}");
    let dump = r#"{"tree":"changes","key":"00000000000000000001","value":{"owner":"local","seq":1}}"#;
    std::fs::write(folder.path().join("dump"), dump).expect("written");
    let restored =
        mediamill(&["restore", &folder.path().join("dump").to_string_lossy(), "--data-dir", &data]);
    // The event of the change is missing.
    assert!(String::from_utf8_lossy(&restored.stderr).contains("cut short"), "{restored:?}");
    let db = folder.path().join("data/store/db");
    let whole = std::fs::read(&db).expect("a store");
    for damaged in [vec![0xa5; whole.len()], Vec::new()] {
        std::fs::write(&db, damaged).expect("written");
        let refused = mediamill(&["dump", "--data-dir", &data]);
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("mediamill restore") && !stderr.contains("panicked"), "{stderr}");
    }
}
