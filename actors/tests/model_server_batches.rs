//! Batches whose model server is away, busy or broken: the engine, the gate and a scripted server over real
//! sockets, in real time.

#[path = "support/model_server/mod.rs"]
mod model_server;

use std::time::Duration;

use mediamill_actors::{
    analysis::ProviderState,
    batch::Batch,
    batch_supervisor::{RetryFailed, SubmitBatch},
    config::{Config, ProviderKind},
    id::{BatchId, Owner, UploadId},
    intake::{Admission, Source},
    pipeline::Pipeline,
    upload::{AttemptOutcome, FailureKind, Upload},
};
use model_server::{Fault, ModelServer, Script, TEXT};
use serde_json::Value;

struct World {
    _folder: tempfile::TempDir,
    server: ModelServer,
    pipeline: Pipeline,
    batch: BatchId,
    uploads: Vec<UploadId>,
}

/// A batch of `photos` photos, described by a scripted server. The first photo is the largest.
async fn world(kind: ProviderKind, photos: u32, script: Script) -> World {
    world_with(kind, photos, script, |_| {}).await
}

async fn world_with(
    kind: ProviderKind,
    photos: u32,
    script: Script,
    change: impl FnOnce(&mut Config),
) -> World {
    let server = ModelServer::start(script).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = Config::default();
    config.store.data_dir = folder.path().join("data");
    config.limits.min_free_disk_mb = 0;
    config.provider.kind = kind;
    config.provider.base_url = Some(server.url());
    config.provider.vision_model = Some("qwen2.5vl:7b".into());
    config.provider.embedding_model = Some("bge-m3".into());
    change(&mut config);
    let files = (0..photos).map(|number| {
        let path = folder.path().join(format!("{number}.png"));
        let side = if number == 0 { 400 } else { 100 };
        let picture = image::RgbImage::from_fn(side, side, |x, _| image::Rgb([x as u8, number as u8, 7]));
        picture.save(&path).expect("written");
        Source::InPlace(path)
    });
    let submit = SubmitBatch { owner: Owner::local(), files: files.collect(), force: false };
    let pipeline = Pipeline::start(config).await.expect("it starts");
    let submitted = pipeline.supervisor.send(submit).await.expect("alive").expect("accepted");
    let id = |admission| match admission {
        Admission::Accepted(id) => id,
        other => unreachable!("{other:?}"),
    };
    let uploads = submitted.files.into_iter().map(id).collect();
    World { _folder: folder, server, pipeline, batch: submitted.batch_id.expect("a batch"), uploads }
}

impl World {
    async fn batch(&self) -> Batch {
        self.pipeline.queries().batch(Owner::local(), self.batch).await.expect("the batch")
    }

    async fn ended(&self) -> Batch {
        self.until(|batch| batch.status().is_terminal()).await
    }

    async fn until(&self, is_so: impl Fn(&Batch) -> bool) -> Batch {
        let mut changes = self.pipeline.queries().watch();
        let wait = async {
            loop {
                let batch = self.batch().await;
                if is_so(&batch) {
                    return batch;
                }
                changes.changed().await.expect("the store is open");
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("within a minute")
    }

    async fn uploads(&self) -> Vec<Upload> {
        let mut uploads = Vec::new();
        for id in &self.uploads {
            uploads.push(self.pipeline.queries().upload(Owner::local(), *id).await.expect("the upload"));
        }
        uploads
    }

    /// The sentence that people see while uploads wait.
    async fn waits(&self) -> String {
        let mut state = self.pipeline.provider();
        let waits = state.wait_for(|state| state.waiting().is_some());
        let state = tokio::time::timeout(Duration::from_secs(60), waits)
            .await
            .expect("within a minute")
            .expect("it lives")
            .clone();
        state.waiting().unwrap_or_default()
    }

    /// Waits until all uploads have completed, and checks that none of their attempts failed.
    async fn completed_unharmed(&self) {
        let batch = self.ended().await;
        assert_eq!((batch.counts.completed, batch.counts.failed), (self.uploads.len() as u32, 0));
        for upload in self.uploads().await {
            assert!(upload.failures.is_empty(), "{:?}", upload.failures);
            let outcomes = upload.attempts.iter().filter_map(|it| it.outcome);
            assert!(
                outcomes
                    .clone()
                    .all(|it| matches!(it, AttemptOutcome::HandedBack | AttemptOutcome::Completed)),
                "{upload:?}"
            );
            assert_eq!(upload.description.map(|it| it.text).as_deref(), Some(TEXT));
        }
        assert_eq!(*self.pipeline.provider().borrow(), ProviderState::Ready);
    }

    /// Waits until all uploads have failed, and checks both failures.
    async fn failed_twice(&self, kind: FailureKind, words: &str) {
        let batch = self.ended().await;
        assert_eq!(batch.counts.failed, self.uploads.len() as u32);
        for upload in self.uploads().await {
            let kinds: Vec<_> = upload.failures.iter().map(|it| it.kind).collect();
            assert_eq!(kinds, [kind; 2], "{:?}", upload.failures);
            assert!(upload.failures.iter().all(|it| it.message.contains(words)), "{:?}", upload.failures);
        }
    }

    /// Whether all requests to a path differ.
    fn all_differ(&self, path: &str) -> bool {
        let sent: Vec<String> = self.server.sent_to(path).iter().map(Value::to_string).collect();
        sent.iter().enumerate().all(|(at, one)| !sent[..at].contains(one))
    }
}

fn broken(fault: Fault) -> Script {
    Script { chat: Some(fault), ..Script::default() }
}

#[actix_rt::test]
async fn a_server_that_stops_in_mid_batch_and_comes_back_costs_no_attempt() {
    for kind in [ProviderKind::Ollama, ProviderKind::OpenAi] {
        let slow = Script { delay_ms: 60, ..Script::default() };
        let mut world = world_with(kind, 12, slow.clone(), |config| {
            config.provider.swap_batch = std::num::NonZeroU32::new(2)
        })
        .await;
        world.until(|batch| batch.counts.completed > 0).await;
        let other = ModelServer::start(Script::default()).await;
        let address = std::mem::replace(&mut world.server, other).stop().await;
        let sentence = world.waits().await;
        assert!(sentence.contains("away since"), "{sentence}");
        assert!(!world.batch().await.status().is_terminal());
        world.server = ModelServer::start_at(address, slow).await;
        world.completed_unharmed().await;
    }
}

#[actix_rt::test]
async fn uploads_wait_for_a_missing_or_blind_model_with_a_sentence_that_helps() {
    let missing = Script { models: Script::default().models.split_off(1), ..Script::default() };
    let mut blind = Script::default();
    blind.models[0].capabilities = Some(vec!["completion".into()]);
    let mut short = Script::default();
    short.models[1].dimensions = 768;
    for (script, words) in [
        (missing, "run `ollama pull qwen2.5vl:7b`"),
        (blind, "cannot see pictures; choose a vision model with provider.vision_model"),
        (short, "set it to 768"),
    ] {
        let world = world(ProviderKind::Ollama, 2, script).await;
        let sentence = world.waits().await;
        assert!(sentence.contains("is not set up") && sentence.contains(words), "{sentence}");
        assert!(world.server.sent_to("/api/chat").is_empty(), "no upload is tried before the repair");
        world.server.follow(|script| *script = Script::default());
        world.completed_unharmed().await;
    }
}

#[actix_rt::test]
async fn a_misconfiguration_that_only_a_call_finds_costs_no_attempt() {
    let page = Fault::Page { status: 200 };
    let quota = Fault::Status { status: 429, message: "insufficient_quota".into(), headers: Vec::new() };
    for (chat, embed, words) in [
        (Some(Fault::Blind), None, "cannot see pictures"),
        (Some(page), None, "web page"),
        (Some(quota), None, "quota"),
        (None, Some(Fault::Dimensions(768)), "set it to 768"),
    ] {
        let script = Script { chat, embed, ..Script::default() };
        let world = world(ProviderKind::OpenAi, 2, script).await;
        let sentence = world.waits().await;
        assert!(sentence.contains("is not set up") && sentence.contains(words), "{sentence}");
        world.server.follow(|script| *script = Script::default());
        world.completed_unharmed().await;
        assert!(
            world.uploads().await.iter().all(|it| it.description.as_ref().is_some_and(|it| it.asked == 1))
        );
    }
}

#[actix_rt::test]
async fn a_filter_that_blocks_one_picture_fails_only_that_upload() {
    for (status, words) in [(403, "403: a web page, Sign in"), (200, "web page")] {
        let filter = Fault::Filter { above_pixels: 100_000, status };
        let world = world(ProviderKind::OpenAi, 3, broken(filter)).await;
        let batch = world.ended().await;
        assert_eq!((batch.counts.completed, batch.counts.failed), (2, 1));
        let uploads = world.uploads().await;
        let failures = &uploads[0].failures;
        let kinds: Vec<_> = failures.iter().map(|it| it.kind).collect();
        assert_eq!(kinds, [FailureKind::BadAnswer; 2], "{failures:?}");
        assert!(failures[0].message.contains(words), "{failures:?}");
        let attempts = uploads.iter().flat_map(|it| &it.attempts);
        assert!(
            attempts.filter_map(|it| it.outcome).all(|it| it != AttemptOutcome::HandedBack),
            "no upload waits"
        );
    }
}

#[actix_rt::test]
async fn uploads_wait_while_the_key_is_wrong() {
    for kind in [ProviderKind::Ollama, ProviderKind::OpenAi] {
        let script = Script { key: Some("right".into()), ..Script::default() };
        let world =
            world_with(kind, 1, script, |config| config.provider.api_key_env = Some("PATH".into())).await;
        let sentence = world.waits().await;
        let key = std::env::var("PATH").expect("set");
        assert!(sentence.contains("provider.api_key_env") && !sentence.contains(&key), "{sentence}");
        world.server.follow(|script| script.key = None);
        world.completed_unharmed().await;
    }
}

#[actix_rt::test]
async fn uploads_wait_for_as_long_as_a_server_asks() {
    for headers in [vec![("retry-after".to_owned(), "1".to_owned())], vec![]] {
        let busy = Fault::Status { status: 429, message: "rate limit reached".into(), headers };
        let world = world(ProviderKind::OpenAi, 3, broken(busy)).await;
        let sentence = world.waits().await;
        assert!(sentence.contains("rate limit reached"), "{sentence}");
        world.server.follow(|script| script.chat = None);
        world.completed_unharmed().await;
    }
}

#[actix_rt::test]
async fn uploads_wait_for_a_server_that_is_loading_or_overloaded() {
    // llama.cpp lists its model before it can answer anything else.
    let mut llama = Script { llama_cpp: true, delay_ms: 30, ..Script::default() };
    llama.models.truncate(1);
    llama.models[0].dimensions = 1024;
    let busy =
        Fault::Status { status: 503, message: "server busy, please try again".into(), headers: vec![] };
    for (kind, script, words) in [
        (ProviderKind::OpenAi, Script { loading: true, ..llama.clone() }, "Loading model"),
        (ProviderKind::Ollama, broken(busy), "server busy"),
    ] {
        let world = world(kind, 3, script).await;
        let sentence = world.waits().await;
        assert!(sentence.contains(words), "{sentence}");
        world.server.follow(|script| (script.loading, script.chat) = (false, None));
        world.completed_unharmed().await;
    }
    let world = world(ProviderKind::OpenAi, 8, llama).await;
    world.until(|batch| batch.counts.completed > 0).await;
    world.server.follow(|script| script.loading = true);
    let sentence = world.waits().await;
    assert!(sentence.contains("Loading model"), "{sentence}");
    // One more probe finds it still loading.
    let probes = || world.server.sent_to("/health").len();
    let before = probes();
    let probed = async {
        while probes() == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), probed).await.expect("it is probed");
    assert!(world.pipeline.provider().borrow().waiting().is_some());
    world.server.follow(|script| script.loading = false);
    world.completed_unharmed().await;
}

#[actix_rt::test]
async fn a_server_that_is_too_slow_but_answers_a_probe_fails_the_upload() {
    for fault in [Fault::Hang, Fault::Drip { every_ms: 100 }] {
        let world = world_with(ProviderKind::Ollama, 1, broken(fault), |config| {
            config.provider.request_timeout = Duration::from_millis(300);
            config.provider.first_request_timeout = Duration::from_millis(400);
        })
        .await;
        world.failed_twice(FailureKind::TimedOut, "did not answer within 0.4 s").await;
        assert!(world.all_differ("/api/chat"));
    }
}

#[actix_rt::test]
async fn a_picture_that_breaks_the_server_is_tried_once_more_with_half_the_pixels() {
    for (kind, path) in [(ProviderKind::Ollama, "/api/chat"), (ProviderKind::OpenAi, "/v1/chat/completions")]
    {
        let world = world(kind, 3, broken(Fault::LargePicture { above_pixels: 100_000 })).await;
        let batch = world.ended().await;
        assert_eq!((batch.counts.completed, batch.counts.failed), (3, 0));
        let uploads = world.uploads().await;
        assert_eq!(
            uploads[0].failures.iter().map(|it| it.kind).collect::<Vec<_>>(),
            [FailureKind::ServerFault]
        );
        let changed = uploads[0].description.as_ref().and_then(|it| it.changed.clone()).unwrap_or_default();
        assert!(
            changed.starts_with("a picture of at most 80000 pixels (because attempt 1 ended with: "),
            "{changed}"
        );
        assert!(
            changed.contains("unexpectedly stopped") && changed.contains("; temperature 0.6, seed 2"),
            "{changed}"
        );
        assert!(uploads[1..].iter().all(|it| it.failures.is_empty()), "the other uploads are not affected");
        assert!(world.all_differ(path));
    }
}

#[actix_rt::test]
async fn a_server_without_valid_answers_fails_uploads_after_two_different_requests() {
    let fault =
        Fault::Status { status: 500, message: "CUDA error: out of memory".into(), headers: Vec::new() };
    for (fault, kind, words) in [
        (fault, FailureKind::ServerFault, "CUDA error: out of memory); its own log tells more"),
        (Fault::Empty, FailureKind::BadAnswer, "empty text"),
        (Fault::Repetition, FailureKind::BadAnswer, "repeats itself"),
        (Fault::Cut, FailureKind::ProviderAway, "broke off after"),
    ] {
        for (provider, path) in
            [(ProviderKind::Ollama, "/api/chat"), (ProviderKind::OpenAi, "/v1/chat/completions")]
        {
            let world = world(provider, 2, broken(fault.clone())).await;
            world.failed_twice(kind, words).await;
            assert!(world.server.sent_to(path).len() == 4 && world.all_differ(path));
        }
    }
}

#[actix_rt::test]
async fn a_text_that_cannot_be_embedded_is_shortened_and_not_described_again() {
    let script = Script { embed: Some(Fault::NaN), ..Script::default() };
    let world = world(ProviderKind::Ollama, 1, script).await;
    world.failed_twice(FailureKind::BadAnswer, "").await;
    assert_eq!((world.server.sent_to("/api/chat").len(), world.server.sent_to("/api/embed").len()), (1, 2));
    assert!(world.all_differ("/api/embed"));
}

#[actix_rt::test]
async fn no_round_repeats_a_failed_request_of_another() {
    let fault = |message: &str| Fault::Status { status: 500, message: message.into(), headers: Vec::new() };
    // The seed changes in every round; a text can be shortened only a few times.
    for (script, path, rounds) in [
        (broken(fault("CUDA error: out of memory")), "/api/chat", 6),
        (Script { embed: Some(fault("NaN")), ..Script::default() }, "/api/embed", 3),
    ] {
        let world = world(ProviderKind::Ollama, 1, script).await;
        for round in 1..=rounds {
            let batch = world.ended().await;
            assert_eq!(batch.counts.failed, 1);
            assert_eq!(world.server.sent_to(path).len(), 2 * round);
            let retry = RetryFailed { owner: Owner::local(), batch: world.batch };
            world.pipeline.supervisor.send(retry).await.expect("alive").expect("a new round");
        }
        assert!(world.all_differ(path));
    }
}

#[actix_rt::test]
async fn an_embedding_of_a_shortened_text_says_so() {
    let script = Script { embed: Some(Fault::LongText { above_chars: 80 }), ..Script::default() };
    for kind in [ProviderKind::Ollama, ProviderKind::OpenAi] {
        let world = world(kind, 1, script.clone()).await;
        let batch = world.ended().await;
        assert_eq!(batch.counts.completed, 1);
        let changed = world.uploads().await[0].embedding_changed.clone().unwrap_or_default();
        assert!(
            changed.starts_with("the embedding is of the first 59 of 97")
                && changed.contains("because attempt 1"),
            "{changed}"
        );
    }
}
