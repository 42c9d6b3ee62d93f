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

#[test]
fn a_dump_is_restored_from_standard_input() {
    let folder = tempfile::tempdir().expect("a folder");
    let dump = "{\"tree\":\"meta\",\"key\":\"format\",\"value\":4}\n";
    std::fs::write(folder.path().join("dump"), dump).expect("written");
    let stdin = std::fs::File::open(folder.path().join("dump")).expect("it is there");
    let restored = Command::new(env!("CARGO_BIN_EXE_mediamill"))
        .args(["restore", "-", "--data-dir"])
        .arg(folder.path().join("data"))
        .stdin(stdin)
        .output()
        .expect("the program runs");
    assert!(restored.status.success(), "{restored:?}");
}

/// The refusal of a command, which must name something.
fn refusal(arguments: &[&str], named: &[&str]) {
    let output = mediamill(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
    for named in named {
        assert!(stderr.contains(named), "{arguments:?} does not name {named}: {stderr}");
    }
}

#[test]
fn options_that_would_do_nothing_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().to_string_lossy().into_owned();
    refusal(&["--model", "llava", "process", "."], &["--model llava has no effect", "--provider ollama"]);
    refusal(&["--provider", "magic", "check"], &["builtin", "ollama", "openai"]);
    refusal(&["serve", "--listen", "9999"], &["--listen 127.0.0.1:9999"]);
    refusal(&["serve", "--server", "http://nas"], &["this machine only"]);
    refusal(&["list", "--server", "http://nas", "--data-dir", &data], &["--data-dir", "--server"]);
    refusal(&["list", "--server", "nas:8484"], &["--server https://photos.example.org"]);
    refusal(&["list", "--server", "http://nas", "--owner", "ann"], &["--owner has no effect"]);
    refusal(&["cancel", "--data-dir", &data], &["--all"]);
    refusal(&["list", "--data-dir", &data], &["there is no store"]);
}

#[test]
fn a_fault_of_the_configuration_is_named_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("mediamill.toml");
    std::fs::write(&file, "[store]\ncache_mb = 8\n\n[limits\n").expect("written");
    let path = file.to_string_lossy().into_owned();
    refusal(&["--config", &path, "status"], &["mediamill.toml, line 4", "`[limits`"]);
    let check = mediamill(&["--config", &path, "check", "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&check.stdout).expect("JSON");
    assert_eq!((check.status.code(), &found["ok"]), (Some(1), &false.into()), "{found}");
    assert!(found["findings"][0]["text"].as_str().is_some_and(|it| it.contains("line 4")), "{found}");
}

#[test]
fn the_home_folder_may_be_written_as_a_tilde() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("mediamill.toml");
    std::fs::write(&file, "[store]\ndata_dir = \"~/pictures\"\n").expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_mediamill"))
        .args(["check", "--config"])
        .arg(&file)
        .env("HOME", folder.path())
        .current_dir(folder.path())
        .output()
        .expect("the program runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let data_dir = folder.path().join("pictures");
    assert!(
        stdout.contains(&*data_dir.to_string_lossy()) || stdout.contains("data folder: ~/pictures"),
        "{stdout}"
    );
    assert!(stdout.contains("mediamill.toml was read"), "{stdout}");
    assert!(!folder.path().join("~").exists());
}

#[test]
fn help_completions_and_manual_pages_name_every_command() {
    let help = mediamill(&["--help"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for words in ["Examples:", "Exit codes:", "MEDIAMILL_TOKEN", "NO_COLOR", "[default: builtin]"] {
        assert!(help.contains(words), "{words}: {help}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    let folder = tempfile::tempdir().expect("a folder");
    let pages = mediamill(&["manual", &folder.path().join("man1").to_string_lossy()]);
    assert!(pages.status.success(), "{pages:?}");
    let commands = [
        "process", "search", "list", "status", "batches", "retry", "cancel", "pause", "resume", "serve",
        "check", "models", "dump", "restore",
    ];
    for shell in ["bash", "zsh", "fish"] {
        let script = mediamill(&["completions", shell]);
        let script = String::from_utf8_lossy(&script.stdout).into_owned();
        assert!(commands.iter().all(|command| script.contains(command)), "{shell}");
    }
    for command in commands {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        assert!(folder.path().join(format!("man1/mediamill-{command}.1")).exists(), "{command}");
    }
}
