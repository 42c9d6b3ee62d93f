//! The provider `builtin`: basic automatic tagging inside this process, without a server, a download or a
//! network.
//!
//! A small detector names everyday objects, and fixed rules make sentences of them, of
//! [`Facts`](crate::media::Facts) and of file names. [`NOTICE`] tells people what to expect.

pub mod detector;
pub mod embedding;
pub mod file_names;
pub mod labels;
pub mod sentences;

use std::sync::Arc;

use futures_util::future::{self, FutureExt};

use self::{
    detector::{Detection, Detector, certain_from},
    file_names::FileNames,
    labels::Label,
    sentences::{Count, Scene, SeenObject},
};
use super::{
    BoxFuture, DescribeRequest, Described, Identity, Object, Provider, ProviderError, ProviderProfile,
};
use crate::{
    config::{ProviderKind, processors},
    media::VisionSpec,
};

/// Cosine similarity below which two texts have nothing in common. Measured on real photos: texts without a
/// common word reach 0.17 by chance, and texts with one begin at about 0.2.
pub const UNRELATED: f32 = 0.18;

/// A sentence to show with every description of this provider.
pub const NOTICE: &str = "Basic automatic tagging: everyday objects found by a small detector, and plain \
                          facts of the file. It misses much and can be wrong.";

/// Default length of the vectors.
pub const DEFAULT_DIMENSIONS: u32 = 512;

/// Score that an object needs beyond [`certain_from`] if only one of several frames of a video shows it: with
/// each frame, the chance of a false detection grows.
const EXTRA_SCORE_IN_ONE_FRAME: f32 = 0.10;

/// The tagger inside this process.
#[derive(Debug, Clone)]
pub struct Builtin {
    dimensions: u32,
}

impl Builtin {
    /// A tagger whose vectors have this length; [`DEFAULT_DIMENSIONS`] is a good one.
    ///
    /// # Errors
    /// [`ProviderError::Misconfigured`] if the length is not in [`embedding::DIMENSIONS`], 16 to 4096.
    pub fn new(dimensions: u32) -> Result<Self, ProviderError> {
        let range = embedding::DIMENSIONS;
        if range.contains(&dimensions) {
            Ok(Self { dimensions })
        } else {
            Err(ProviderError::Misconfigured {
                message: format!(
                    "the vectors of the builtin provider have {} to {} numbers, not {dimensions}",
                    range.start(),
                    range.end()
                ),
            })
        }
    }
}

impl Default for Builtin {
    fn default() -> Self {
        Self { dimensions: DEFAULT_DIMENSIONS }
    }
}

impl Provider for Builtin {
    fn identity(&self) -> Identity {
        Identity {
            provider: ProviderKind::Builtin.name().to_owned(),
            vision_model: detector::MODEL.to_owned(),
            embedding_model: embedding::MODEL.to_owned(),
            dimensions: self.dimensions,
            prompt_version: sentences::VERSION,
            language: "English".to_owned(),
            vision_digest: None,
            embedding_digest: None,
        }
    }

    fn profile(&self) -> ProviderProfile {
        ProviderProfile {
            vision_concurrency: u32::try_from(processors()).unwrap_or(u32::MAX),
            notice: Some(NOTICE.to_owned()),
            unrelated_below: Some(UNRELATED),
            ..ProviderProfile::default()
        }
    }

    /// The detector works on pixels.
    fn vision(&self, configured: VisionSpec) -> VisionSpec {
        VisionSpec { jpeg: false, ..configured }
    }

    /// Needs a tokio runtime, and takes about 0.15 s of one of its blocking threads for each picture. If the
    /// future is dropped, the detection in progress still completes.
    fn describe(&self, request: Arc<DescribeRequest>) -> BoxFuture<'_, Result<Described, ProviderError>> {
        async move {
            if request.pictures.is_empty() {
                return Err(ProviderError::BadAnswer {
                    message: "there is no picture to describe".to_owned(),
                });
            }
            let (pictures, seconds) = (request.pictures.len(), request.frame_seconds.len());
            if seconds > 0 && seconds != pictures {
                return Err(ProviderError::BadAnswer {
                    message: format!("a video with {pictures} frames cannot have {seconds} times"),
                });
            }
            let mut frames = Vec::with_capacity(request.pictures.len());
            for at in 0..request.pictures.len() {
                let request = Arc::clone(&request);
                let detection =
                    tokio::task::spawn_blocking(move || Detector::shared()?.detect(&request.pictures[at]));
                frames.push(joined(detection.await)?);
            }
            Ok(describe(&request, &frames))
        }
        .boxed()
    }

    fn embed(&self, text: String) -> BoxFuture<'_, Result<Vec<f32>, ProviderError>> {
        let dimensions = usize::try_from(self.dimensions).unwrap_or(usize::MAX);
        future::ready(Ok(embedding::embed(&text, dimensions))).boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        future::ready(Ok(())).boxed()
    }
}

/// The result of a blocking task. A panic is a bad answer about its picture.
fn joined<T>(result: Result<Result<T, String>, tokio::task::JoinError>) -> Result<T, ProviderError> {
    result
        .unwrap_or_else(|error| {
            let how = if error.is_panic() { "panicked" } else { "was cancelled" };
            Err(format!("the embedded detector {how}: {error}"))
        })
        .map_err(|message| ProviderError::BadAnswer { message })
}

/// Makes a text of the detections in each of the request's pictures.
fn describe(request: &DescribeRequest, frames: &[Vec<Detection>]) -> Described {
    let merged = merge(frames);
    let objects = merged
        .iter()
        .filter(|(seen, _, _)| seen.certain)
        .map(|(seen, score, count)| Object {
            label: seen.label.name.to_owned(),
            count: *count,
            confidence: (score * 100.0).round().clamp(0.0, 100.0) as u8,
        })
        .collect();
    let large_enough = request.pictures.iter().any(|picture| {
        let (width, height) = picture.content;
        width.min(height) >= detector::MIN_SIDE_PX
    });
    let scene = Scene {
        objects: merged.into_iter().map(|(seen, _, _)| seen).collect(),
        facts: &request.facts,
        names: FileNames::parse(&request.names),
        seconds: &request.frame_seconds,
        large_enough,
        variation: request.variation,
    };
    Described { text: sentences::write(&scene), objects, changed: None }
}

/// One entry for each class in all frames, the best score first, with that score and the largest number in a
/// frame.
fn merge(frames: &[Vec<Detection>]) -> Vec<(SeenObject, f32, u32)> {
    let mut classes: Vec<(&'static Label, Vec<(usize, &Detection)>)> = Vec::new();
    for (at, frame) in frames.iter().enumerate() {
        for detection in frame {
            match classes.iter_mut().find(|(label, _)| *label == detection.label) {
                Some((_, seen)) => seen.push((at, detection)),
                None => classes.push((detection.label, vec![(at, detection)])),
            }
        }
    }
    let mut merged: Vec<(SeenObject, f32, u32)> = classes
        .into_iter()
        .map(|(label, seen)| {
            let best = seen.iter().map(|(_, detection)| detection.score).fold(0.0, f32::max);
            let most = seen.iter().map(|(_, detection)| detection.boxes.len()).max().unwrap_or_default();
            let most = u32::try_from(most).unwrap_or(u32::MAX).max(1);
            let certain_frames = seen.iter().filter(|(_, detection)| detection.certain).count();
            let one_is_enough = frames.len() == 1 || best >= certain_from(label) + EXTRA_SCORE_IN_ONE_FRAME;
            let certain = certain_frames >= 2 || certain_frames == 1 && one_is_enough;
            let counts: Vec<Count> = seen.iter().map(|(_, detection)| Count::of(detection)).collect();
            let frames = seen.iter().map(|(at, _)| *at).collect();
            (SeenObject { label, count: Count::over(&counts), certain, frames }, best, most)
        })
        .collect();
    merged.sort_by(|a, b| b.1.total_cmp(&a.1));
    merged
}

#[cfg(test)]
mod tests {
    use super::{
        super::audit::{Language, audit},
        labels::LABELS,
        *,
    };
    use crate::media::{Facts, Picture};

    fn cat() -> Picture {
        let image =
            image::load_from_memory(include_bytes!("../../tests/fixtures/cat.jpg")).expect("a valid JPEG");
        let image = image.into_rgb8();
        let (width, height) = image.dimensions();
        Picture { width, height, rgb: image.into_raw(), content: (width, height), jpeg: None }
    }

    fn white(side: u32) -> Picture {
        Picture { width: 56, height: 56, rgb: vec![255; 56 * 56 * 3], content: (side, side), jpeg: None }
    }

    fn request(pictures: Vec<Picture>) -> DescribeRequest {
        let facts =
            Facts { width: pictures.first().map_or(0, |p| p.content.0), height: 300, ..Facts::default() };
        DescribeRequest {
            pictures: pictures.into(),
            facts,
            names: vec![],
            variation: 0,
            frame_seconds: vec![],
        }
    }

    fn detection(name: &str, score: f32) -> Detection {
        let label = LABELS.iter().find(|label| label.name == name).expect(name);
        let area = detector::Area { left: 0.0, top: 0.0, right: 1.0, bottom: 1.0 };
        let certain = score >= certain_from(label);
        Detection { label, score, certain, boxes: vec![area], more: false }
    }

    #[tokio::test]
    async fn a_cat_is_described_and_found_by_a_search_for_pets() {
        let builtin = Builtin::default();
        let described = builtin.describe(Arc::new(request(vec![cat()]))).await.expect("a description");
        assert!(described.text.starts_with("The picture shows a cat."), "{}", described.text);
        assert_eq!(audit(&described.text, Language::ENGLISH).score, 100);
        assert_eq!((described.objects.len(), described.objects[0].count), (1, 1));
        assert_eq!(described.objects[0].label, "cat");
        assert!((60..=100).contains(&described.objects[0].confidence));

        let text = builtin.embed(described.text).await.expect("an embedding");
        assert_eq!(text.len(), 512);
        let query = builtin.embed("a pet".to_owned()).await.expect("an embedding");
        let other = builtin.embed("The picture shows a bus.".to_owned()).await.expect("an embedding");
        let hits = crate::search::nearest(&query, [("cat", text), ("bus", other)], 2);
        assert_eq!(hits[0].id, "cat");
        assert!(hits[0].score > hits[1].score + 0.1);
    }

    #[tokio::test]
    async fn pictures_without_objects_are_described_by_their_facts() {
        for side in [1, 20, 56] {
            let described = Builtin::default()
                .describe(Arc::new(request(vec![white(side)])))
                .await
                .expect("a description");
            assert_eq!(described.objects, []);
            assert_eq!(audit(&described.text, Language::ENGLISH).score, 100, "{}", described.text);
        }
    }

    #[tokio::test]
    async fn a_request_without_valid_pictures_is_a_bad_answer() {
        for pictures in [vec![], vec![Picture { rgb: vec![], ..white(56) }]] {
            let error =
                Builtin::default().describe(Arc::new(request(pictures))).await.expect_err("no description");
            assert!(matches!(error, ProviderError::BadAnswer { .. }), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_panic_of_the_detector_is_a_bad_answer() {
        let broken: Vec<Result<(), String>> = vec![];
        let result = tokio::task::spawn_blocking(move || broken[0].clone()).await;
        let Err(ProviderError::BadAnswer { message }) = joined(result) else {
            unreachable!("a panic is no answer")
        };
        assert!(message.starts_with("the embedded detector panicked"), "{message}");
    }

    #[tokio::test]
    async fn the_frames_of_a_video_make_one_text() {
        let facts = Facts { width: 640, height: 480, duration_ms: Some(2_000), ..Facts::default() };
        let pictures = vec![cat(), white(56)];
        let request = DescribeRequest { facts, frame_seconds: vec![0.0, 1.0], ..request(pictures) };
        let described = Builtin::default().describe(Arc::new(request)).await.expect("a description");
        assert!(described.text.starts_with("The video shows a cat at the start. "), "{}", described.text);
        assert_eq!(audit(&described.text, Language::ENGLISH).score, 100);
        assert_eq!(described.objects[0].label, "cat");
    }

    #[test]
    fn a_video_has_one_text_with_the_objects_and_their_times() {
        let people = |n: usize| Detection {
            boxes: (0..n)
                .map(|at| at as f32 * 9.0)
                .map(|left| detector::Area { left, top: 0.0, right: left + 5.0, bottom: 9.0 })
                .collect(),
            ..detection("person", 0.8)
        };
        let frames: Vec<Vec<Detection>> = (0..10)
            .map(|second| {
                let mut frame = vec![detection("dog", 0.7)];
                frame.extend((second >= 4).then(|| people(if second == 6 { 3 } else { 1 })));
                // One frame and a low score make it only possible.
                frame.extend((second == 2).then(|| detection("kite", 0.51)));
                frame
            })
            .collect();
        let facts =
            Facts { width: 640, height: 480, duration_ms: Some(10_000), lightness: 3, ..Facts::default() };
        let request = DescribeRequest {
            facts,
            frame_seconds: (0..10).map(f64::from).collect(),
            ..request(vec![white(56); 10])
        };
        let described = describe(&request, &frames);
        assert_eq!(
            described.text,
            "The video shows up to three people from about second 4; a dog throughout, and possibly a kite \
             at about second 2. It is a horizontal video of about ten seconds; ten of its frames were \
             looked at."
        );
        assert_eq!(audit(&described.text, Language::ENGLISH).score, 100);
        let objects: Vec<(&str, u32)> =
            described.objects.iter().map(|o| (o.label.as_str(), o.count)).collect();
        assert_eq!(objects, [("person", 3), ("dog", 1)]);
    }

    #[tokio::test]
    async fn a_video_with_more_or_fewer_times_than_frames_is_a_bad_answer() {
        for frame_seconds in [vec![0.0], vec![0.0, 1.0, 2.0]] {
            let request = DescribeRequest { frame_seconds, ..request(vec![white(56), white(56)]) };
            let error = Builtin::default().describe(Arc::new(request)).await.expect_err("no description");
            assert!(error.message().starts_with("a video with 2 frames cannot have"), "{error:?}");
        }
    }

    #[test]
    fn a_low_score_in_one_frame_of_several_is_only_possible() {
        let certain = |frames: &[Vec<Detection>]| merge(frames)[0].0.certain;
        assert!(certain(&[vec![detection("dog", 0.55)]]), "the only frame");
        assert!(!certain(&[vec![detection("dog", 0.49)]]));
        assert!(!certain(&[vec![detection("dog", 0.55)], vec![]]), "one of two frames");
        assert!(certain(&[vec![detection("dog", 0.65)], vec![]]), "a high score");
        assert!(certain(&[vec![detection("dog", 0.55)], vec![], vec![detection("dog", 0.51)]]), "two frames");
        assert!(!certain(&[vec![detection("dog", 0.48)], vec![detection("dog", 0.47)]]));
    }

    #[test]
    fn only_certain_objects_are_listed() {
        let frames = [vec![detection("dog", 0.731), detection("cat", 0.47)]];
        let described = describe(&request(vec![white(56)]), &frames);
        assert!(
            described.text.starts_with("The picture shows a dog, and possibly a cat."),
            "{}",
            described.text
        );
        assert_eq!(described.objects, [Object { label: "dog".to_owned(), count: 1, confidence: 73 }]);
    }

    #[test]
    fn vectors_that_are_too_short_or_too_long_are_refused() {
        for dimensions in [0, 15, 4097] {
            let error = Builtin::new(dimensions).expect_err("refused");
            assert!(matches!(error, ProviderError::Misconfigured { .. }), "{error:?}");
        }
        assert_eq!(Builtin::new(16).expect("accepted").identity().dimensions, 16);
    }
}
