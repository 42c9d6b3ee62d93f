//! `mediamill mcp` from outside, as a client of the protocol.

mod program;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use program::{command, picture};
use serde_json::{Value, json};

struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    number: u32,
}

impl Client {
    fn start(data: &Path) -> Self {
        let mut mcp = command();
        mcp.args(["mcp", "--data-dir"]).arg(data).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = mcp.spawn().expect("it runs");
        let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let mut client = Self { child, input, output: BufReader::new(output), number: 0 };
        let info = client.ask(
            "initialize",
            json!({"protocolVersion": "2025-06-18", "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"}}),
        );
        assert_eq!(info["serverInfo"]["name"], "mediamill");
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        client
    }

    fn send(&mut self, message: &Value) {
        writeln!(self.input, "{message}").expect("sent");
    }

    fn ask(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let message = json!({"jsonrpc": "2.0", "id": self.number, "method": method, "params": parameters});
        self.send(&message);
        let mut line = String::new();
        self.output.read_line(&mut line).expect("an answer");
        let mut answer: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(answer["id"], self.number, "{answer}");
        answer["result"].take()
    }

    /// The content that a tool gives.
    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let mut result = self.ask("tools/call", json!({"name": tool, "arguments": arguments}));
        assert_ne!(result["isError"], true, "{result}");
        result["content"].take()
    }
}

fn read(content: &Value) -> Value {
    serde_json::from_str(content["text"].as_str().expect("text")).expect("JSON")
}

#[test]
fn a_model_searches_reads_lists_and_sees_pictures() {
    let folder = tempfile::tempdir().expect("a folder");
    let (photos, data) = (folder.path().join("photos"), folder.path().join("data"));
    fs::create_dir(&photos).expect("made");
    for (seed, name) in [(1, "gardasee.png"), (9, "gerlitzen.png")] {
        fs::write(photos.join(name), picture(seed)).expect("written");
    }
    let process = || command().args(["process", "--data-dir"]).arg(&data).arg(&photos).output();
    assert!(process().expect("it runs").status.success());

    let mut client = Client::start(&data);
    let tools = client.ask("tools/list", json!({}));
    let tools = tools["tools"].as_array().expect("tools").clone();
    let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["search", "get", "list", "picture"]);
    assert!(tools.iter().all(|tool| tool["annotations"]["readOnlyHint"] == true));

    let found = client.call("search", json!({"words": "gardasee", "limit": 1}));
    let found = read(&found[0]);
    assert_eq!((found.as_array().map(Vec::len), &found[0]["name"]), (Some(1), &json!("gardasee.png")));
    let id = &found[0]["id"];
    let upload = read(&client.call("get", json!({"id": id}))[0]);
    assert_eq!((&upload["status"], &upload["facts"]["width"]), (&json!("completed"), &json!(20)));
    // The store is free between two calls.
    assert!(process().expect("it runs").status.success());
    let batches = read(&client.call("list", json!({}))[0]);
    assert_eq!(batches[0]["completed"], 2);
    let uploads = read(&client.call("list", json!({"batch": batches[0]["id"], "offset": 1}))[0]);
    assert_eq!(uploads.as_array().map(Vec::len), Some(1));
    let shown = client.call("picture", json!({"id": id}));
    assert_eq!((&shown[0]["type"], &shown[0]["mimeType"]), (&json!("image"), &json!("image/jpeg")));
    let jpeg = BASE64_STANDARD.decode(shown[0]["data"].as_str().expect("text")).expect("Base64");
    assert!(jpeg.starts_with(b"\xff\xd8"));

    for (tool, arguments) in [
        ("get", json!({"id": "0190f2a0-0000-7000-8000-000000000000"})),
        ("picture", json!({"id": "no id"})),
        ("delete", json!({"id": id})),
    ] {
        let refused = client.ask("tools/call", json!({"name": tool, "arguments": arguments}));
        assert_eq!(refused["isError"], true, "{tool}: {refused}");
    }
    let Client { mut child, input, .. } = client;
    drop(input);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn a_model_sees_the_pictures_of_a_running_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let (photos, data) = (folder.path().join("photos"), folder.path().join("data"));
    fs::create_dir(&photos).expect("made");
    fs::write(photos.join("gardasee.png"), picture(1)).expect("written");
    let processed = command().args(["process", "--data-dir"]).arg(&data).arg(&photos).output();
    assert!(processed.expect("it runs").status.success());
    let mut serve = command();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data).stderr(Stdio::piped());
    let mut serve = serve.spawn().expect("it runs");
    let mut lines = BufReader::new(serve.stderr.take().expect("piped")).lines();
    assert!(lines.any(|line| line.expect("text").contains("listens at")));
    // Otherwise the server could not write.
    std::thread::spawn(move || lines.count());

    let mut client = Client::start(&data);
    let found = read(&client.call("search", json!({"words": "gardasee", "limit": 1}))[0]);
    let id = found[0]["upload"]["id"].clone();
    assert_eq!(found[0]["upload"]["filename"], "gardasee.png", "{found}");
    assert_eq!(read(&client.call("get", json!({"id": id}))[0])["processing_status"], "completed");
    let batches = read(&client.call("list", json!({}))[0]);
    let uploads = read(&client.call("list", json!({"batch": batches[0]["batch_id"]}))[0]);
    assert_eq!(uploads[0]["id"], id);
    let shown = client.call("picture", json!({"id": id}));
    let jpeg = BASE64_STANDARD.decode(shown[0]["data"].as_str().expect("text")).expect("Base64");
    assert!(jpeg.starts_with(b"\xff\xd8"));
    let Client { mut child, input, .. } = client;
    drop(input);
    assert!(child.wait().expect("it ends").success());
    serve.kill().expect("killed");
    serve.wait().expect("ended");
}
