//! Ollama's own interface.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Body, Fault, Reply, Request, Script, TEXT, picture, script::ScriptedModel, vector};

const TIME: &str = "2026-08-01T10:00:00.000000Z";

pub(super) fn answer(request: &Request, script: &Script, fault: Option<&Fault>) -> Reply {
    let body = &request.body;
    match (request.method.as_str(), request.path.as_str()) {
        ("GET" | "HEAD", "/") => text(200, "Ollama is running"),
        ("GET", "/api/version") => Reply::json(200, json!({ "version": "0.12.6" })),
        ("GET", "/api/tags") => {
            Reply::json(200, json!({ "models": script.models.iter().map(listed).collect::<Vec<_>>() }))
        }
        ("POST", "/api/embed") if script.old => text(404, "404 page not found"),
        ("POST", "/api/show" | "/api/chat" | "/api/embed" | "/api/embeddings") => {
            let name = body["model"].as_str().or(body["name"].as_str()).unwrap_or_default();
            match script.model(name) {
                _ if name.is_empty() => error(400, "model is required"),
                None => error(404, &format!("model '{name}' not found")),
                Some(model) => match request.path.as_str() {
                    "/api/show" => shown(model),
                    "/api/chat" => chat(body, model, fault),
                    "/api/embed" => embed(body, model, fault),
                    _ => old_embed(body, model, fault),
                },
            }
        }
        ("POST", "/api/pull") => pull(body, fault),
        _ => text(404, "404 page not found"),
    }
}

fn error(status: u16, message: &str) -> Reply {
    Reply::json(status, json!({ "error": message }))
}

fn text(status: u16, text: &str) -> Reply {
    Reply {
        status,
        headers: vec![("content-type".into(), "text/plain; charset=utf-8".into())],
        body: Body::Whole(text.into()),
        pause: Duration::ZERO,
    }
}

fn details() -> Value {
    json!({
        "parent_model": "", "format": "gguf", "family": "scripted", "families": ["scripted"],
        "parameter_size": "8.3B", "quantization_level": "Q4_K_M",
    })
}

fn listed(model: &ScriptedModel) -> Value {
    json!({
        "name": model.name, "model": model.name, "modified_at": TIME, "size": 5_969_245_856_u64,
        "digest": model.digest, "details": details(),
    })
}

fn shown(model: &ScriptedModel) -> Reply {
    let mut shown = json!({
        "modelfile": "# Modelfile", "template": "{{ .Prompt }}", "details": details(), "modified_at": TIME,
        "model_info": {
            "general.architecture": "scripted", "scripted.context_length": 8192,
            "scripted.embedding_length": model.dimensions,
        },
    });
    if let Some(capabilities) = &model.capabilities {
        shown["capabilities"] = json!(capabilities);
    }
    Reply::json(200, shown)
}

fn has(model: &ScriptedModel, capability: &str) -> bool {
    model.capabilities.as_ref().is_none_or(|it| it.iter().any(|it| it == capability))
}

fn chat(body: &Value, model: &ScriptedModel, fault: Option<&Fault>) -> Reply {
    let stream = body["stream"].as_bool().unwrap_or(true);
    let line = |fields: Value| {
        let mut line = json!({ "model": body["model"], "created_at": TIME });
        if let (Some(line), Some(fields)) = (line.as_object_mut(), fields.as_object()) {
            line.extend(fields.clone());
        }
        line
    };
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    if messages.is_empty() {
        // A chat without messages loads the model.
        let message = json!({ "role": "assistant", "content": "" });
        return Reply::json(200, line(json!({ "message": message, "done": true, "done_reason": "load" })));
    }
    if !has(model, "completion") {
        return error(400, &format!("\"{}\" does not support chat", model.name));
    }
    if body["think"] == true && !has(model, "thinking") {
        return error(400, &format!("\"{}\" does not support thinking", model.name));
    }
    for message in &messages {
        let images = message["images"].as_array().map_or(&[][..], Vec::as_slice);
        if images.len() > 1 {
            return error(
                500,
                "this server is scripted to refuse what real ones merge: several pictures in one request",
            );
        }
        for image in images {
            match picture(image.as_str().unwrap_or_default()) {
                None => return error(400, "illegal base64 data at input byte 4"),
                Some((width, height)) if width < 56 || height < 56 => {
                    return error(500, "model runner has unexpectedly stopped");
                }
                Some(_) if !has(model, "vision") => {
                    return error(500, "this model is missing data required for image input");
                }
                Some(_) => {}
            }
        }
    }
    let (said, thought, reason) = match fault {
        Some(Fault::Empty) => (String::new(), "", "stop"),
        Some(Fault::Thinking) => (String::new(), "The user wants to know what is in the picture.", "length"),
        Some(Fault::Repetition) => ("A red disc on white. ".repeat(400), "", "length"),
        Some(Fault::Length) => (format!("{TEXT} Above it ther"), "", "length"),
        _ => (TEXT.to_owned(), "", "stop"),
    };
    let message = |content: &str, thinking: &str| {
        let mut message = json!({ "role": "assistant", "content": content });
        if !thinking.is_empty() {
            message["thinking"] = json!(thinking);
        }
        message
    };
    let done = |content: &str, thinking: &str| {
        line(json!({
            "message": message(content, thinking), "done": true, "done_reason": reason,
            "total_duration": 4_883_583_458_u64, "load_duration": 1_334_875_u64, "prompt_eval_count": 1302,
            "prompt_eval_duration": 342_546_000_u64, "eval_count": 40, "eval_duration": 4_535_599_000_u64,
        }))
    };
    if !stream || matches!(fault, Some(Fault::Whole)) {
        return Reply::json(200, done(&said, thought));
    }
    let mut lines: Vec<Value> = Vec::new();
    if !thought.is_empty() {
        lines.push(line(json!({ "message": message("", thought), "done": false })));
    }
    lines.extend(
        said.split_inclusive(' ').map(|piece| line(json!({ "message": message(piece, ""), "done": false }))),
    );
    match fault {
        Some(Fault::ErrorLine) => {
            lines.truncate(3);
            lines
                .push(json!({ "error": "an error was encountered while running the model: unexpected EOF" }));
        }
        Some(Fault::Unfinished) => {}
        _ => lines.push(done("", "")),
    }
    Reply::stream("application/x-ndjson", lines.iter().map(|it| format!("{it}\n")).collect())
}

fn embed(body: &Value, model: &ScriptedModel, fault: Option<&Fault>) -> Reply {
    let inputs: Vec<&str> = match &body["input"] {
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::String(text) => vec![text],
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect(),
        _ => return error(400, "invalid input type"),
    };
    let dimensions = match fault {
        // Ollama answers many faults with status 400.
        Some(Fault::NaN) => return error(400, "failed to encode response: json: unsupported value: NaN"),
        Some(Fault::LongText { above_chars })
            if inputs.iter().any(|it| it.chars().count() > *above_chars) =>
        {
            return error(400, "the input length exceeds the context length");
        }
        Some(Fault::Dimensions(dimensions)) => *dimensions,
        _ => model.dimensions,
    };
    let embeddings: Vec<Vec<f32>> = inputs
        .iter()
        .map(|text| {
            if matches!(fault, Some(Fault::Zeros)) { vec![0.0; dimensions] } else { vector(text, dimensions) }
        })
        .collect();
    Reply::json(
        200,
        json!({
            "model": body["model"], "embeddings": embeddings, "total_duration": 14_143_917,
            "load_duration": 1_019_500, "prompt_eval_count": 8,
        }),
    )
}

fn old_embed(body: &Value, model: &ScriptedModel, fault: Option<&Fault>) -> Reply {
    let numbers: Vec<f32> = vector(body["prompt"].as_str().unwrap_or_default(), model.dimensions);
    // The vectors of `/api/embeddings` do not have length 1.
    let numbers: Vec<Option<f32>> = numbers.into_iter().map(|it| Some(it * 20.0)).collect();
    let numbers = if matches!(fault, Some(Fault::NaN)) { vec![None; model.dimensions] } else { numbers };
    Reply::json(200, json!({ "embedding": numbers }))
}

fn pull(body: &Value, fault: Option<&Fault>) -> Reply {
    let name = body["model"].as_str().or(body["name"].as_str()).unwrap_or_default();
    let part = |digest: char, total: u64, completed: u64| {
        let digest = format!("sha256:{}", digest.to_string().repeat(64));
        let status = format!("pulling {}", &digest[7..19]);
        json!({ "status": status, "digest": digest, "total": total, "completed": completed })
    };
    let mut lines = vec![json!({ "status": "pulling manifest" })];
    if name.starts_with("no-such") {
        lines.push(json!({ "error": "pull model manifest: file does not exist" }));
    } else {
        lines.extend([part('1', 1000, 0), part('1', 1000, 500), part('1', 1000, 1000), part('2', 200, 200)]);
        if matches!(fault, Some(Fault::ErrorLine)) {
            lines.push(json!({ "error": "max retries exceeded: unexpected EOF" }));
        } else if !matches!(fault, Some(Fault::Unfinished)) {
            lines.extend(
                ["verifying sha256 digest", "writing manifest", "success"].map(|it| json!({ "status": it })),
            );
        }
    }
    if body["stream"] == false {
        return Reply::json(200, lines.pop().unwrap_or_default());
    }
    Reply::stream("application/x-ndjson", lines.iter().map(|it| format!("{it}\n")).collect())
}
