//! The providers `ollama` and `openai` against a scripted server, over real sockets and in real time.

#[path = "support/model_server/mod.rs"]
mod model_server;

use std::{sync::Arc, time::Duration};

use mediamill_actors::{
    analysis::{self, DescribeRequest, Described, Provider, ProviderError},
    config::{Config, ProviderKind},
};
use model_server::{Fault, ModelServer, Script, TEXT};
use serde_json::json;

const KINDS: [ProviderKind; 2] = [ProviderKind::Ollama, ProviderKind::OpenAi];

fn config(kind: ProviderKind, url: String) -> Config {
    let mut config = Config::default();
    config.provider.kind = kind;
    config.provider.base_url = Some(url);
    config.provider.vision_model = Some("qwen2.5vl:7b".into());
    config.provider.embedding_model = Some("bge-m3".into());
    config.provider.connect_timeout = Duration::from_millis(500);
    config
}

fn connect(kind: ProviderKind, server: &ModelServer) -> Arc<dyn Provider> {
    analysis::connect(&config(kind, server.url())).expect("a valid configuration")
}

async fn describe(provider: &Arc<dyn Provider>, variation: u32) -> Result<Described, ProviderError> {
    provider.describe(Arc::new(DescribeRequest { variation, ..analysis::trial() })).await
}

async fn embed(provider: &Arc<dyn Provider>) -> Result<Vec<f32>, ProviderError> {
    provider.embed("A red disc stands on a white ground.".into()).await
}

/// Kind of an error, and its sentence.
fn failure<T: std::fmt::Debug>(answer: Result<T, ProviderError>) -> (&'static str, String) {
    let error = answer.expect_err("it fails");
    let kind = match &error {
        ProviderError::Unreachable { retry_after: Some(_), .. } => "busy",
        ProviderError::Unreachable { retry_after: None, .. } => "unreachable",
        ProviderError::Misconfigured { .. } => "misconfigured",
        ProviderError::BadAnswer { .. } => "bad answer",
        ProviderError::ServerFault { .. } => "server fault",
        ProviderError::TimedOut { .. } => "timed out",
    };
    (kind, error.message().to_owned())
}

fn status(status: u16, message: &str) -> Fault {
    Fault::Status { status, message: message.into(), headers: Vec::new() }
}

#[actix_rt::test]
async fn a_picture_is_described_and_a_text_embedded() {
    for kind in KINDS {
        let server = ModelServer::start(Script::default()).await;
        let provider = connect(kind, &server);
        assert_eq!(provider.probe().await, Ok(()));
        let described = describe(&provider, 0).await.expect("a description");
        assert_eq!((described.text.as_str(), described.changed), (TEXT, None));
        let vector = embed(&provider).await.expect("a vector");
        assert_eq!(vector.len(), 1024);
        assert!((vector.iter().map(|it| it * it).sum::<f32>() - 1.0).abs() < 1e-3);
    }
}

#[actix_rt::test]
async fn a_failed_description_has_a_sentence_that_says_what_to_do() {
    let html = Fault::Page { status: 200 };
    let gateway = Fault::Page { status: 502 };
    for (fault, expected, words) in [
        (html, "misconfigured", "web page instead of JSON; check provider.base_url"),
        (gateway, "unreachable", "does not answer for now (502: a web page, Sign in Welcome)"),
        (Fault::Page { status: 404 }, "misconfigured", "check provider.base_url"),
        (Fault::Page { status: 413 }, "server fault", "lower vision.max_pixels"),
        (Fault::Cut, "unreachable", "broke off after"),
        (Fault::Unfinished, "unreachable", "ended before it was complete"),
        (Fault::ErrorLine, "server fault", "its own log tells more"),
        (Fault::Empty, "bad answer", "empty text"),
        (
            Fault::Thinking,
            "bad answer",
            "raise provider.max_image_tokens or choose a model that does not think",
        ),
        (Fault::Repetition, "bad answer", "repeats itself without end"),
        (Fault::LargePicture { above_pixels: 1000 }, "server fault", "model runner has unexpectedly stopped"),
        (status(500, "boom"), "server fault", "boom"),
        (status(200, "Unexpected endpoint or method"), "server fault", "Unexpected endpoint"),
        (status(503, "server busy, please try again"), "busy", "503: server busy"),
        (Fault::Page { status: 503 }, "unreachable", "does not answer for now (503"),
        (status(429, "slow down"), "busy", "lower provider.vision_concurrency"),
        (status(429, "insufficient_quota: check your plan"), "misconfigured", "quota"),
        (status(403, "no"), "misconfigured", "provider.api_key_env"),
        (status(402, "no credit"), "misconfigured", "requires payment"),
        (
            status(404, "model 'qwen2.5vl:7b' not found"),
            "misconfigured",
            "does not have the model `qwen2.5vl:7b`",
        ),
        (status(302, ""), "misconfigured", "put that address into provider.base_url"),
        (status(400, "invalid option"), "bad answer", "400: invalid option"),
    ] {
        for kind in KINDS {
            let server = ModelServer::start(Script { chat: Some(fault.clone()), ..Script::default() }).await;
            let (failure, sentence) = failure(describe(&connect(kind, &server), 0).await);
            assert_eq!(failure, expected, "{kind:?} {fault:?}: {sentence}");
            assert!(sentence.contains(words), "{kind:?} {fault:?}: {sentence}");
            assert!(
                !sentence.ends_with('.') && sentence.len() < 600 && !sentence.contains('\n'),
                "{sentence}"
            );
        }
    }
}

#[actix_rt::test]
async fn a_failed_embedding_has_a_sentence_that_says_what_to_do() {
    for (fault, expected, words) in [
        (Fault::NaN, "bad answer", ""),
        (Fault::Zeros, "bad answer", "zeros"),
        (
            Fault::Dimensions(768),
            "misconfigured",
            "768 numbers, but provider.embedding_dimensions is 1024; set it to 768",
        ),
        (Fault::Dimensions(0), "bad answer", "empty vector"),
        (Fault::Page { status: 200 }, "misconfigured", "web page"),
        (Fault::Cut, "unreachable", "broke off after"),
        (status(500, "input is too large to process"), "server fault", "too large"),
        (status(501, "This server does not support embeddings"), "misconfigured", "embeddings"),
        (status(401, "who?"), "misconfigured", "requires a key (401: who?); name"),
    ] {
        for kind in KINDS {
            let server = ModelServer::start(Script { embed: Some(fault.clone()), ..Script::default() }).await;
            let (failure, sentence) = failure(embed(&connect(kind, &server)).await);
            assert_eq!(failure, expected, "{kind:?} {fault:?}: {sentence}");
            assert!(sentence.contains(words), "{kind:?} {fault:?}: {sentence}");
        }
    }
}

#[actix_rt::test]
async fn a_picture_is_sent_in_the_form_of_the_interface_with_constant_options() {
    let server = ModelServer::start(Script::default()).await;
    let provider = connect(ProviderKind::Ollama, &server);
    for variation in [0, 1] {
        describe(&provider, variation).await.expect("a description");
    }
    let sent = server.sent_to("/api/chat");
    let image = sent[0]["messages"][0]["images"][0].as_str().expect("a picture");
    assert!(
        !image.starts_with("data:") && sent[0]["messages"][0]["images"].as_array().map(Vec::len) == Some(1)
    );
    assert_eq!(
        sent[0]["options"],
        json!({ "num_ctx": 8192, "num_predict": 512, "temperature": 0.3, "seed": 1 })
    );
    assert_eq!(
        sent[0]["options"]["num_ctx"], sent[1]["options"]["num_ctx"],
        "another value would make the server load the model again"
    );
    assert_eq!(sent[0].get("think"), None, "the model has no reasoning to disable");

    let provider = connect(ProviderKind::OpenAi, &server);
    describe(&provider, 0).await.expect("a description");
    let sent = server.sent_to("/v1/chat/completions");
    let url = sent[0]["messages"][0]["content"][1]["image_url"]["url"].as_str().expect("a picture");
    assert!(url.starts_with("data:image/jpeg;base64,/9j/"));
    embed(&provider).await.expect("a vector");
    assert_eq!(server.sent_to("/v1/embeddings")[0]["encoding_format"], "float");
}

#[actix_rt::test]
async fn a_repeated_question_differs_and_says_how() {
    for (kind, path) in [(ProviderKind::Ollama, "/api/chat"), (ProviderKind::OpenAi, "/v1/chat/completions")]
    {
        let server = ModelServer::start(Script::default()).await;
        let provider = connect(kind, &server);
        let mut changes = Vec::new();
        for variation in 0..3 {
            changes.push(
                describe(&provider, variation).await.expect("a description").changed.unwrap_or_default(),
            );
        }
        let sent = server.sent_to(path);
        assert!(sent[0] != sent[1] && sent[1] != sent[2]);
        assert_eq!(changes[0], "");
        assert!(changes[1].starts_with("temperature 0.6, seed 2,"), "{}", changes[1]);
        assert!(changes[2].starts_with("temperature 0.9, seed 3,"), "{}", changes[2]);
    }
}

#[actix_rt::test]
async fn a_video_is_described_frame_by_frame_and_then_as_a_whole() {
    for (kind, path) in [(ProviderKind::Ollama, "/api/chat"), (ProviderKind::OpenAi, "/v1/chat/completions")]
    {
        let server = ModelServer::start(Script::default()).await;
        let mut request = analysis::trial();
        request.pictures = vec![request.pictures[0].clone(); 3].into();
        request.frame_seconds = vec![0.0, 1.0, 2.0];
        let described = connect(kind, &server).describe(Arc::new(request)).await.expect("a description");
        assert_eq!((described.text.as_str(), described.changed), (TEXT, None));
        let sent: Vec<String> = server.sent_to(path).iter().map(ToString::to_string).collect();
        assert_eq!(sent.len(), 4);
        assert!(sent[..3].iter().all(|it| it.matches("/9j/").count() == 1), "one picture each");
        assert!(
            !sent[3].contains("/9j/") && sent[3].contains("[0:02] A red disc") && sent[3].contains("2048")
        );
    }
}

#[actix_rt::test]
async fn a_frame_without_an_answer_in_time_is_timed_out() {
    for kind in KINDS {
        let server = ModelServer::start(Script { chat: Some(Fault::Hang), ..Script::default() }).await;
        let mut config = config(kind, server.url());
        config.provider.request_timeout = Duration::from_millis(100);
        config.provider.first_request_timeout = Duration::from_millis(100);
        let provider = analysis::connect(&config).expect("a valid configuration");
        let request = DescribeRequest { frame_seconds: vec![0.0], ..analysis::trial() };
        let (kind, sentence) = failure(provider.describe(Arc::new(request)).await);
        assert!(kind == "timed out" && sentence.contains("within 0.1 s"), "{kind}: {sentence}");
    }
}

#[actix_rt::test]
async fn a_truncated_text_loses_its_unfinished_sentence_and_says_so() {
    for kind in KINDS {
        let server = ModelServer::start(Script { chat: Some(Fault::Length), ..Script::default() }).await;
        let described = describe(&connect(kind, &server), 0).await.expect("a description");
        assert_eq!(described.text, TEXT);
        assert!(described.changed.is_some_and(|it| it.contains("token limit")));
    }
}

#[actix_rt::test]
async fn a_text_with_too_many_tokens_names_the_key_that_shortens_it() {
    let script = Script { embed: Some(Fault::LongText { above_chars: 5 }), ..Script::default() };
    let server = ModelServer::start(script).await;
    let (kind, sentence) = failure(embed(&connect(ProviderKind::OpenAi, &server)).await);
    assert!(kind == "server fault" && sentence.contains("provider.embedding_max_chars"), "{sentence}");
}

#[actix_rt::test]
async fn an_answer_may_be_one_value_or_a_slow_stream() {
    for fault in [Fault::Whole, Fault::Drip { every_ms: 1 }] {
        for kind in KINDS {
            let server = ModelServer::start(Script { chat: Some(fault.clone()), ..Script::default() }).await;
            assert_eq!(
                describe(&connect(kind, &server), 0).await.map(|it| it.text),
                Ok(TEXT.into()),
                "{fault:?}"
            );
        }
    }
}

#[actix_rt::test]
async fn a_key_is_sent_and_never_shown() {
    // `PATH` is set everywhere, and serves as the key.
    let key = std::env::var("PATH").expect("set");
    for kind in KINDS {
        let server = ModelServer::start(Script { key: Some(key.clone()), ..Script::default() }).await;
        let mut config = config(kind, server.url());
        config.provider.api_key_env = Some("PATH".into());
        let provider = analysis::connect(&config).expect("the key is there");
        describe(&provider, 0).await.expect("the key is right");
        server.follow(|script| script.key = Some("another".into()));
        let (failure, sentence) = failure(describe(&provider, 0).await);
        assert!(failure == "misconfigured" && sentence.contains("rejects the key"), "{sentence}");
        assert!(
            !sentence.contains(&key) && !format!("{:?}", provider.identity()).contains(&key),
            "{sentence}"
        );
    }
    let mut config = config(ProviderKind::OpenAi, "http://127.0.0.1:1".into());
    config.provider.api_key_env = Some("NO_SUCH_VARIABLE".into());
    let refused = analysis::connect(&config).err().expect("there is no key").to_string();
    assert!(refused.contains("set NO_SUCH_VARIABLE"), "{refused}");
}

#[actix_rt::test]
async fn a_stopped_server_is_unreachable_until_it_is_back() {
    for kind in KINDS {
        let server = ModelServer::start(Script::default()).await;
        let provider = connect(kind, &server);
        assert_eq!(provider.probe().await, Ok(()));
        let address = server.stop().await;
        let (kind, sentence) = failure(describe(&provider, 0).await);
        assert!(kind == "unreachable" && sentence.contains("is it running"), "{kind} {sentence}");
        assert_eq!(failure(provider.probe().await).0, "unreachable");
        let _back = ModelServer::start_at(address, Script::default()).await;
        describe(&provider, 0).await.expect("it is back");
    }
}

#[actix_rt::test]
async fn a_busy_server_names_the_pause() {
    let now = "Sat, 01 Aug 2026 10:00:00 GMT";
    for (headers, seconds) in [
        (vec![], 2.0),
        (vec![("retry-after", "7")], 7.0),
        (vec![("retry-after", "7"), ("retry-after-ms", "1500")], 1.5),
        (vec![("date", now), ("retry-after", "Sat, 01 Aug 2026 10:00:30 GMT")], 30.0),
        (vec![("retry-after", "soon")], 2.0),
    ] {
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let fault = Fault::Status { status: 429, message: "slow down".into(), headers };
        let server = ModelServer::start(Script { chat: Some(fault), ..Script::default() }).await;
        let error = describe(&connect(ProviderKind::OpenAi, &server), 0).await.expect_err("busy");
        let ProviderError::Unreachable { retry_after, .. } = error else { unreachable!("{error:?}") };
        assert_eq!(retry_after, Some(Duration::from_secs_f64(seconds)));
    }
}
