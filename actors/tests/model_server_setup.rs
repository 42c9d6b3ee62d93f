//! The reports of the providers about their servers and models, and the fetching of a model,
//! against a scripted server.

#[path = "support/model_server/mod.rs"]
mod model_server;

use std::{sync::Arc, time::Duration};

use mediamill_actors::{
    analysis::{self, DescribeRequest, Provider, ProviderError, PullProgress, Role},
    config::{Config, ProviderKind},
    media::VisionSpec,
};
use model_server::{Fault, ModelServer, Script, TEXT};
use serde_json::json;

fn config(kind: ProviderKind, server: &ModelServer) -> Config {
    let mut config = Config::default();
    config.provider.kind = kind;
    config.provider.base_url = Some(server.url());
    config.provider.vision_model = Some("qwen2.5vl:7b".into());
    config.provider.embedding_model = Some("bge-m3".into());
    config.provider.connect_timeout = Duration::from_millis(500);
    config
}

fn connect(config: &Config) -> Arc<dyn Provider> {
    analysis::connect(config).expect("a valid configuration")
}

async fn describe(provider: &Arc<dyn Provider>) -> Result<String, ProviderError> {
    provider.describe(Arc::new(analysis::trial())).await.map(|it| it.text)
}

#[actix_rt::test]
async fn a_report_has_versions_models_and_their_capabilities() {
    let server = ModelServer::start(Script::default()).await;
    let report = connect(&config(ProviderKind::Ollama, &server)).report().await;
    assert!(report.is_ready() && report.servers.len() == 1, "{report:?}");
    assert_eq!(report.servers[0].version.as_deref(), Some("Ollama 0.12.6"));
    let vision = &report.models[0];
    assert_eq!(
        (vision.role, vision.installed, vision.size_bytes),
        (Role::Vision, Some(true), Some(5_969_245_856))
    );
    assert_eq!(vision.capabilities, Some(vec!["completion".into(), "vision".into()]));
    assert_eq!(report.models[1].dimensions, Some(1024));

    let mut config = config(ProviderKind::OpenAi, &server);
    let report = connect(&config).report().await;
    assert_eq!(report.models.iter().map(|it| it.installed).collect::<Vec<_>>(), [Some(true), Some(true)]);
    config.provider.vision_model = Some("gpt-none".into());
    let report = connect(&config).report().await;
    assert_eq!(report.models[0].installed, Some(false));
    assert!(report.is_ready(), "a list may be incomplete: {report:?}");

    server.follow(|script| script.llama_cpp = true);
    let report = connect(&config).report().await;
    assert_eq!(report.servers[0].version.as_deref(), Some("llama.cpp"));
    assert_eq!(report.models[0].capabilities, Some(vec!["completion".into(), "multimodal".into()]));
}

#[actix_rt::test]
async fn a_report_of_a_missing_model_has_the_command_that_installs_it() {
    let server = ModelServer::start(Script { models: Vec::new(), ..Script::default() }).await;
    let config = config(ProviderKind::Ollama, &server);
    let report = connect(&config).report().await;
    let installs: Vec<_> =
        report.models.iter().map(|it| (it.installed, it.install.as_deref().unwrap_or_default())).collect();
    assert_eq!(installs, [(Some(false), "ollama pull qwen2.5vl:7b"), (Some(false), "ollama pull bge-m3")]);
    assert!(!report.is_ready() && report.problems().all(|it| it.contains("mediamill models pull")));
    let _nobody = server.stop().await;
    let report = connect(&config).report().await;
    assert!(
        !report.servers[0].reachable && report.problems().all(|it| it.contains("is it running")),
        "{report:?}"
    );
}

#[actix_rt::test]
async fn a_server_of_another_kind_is_recognised() {
    let server =
        ModelServer::start(Script { rest: Some(Fault::Page { status: 200 }), ..Script::default() }).await;
    for kind in [ProviderKind::Ollama, ProviderKind::OpenAi] {
        let error = connect(&config(kind, &server)).probe().await.expect_err("a web page");
        let ProviderError::Misconfigured { message } = error else { unreachable!("{error:?}") };
        assert!(message.contains("provider.base_url"), "{message}");
    }
}

#[actix_rt::test]
async fn a_llama_cpp_that_does_not_report_vision_is_tried() {
    let (mut seeing, mut embedding) =
        (Script { llama_cpp: true, ..Script::default() }, Script { llama_cpp: true, ..Script::default() });
    seeing.models[0].capabilities = Some(vec!["completion".into()]);
    embedding.models.remove(0);
    let (seeing, embedding) = (ModelServer::start(seeing).await, ModelServer::start(embedding).await);
    let mut config = config(ProviderKind::OpenAi, &seeing);
    config.provider.embedding_base_url = Some(embedding.url());
    let provider = connect(&config);
    assert_eq!(provider.probe().await, Ok(()));
    assert_eq!(describe(&provider).await, Ok(TEXT.into()));
    seeing.follow(|script| script.chat = Some(Fault::Blind));
    let error = describe(&provider).await.expect_err("it is blind");
    let ProviderError::Misconfigured { message } = error else { unreachable!("{error:?}") };
    assert!(message.contains("start it with its --mmproj"), "{message}");
}

#[actix_rt::test]
async fn a_llama_cpp_that_reports_what_it_lacks_is_not_tried() {
    let script = || Script { llama_cpp: true, ..Script::default() };
    let mut embedding = script();
    embedding.models.remove(0);
    let (seeing, embedding) = (ModelServer::start(script()).await, ModelServer::start(embedding).await);
    let mut config = config(ProviderKind::OpenAi, &seeing);
    config.provider.embedding_base_url = Some(embedding.url());
    let provider = connect(&config);
    for tells in [None, Some(true)] {
        seeing.follow(|script| script.tells_vision = tells);
        assert_eq!(provider.probe().await, Ok(()), "an unknown capability is no problem: {tells:?}");
    }
    let refuses =
        |status, message: &str| Some(Fault::Status { status, message: message.into(), headers: Vec::new() });
    for (vision, refusal, sentence) in [
        (false, None, "start it with its --mmproj"),
        (true, refuses(501, "This server does not support embeddings."), "start one with --embeddings"),
        (true, refuses(400, "Pooling type 'none' is not OAI compatible."), "start it with the --pooling"),
    ] {
        seeing.follow(|script| script.tells_vision = Some(vision));
        embedding.follow(|script| script.embed = refusal);
        let error = provider.probe().await.expect_err(sentence);
        assert!(
            matches!(&error, ProviderError::Misconfigured { message } if message.contains(sentence)),
            "{error:?}"
        );
        let report = provider.report().await;
        assert!(report.problems().any(|it| it.contains(sentence)), "{report:?}");
    }
    assert!(
        seeing.sent_to("/v1/chat/completions").is_empty()
            && embedding.sent_to("/v1/embeddings").iter().all(|it| *it == json!({}))
    );
}

#[actix_rt::test]
async fn embeddings_come_from_the_configured_server() {
    let (seeing, mut embedding) =
        (Script { llama_cpp: true, ..Script::default() }, Script { llama_cpp: true, ..Script::default() });
    embedding.models.remove(0);
    let (seeing, embedding) = (ModelServer::start(seeing).await, ModelServer::start(embedding).await);
    let mut config = config(ProviderKind::OpenAi, &seeing);
    config.provider.embedding_base_url = Some(format!("{}/v1/", embedding.url()));
    let provider = connect(&config);
    assert_eq!(provider.probe().await, Ok(()));
    assert_eq!(provider.embed("words".into()).await.map(|it| it.len()), Ok(1024));
    let embedded = embedding.sent_to("/v1/embeddings").iter().filter(|it| it["input"] == "words").count();
    assert_eq!((seeing.sent_to("/v1/embeddings").len(), embedded), (0, 1));
    assert_eq!(provider.report().await.servers.len(), 2);
    let _nobody = seeing.stop().await;
    let reported: Vec<_> = provider.report().await.models.iter().map(|it| it.role).collect();
    assert_eq!(reported, [Role::Embedding], "the stopped server reports no model");
}

#[actix_rt::test]
async fn a_model_that_was_fetched_again_is_another_one() {
    let server = ModelServer::start(Script::default()).await;
    let provider = connect(&config(ProviderKind::Ollama, &server));
    let unknown = provider.identity();
    provider.probe().await.expect("it is there");
    let before = provider.identity();
    assert_eq!(before.vision_digest.as_deref(), Some("a".repeat(64).as_str()));
    assert!(before.describes_like(&unknown), "an unknown digest equals every other");
    server.follow(|script| script.models[0].digest = "c".repeat(64));
    provider.probe().await.expect("it is there");
    let after = provider.identity();
    assert!(!after.describes_like(&before) && after.embeds_like(&before));
}

#[actix_rt::test]
async fn thinking_is_disabled_only_for_a_model_that_can_think() {
    let mut script = Script::default();
    script.models[0].capabilities.as_mut().expect("some").push("thinking".into());
    let server = ModelServer::start(script).await;
    let provider = connect(&config(ProviderKind::Ollama, &server));
    provider.probe().await.expect("it is there");
    assert_eq!(describe(&provider).await.as_deref(), Ok(TEXT));
    // An old server does not report capabilities.
    server.follow(|script| script.models.iter_mut().for_each(|it| it.capabilities = None));
    provider.probe().await.expect("it is there");
    assert_eq!(describe(&provider).await.as_deref(), Ok(TEXT));
    let think: Vec<_> = server.sent_to("/api/chat").iter().map(|it| it.get("think").cloned()).collect();
    assert_eq!(think, [Some(json!(false)), None]);
}

#[actix_rt::test]
async fn a_server_with_only_the_old_interface_embeds_too() {
    let server = ModelServer::start(Script { old: true, ..Script::default() }).await;
    let provider = connect(&config(ProviderKind::Ollama, &server));
    let vector = provider.embed("words".into()).await.expect("a vector");
    assert!((vector.iter().map(|it| it * it).sum::<f32>() - 1.0).abs() < 1e-3, "of length 1");
    server.follow(|script| script.embed = Some(Fault::NaN));
    let error = provider.embed("words".into()).await.expect_err("nulls");
    assert!(matches!(error, ProviderError::BadAnswer { .. }), "{error:?}");
}

#[actix_rt::test]
async fn a_long_text_is_cut_before_it_is_embedded() {
    let server = ModelServer::start(Script::default()).await;
    for (kind, path) in [(ProviderKind::Ollama, "/api/embed"), (ProviderKind::OpenAi, "/v1/embeddings")] {
        let provider = connect(&config(kind, &server));
        provider.embed("words and ".repeat(1000)).await.expect("a vector");
        let sent = server.sent_to(path)[0]["input"].as_str().map(str::len);
        assert!(sent.is_some_and(|it| (1490..=1500).contains(&it)), "{sent:?}");
        let nothing = provider.embed(" ".into()).await;
        assert!(matches!(nothing, Err(ProviderError::BadAnswer { .. })), "{nothing:?}");
    }
}

#[actix_rt::test]
async fn a_refused_parameter_is_omitted_from_then_on() {
    let refuses = ["max_tokens", "temperature", "frequency_penalty"].map(str::to_owned).to_vec();
    let server =
        ModelServer::start(Script { chat: Some(Fault::Refuses(refuses)), ..Script::default() }).await;
    let provider = connect(&config(ProviderKind::OpenAi, &server));
    for variation in [0, 1] {
        let request = DescribeRequest { variation, ..analysis::trial() };
        provider.describe(Arc::new(request)).await.expect("a description");
    }
    let sent = server.sent_to("/v1/chat/completions");
    assert_eq!(sent.len(), 3 + 2, "two refusals, then one of the new parameter");
    assert_eq!(sent[2]["max_completion_tokens"], 512);
    assert!(sent[4].get("temperature").is_none() && sent[2] != sent[4]);
}

#[actix_rt::test]
async fn reasoning_is_switched_off_by_the_least_effort_that_a_server_accepts() {
    let server = ModelServer::start(Script::default()).await;
    let provider = connect(&config(ProviderKind::OpenAi, &server));
    provider.describe(Arc::new(analysis::trial())).await.expect("a description");
    let sent = server.sent_to("/v1/chat/completions");
    assert_eq!(sent[0]["reasoning_effort"], "none");
    assert_eq!(sent[0]["chat_template_kwargs"]["enable_thinking"], false);

    let refuses = ["reasoning_effort", "chat_template_kwargs"].map(str::to_owned).to_vec();
    server.follow(|script| script.chat = Some(Fault::Refuses(refuses)));
    let provider = connect(&config(ProviderKind::OpenAi, &server));
    provider.describe(Arc::new(analysis::trial())).await.expect("a description");
    let sent = server.sent_to("/v1/chat/completions");
    let efforts: Vec<_> = sent[1..].iter().map(|it| it.get("reasoning_effort").cloned()).collect();
    let expected = ["none", "minimal", "low"].map(|it| Some(it.into()));
    assert_eq!(efforts[..3], expected);
    assert_eq!(efforts[3..], [None, None], "then without effort, then without the template's settings");
}

#[actix_rt::test]
async fn content_in_parts_is_read_without_its_reasoning() {
    let script = Script { chat: Some(Fault::Parts), ..Script::default() };
    let server = ModelServer::start(script).await;
    let provider = connect(&config(ProviderKind::OpenAi, &server));
    let described = provider.describe(Arc::new(analysis::trial())).await.expect("a description");
    assert_eq!(described.text, TEXT);
}

#[actix_rt::test]
async fn each_model_gets_the_picture_that_it_takes() {
    let server = ModelServer::start(Script::default()).await;
    let mut config = config(ProviderKind::Ollama, &server);
    config.provider.vision_model = Some("qwen3-vl:8b".into());
    let configured = VisionSpec { max_pixels: 1_003_520, max_side_px: 1568, patch_px: 28, jpeg: true };
    let spec = connect(&config).vision(configured);
    assert!(spec.patch_px == 32 && spec.jpeg);
}

#[actix_rt::test]
async fn a_model_is_fetched_with_progress_and_an_interruption_is_reported() {
    let server = ModelServer::start(Script::default()).await;
    let provider = connect(&config(ProviderKind::Ollama, &server));
    let mut seen: Vec<PullProgress> = Vec::new();
    provider.pull("bge-m3", &mut |progress| seen.push(progress)).await.expect("it is fetched");
    let bytes: Vec<_> = seen.iter().map(|it| (it.completed_bytes, it.total_bytes)).collect();
    assert_eq!(
        bytes,
        [(0, 0), (0, 1000), (500, 1000), (1000, 1000), (1200, 1200), (1200, 1200), (1200, 1200)]
    );
    assert_eq!(seen[5].status, "verifying sha256 digest");
    let missing = provider.pull("no-such-model", &mut |_| {}).await.expect_err("there is none");
    assert!(
        missing.message().contains("cannot fetch `no-such-model`: pull model manifest: file does not exist")
    );
    for (fault, words) in
        [(Fault::ErrorLine, "max retries exceeded"), (Fault::Unfinished, "resumes where it stopped")]
    {
        server.follow(|script| script.rest = Some(fault));
        let error = provider.pull("bge-m3", &mut |_| {}).await.expect_err("interrupted");
        assert!(error.message().contains(words), "{error:?}");
    }
    let other = connect(&config(ProviderKind::OpenAi, &server)).pull("bge-m3", &mut |_| {}).await;
    assert!(matches!(other, Err(ProviderError::Misconfigured { .. })), "{other:?}");
}
