//! A host's own provider on the default configuration, on a paused clock.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mediamill_actors::{
    analysis::{BoxFuture, DescribeRequest, Described, Identity, Provider, ProviderError, ProviderProfile},
    batch_supervisor::SubmitBatch,
    config::Config,
    id::Owner,
    intake::Source,
    media::Picture,
    pipeline::{Options, Pipeline},
    store::Clock,
};
use tokio::sync::Barrier;

/// Descriptions in flight at once: neither the default nor a usual number of processors.
const CALLS: usize = 5;

/// A description ends only when `CALLS` of them are in flight.
struct Host {
    full: Barrier,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    pictures: Mutex<Vec<Picture>>,
}

impl Provider for Host {
    fn identity(&self) -> Identity {
        Identity { provider: "host".into(), dimensions: 2, ..Identity::default() }
    }

    fn profile(&self) -> ProviderProfile {
        ProviderProfile { vision_concurrency: CALLS as u32, ..ProviderProfile::default() }
    }

    fn describe(&self, request: Arc<DescribeRequest>) -> BoxFuture<'_, Result<Described, ProviderError>> {
        Box::pin(async move {
            let in_flight = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_in_flight.fetch_max(in_flight, Ordering::SeqCst);
            self.pictures.lock().expect("not poisoned").extend(request.pictures.iter().cloned());
            self.full.wait().await;
            // On a paused clock, this ends when nothing else can run: no further call was admitted then.
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            let text = "A red disc stands on a white ground. Its edge is clean.".into();
            Ok(Described { text, objects: Vec::new(), changed: None })
        })
    }

    fn embed(&self, _: String) -> BoxFuture<'_, Result<Vec<f32>, ProviderError>> {
        Box::pin(std::future::ready(Ok(vec![1.0, 0.0])))
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

#[actix_rt::test]
async fn a_hosts_provider_gets_jpegs_and_the_concurrency_of_its_profile() {
    tokio::time::pause();
    let clock = Clock::Tokio { start: tokio::time::Instant::now() };
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = Config::default();
    config.store.data_dir = folder.path().join("data");
    config.limits.min_free_disk_mb = 0;
    let host = Arc::new(Host {
        full: Barrier::new(CALLS),
        in_flight: AtomicUsize::new(0),
        most_in_flight: AtomicUsize::new(0),
        pictures: Mutex::default(),
    });
    let provider = Some(Arc::clone(&host) as Arc<dyn Provider>);
    let pipeline = Pipeline::start_with(config, Options { provider, clock, ..Options::default() })
        .await
        .expect("the provider of the configuration is not needed");
    assert_eq!(pipeline.provider_profile().notice, None, "builtin's notice is not shown");

    let files = (0..2 * CALLS).map(|number| {
        let path = folder.path().join(format!("{number}.png"));
        let picture = image::RgbImage::from_pixel(80, 60, image::Rgb([number as u8, 90, 200]));
        picture.save(&path).expect("written");
        Source::InPlace(path)
    });
    let submit = SubmitBatch { owner: Owner::local(), files: files.collect(), force: false };
    let submitted = pipeline.supervisor.send(submit).await.expect("alive").expect("accepted");
    let (batch, mut changes) = (submitted.batch_id.expect("a batch"), pipeline.queries().watch());
    let completed = async {
        while pipeline.queries().batch(Owner::local(), batch).await.expect("the batch").counts.completed
            < 2 * CALLS as u32
        {
            changes.changed().await.expect("the store is open");
        }
    };
    tokio::time::timeout(Duration::from_secs(3600), completed).await.expect("fewer calls never end");

    assert_eq!(host.most_in_flight.load(Ordering::SeqCst), CALLS);
    let pictures = host.pictures.lock().expect("not poisoned");
    assert!(pictures.iter().all(|it| it.jpeg.as_deref().is_some_and(|jpeg| jpeg.starts_with(&[0xff, 0xd8]))));
    assert!(pictures.iter().all(|it| it.rgb.is_empty()), "a JPEG replaces the pixels");
}
