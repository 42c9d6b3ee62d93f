//! OpenAI's interface, like that of hosted servers and of llama.cpp.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{Fault, Reply, Request, Script, TEXT, picture, vector};

pub(super) fn answer(request: &Request, script: &Script, fault: Option<&Fault>) -> Reply {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/v1/models") => list(script),
        ("POST", "/v1/chat/completions") => chat(&request.body, script, fault),
        ("POST", "/v1/embeddings") => embed(&request.body, script, fault),
        _ => refuse(404, "Invalid URL", "invalid_request_error", &Value::Null),
    }
}

fn refuse(status: u16, message: &str, kind: &str, code: &Value) -> Reply {
    Reply::json(status, json!({ "error": { "message": message, "type": kind, "param": null, "code": code } }))
}

/// Servers repeat the key of the request.
pub(super) fn wrong_key(request: &Request) -> Reply {
    let key = request.key.as_deref().unwrap_or_default();
    refuse(
        401,
        &format!("Incorrect API key provided: {key}."),
        "invalid_request_error",
        &json!("invalid_api_key"),
    )
}

/// llama.cpp's report about itself; older versions do not report vision.
pub(super) fn props(script: &Script) -> Reply {
    let mut props = json!({ "total_slots": 1, "model_path": "model.gguf", "build_info": "b11549" });
    if let Some(vision) = script.tells_vision {
        props["modalities"] = json!({ "vision": vision, "video": vision, "audio": false });
    }
    Reply::json(200, props)
}

fn list(script: &Script) -> Reply {
    if script.llama_cpp {
        // One model for each process, in two lists.
        let model = script.models.first();
        let name = model.map(|it| it.name.clone());
        let vision = model
            .and_then(|it| it.capabilities.as_ref())
            .is_some_and(|it| it.iter().any(|it| it == "vision"));
        let capabilities = if vision { json!(["completion", "multimodal"]) } else { json!(["completion"]) };
        let meta = json!({
            "n_vocab": 151_936, "n_ctx_train": 32_768, "n_embd": model.map(|it| it.dimensions),
            "size": 1_000_000,
        });
        let mut reply = Reply::json(
            200,
            json!({
                "models": [{ "name": name, "model": name, "capabilities": capabilities }],
                "object": "list",
                "data": [{
                    "id": name, "object": "model", "created": 1_754_000_000, "owned_by": "llamacpp",
                    "meta": meta,
                }],
            }),
        );
        reply.headers.push(("server".into(), "llama.cpp".into()));
        return reply;
    }
    let data: Vec<Value> = script
        .models
        .iter()
        .map(
            |it| json!({ "id": it.name, "object": "model", "created": 1_754_000_000, "owned_by": "library" }),
        )
        .collect();
    Reply::json(200, json!({ "object": "list", "data": data }))
}

/// The error for a missing model, on servers that check the name.
fn missing(body: &Value, script: &Script) -> Option<Reply> {
    let name = body["model"].as_str().unwrap_or_default();
    if name.is_empty() && !script.llama_cpp {
        return Some(refuse(
            400,
            "you must provide a model parameter",
            "invalid_request_error",
            &Value::Null,
        ));
    }
    (!script.llama_cpp && script.model(name).is_none()).then(|| {
        let message = format!("The model `{name}` does not exist or you do not have access to it.");
        refuse(404, &message, "invalid_request_error", &json!("model_not_found"))
    })
}

fn chat(body: &Value, script: &Script, fault: Option<&Fault>) -> Reply {
    if let Some(reply) = missing(body, script) {
        return reply;
    }
    if let Some(Fault::Refuses(parameters)) = fault
        && let Some(parameter) = parameters.iter().find(|it| body.get(it.as_str()).is_some())
    {
        let message = format!("Unsupported parameter: '{parameter}' is not supported with this model.");
        return refuse(400, &message, "invalid_request_error", &json!("unsupported_parameter"));
    }
    let Some(messages) = body["messages"].as_array().filter(|it| !it.is_empty()) else {
        return refuse(400, "'messages' is required", "invalid_request_error", &Value::Null);
    };
    let parts = messages.iter().filter_map(|it| it["content"].as_array()).flatten();
    let mut pictures = 0;
    for part in parts {
        match part["type"].as_str() {
            Some("text") if part["text"].is_string() => {}
            Some("image_url") => {
                if matches!(fault, Some(Fault::Blind)) {
                    let message = "image input is not supported - hint: if this is unexpected, you may need \
                                   to provide the mmproj";
                    return refuse(500, message, "server_error", &json!(500));
                }
                let url = part["image_url"]["url"].as_str().unwrap_or_default();
                let data = url
                    .strip_prefix("data:image/jpeg;base64,")
                    .or(url.strip_prefix("data:image/png;base64,"));
                match data.and_then(picture) {
                    Some((width, height)) if width >= 28 && height >= 28 => pictures += 1,
                    _ => {
                        return refuse(
                            400,
                            "Failed to load image or audio file",
                            "invalid_request_error",
                            &json!(400),
                        );
                    }
                }
            }
            _ => return refuse(400, "unsupported content[].type", "invalid_request_error", &json!(400)),
        }
    }
    if pictures > 1 {
        return refuse(
            400,
            "this server is scripted to take one picture a request",
            "invalid_request_error",
            &Value::Null,
        );
    }
    let (said, thought, reason) = match fault {
        Some(Fault::Empty) => (String::new(), "", "stop"),
        Some(Fault::Thinking) => (String::new(), "The user wants to know what is in the picture.", "length"),
        Some(Fault::Repetition) => ("A red disc on white. ".repeat(400), "", "length"),
        Some(Fault::Length) => (format!("{TEXT} Above it ther"), "", "length"),
        _ => (TEXT.to_owned(), "", "stop"),
    };
    let base = |object: &str, choice: Value| {
        json!({
            "id": "chatcmpl-scripted", "object": object, "created": 1_754_000_000, "model": body["model"],
            "choices": [choice],
        })
    };
    if body["stream"] != true || matches!(fault, Some(Fault::Whole)) {
        let mut message = json!({ "role": "assistant", "content": said });
        if !thought.is_empty() {
            message["reasoning_content"] = json!(thought);
        }
        let mut whole = base(
            "chat.completion",
            json!({ "index": 0, "message": message, "finish_reason": reason, "logprobs": null }),
        );
        whole["usage"] = json!({ "prompt_tokens": 1302, "completion_tokens": 40, "total_tokens": 1342 });
        return Reply::json(200, whole);
    }
    let event = |delta: Value, reason: Value| {
        format!(
            "data: {}\n\n",
            base("chat.completion.chunk", json!({ "index": 0, "delta": delta, "finish_reason": reason }))
        )
    };
    if matches!(fault, Some(Fault::Parts)) {
        let thought = json!([{ "type": "thinking", "thinking": [{ "type": "text", "text": "A disc?" }] }]);
        let (first, rest) = said.split_at(10);
        let parts = [thought, json!([{ "type": "text", "text": first }]), json!([rest])];
        let mut events: Vec<String> =
            parts.into_iter().map(|parts| event(json!({ "content": parts }), Value::Null)).collect();
        events.push(event(json!({}), json!(reason)));
        return Reply::stream("text/event-stream", events);
    }
    let mut events = vec![
        ": keep-alive\n\n".to_owned(),
        event(json!({ "role": "assistant", "content": null }), Value::Null),
    ];
    if !thought.is_empty() {
        events.push(event(json!({ "reasoning_content": thought }), Value::Null));
    }
    events.extend(said.split_inclusive(' ').map(|piece| event(json!({ "content": piece }), Value::Null)));
    match fault {
        Some(Fault::ErrorLine) => {
            events.truncate(4);
            let error = json!({ "code": 500, "message": "failed to decode image", "type": "server_error" });
            events.push(format!("data: {}\n\n", json!({ "error": error })));
        }
        Some(Fault::Unfinished) => {}
        _ => {
            events.push(event(json!({}), json!(reason)));
            events.push("data: [DONE]\n\n".to_owned());
        }
    }
    Reply::stream("text/event-stream", events)
}

fn embed(body: &Value, script: &Script, fault: Option<&Fault>) -> Reply {
    if let Some(reply) = missing(body, script) {
        return reply;
    }
    let inputs: Vec<&str> = match &body["input"] {
        Value::String(text) => vec![text],
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if inputs.is_empty() || inputs.contains(&"") {
        return refuse(400, "'$.input' is invalid.", "invalid_request_error", &Value::Null);
    }
    let name = body["model"].as_str().unwrap_or_default();
    let model = if script.llama_cpp { script.models.last() } else { script.model(name) };
    let dimensions = match fault {
        Some(Fault::LongText { above_chars })
            if inputs.iter().any(|it| it.chars().count() > *above_chars) =>
        {
            let message = "input (1442 tokens) is too large to process. increase the physical batch size \
                           (current batch size: 512)";
            return refuse(500, message, "server_error", &json!(500));
        }
        Some(Fault::Dimensions(dimensions)) => *dimensions,
        _ => body["dimensions"].as_u64().map_or(model.map_or(8, |it| it.dimensions), |it| it as usize),
    };
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let numbers = vector(text, dimensions);
            let embedding = match fault {
                Some(Fault::NaN) => json!(vec![Value::Null; dimensions]),
                Some(Fault::Zeros) => json!(vec![0.0; dimensions]),
                _ if body["encoding_format"] == "base64" => {
                    let bytes: Vec<u8> = numbers.iter().flat_map(|it| it.to_le_bytes()).collect();
                    json!(BASE64_STANDARD.encode(bytes))
                }
                _ => json!(numbers),
            };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    let usage = json!({ "prompt_tokens": 8, "total_tokens": 8 });
    Reply::json(200, json!({ "object": "list", "data": data, "model": name, "usage": usage }))
}
