//! What a picture shows, said without a server, a download or a network: the provider `builtin`.
//!
//! A small detector names everyday objects, [`Facts`](crate::media::Facts) and names add what is known anyway, and fixed
//! rules make sentences of it. It is basic automatic tagging, and [`NOTICE`] says so wherever a person sees it.

pub mod detector;
pub mod embedding;
pub mod labels;
pub mod names;
pub mod sentences;

use std::sync::Arc;

use futures_util::future::{self, BoxFuture, FutureExt};

use self::{
    detector::{Detection, Detector, stated_from},
    labels::Label,
    names::Names,
    sentences::{Count, Scene, Sight},
};
use super::{DescribeRequest, Described, Identity, Object, Provider, ProviderError};
use crate::media::VisionSpec;

/// Texts with no word in common have scores up to 0.17 by chance (measured on real photos), and those with one from about 0.2 on.
pub const UNRELATED: f32 = 0.18;

/// What people are to be told wherever a description of this provider is shown.
pub const NOTICE: &str = "Basic automatic tagging: everyday objects found by a small detector, and plain facts of the file. \
                          It misses much and can be wrong.";

/// Default number of an embedding's dimensions.
pub const DEFAULT_DIMENSIONS: u32 = 512;

/// In a video every further look is one more chance to be wrong: what only one of several frames shows has to be surer by
/// this to be stated.
const SURER_ONCE: f32 = 0.10;

/// The tagger inside this process.
#[derive(Debug, Clone)]
pub struct Builtin {
    dimensions: u32,
}

impl Builtin {
    /// A tagger whose embeddings have this many dimensions; [`DEFAULT_DIMENSIONS`] is a good number.
    ///
    /// # Errors
    /// [`ProviderError::Misconfigured`] if the number is not in [`embedding::DIMENSIONS`].
    pub fn new(dimensions: u32) -> Result<Self, ProviderError> {
        let range = embedding::DIMENSIONS;
        if range.contains(&dimensions) {
            Ok(Self { dimensions })
        } else {
            Err(ProviderError::Misconfigured {
                message: format!(
                    "the builtin provider makes embeddings of {} to {} dimensions, not of {dimensions}",
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
            provider: "builtin".to_owned(),
            vision_model: detector::MODEL.to_owned(),
            embedding_model: embedding::MODEL.to_owned(),
            dimensions: self.dimensions,
            prompt_version: sentences::VERSION,
            language: "English".to_owned(),
            vision_digest: None,
            embedding_digest: None,
        }
    }

    fn vision(&self, configured: VisionSpec) -> VisionSpec {
        VisionSpec { jpeg: false, ..configured }
    }

    /// Takes about 0.15 s of one thread a picture, on tokio's blocking threads: needs a tokio runtime. A dropped future
    /// stops after the picture that is being looked at.
    fn describe(&self, request: Arc<DescribeRequest>) -> BoxFuture<'_, Result<Described, ProviderError>> {
        async move {
            if request.pictures.is_empty() {
                return Err(ProviderError::BadAnswer {
                    message: "there is no picture to look at".to_owned(),
                });
            }
            let (pictures, seconds) = (request.pictures.len(), request.frame_seconds.len());
            if seconds > 0 && seconds != pictures {
                return Err(ProviderError::BadAnswer {
                    message: format!("a video of {pictures} frames cannot have the times of {seconds}"),
                });
            }
            let mut looks = Vec::with_capacity(request.pictures.len());
            for at in 0..request.pictures.len() {
                let request = Arc::clone(&request);
                let look =
                    tokio::task::spawn_blocking(move || Detector::shared()?.detect(&request.pictures[at]));
                looks.push(sound(look.await)?);
            }
            Ok(describe(&request, &looks))
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

/// What a look gave; a panic in it is a bad answer about this picture and nothing else.
fn sound<T>(look: Result<Result<T, String>, tokio::task::JoinError>) -> Result<T, ProviderError> {
    look.unwrap_or_else(|error| {
        let how = if error.is_panic() { "panicked" } else { "was cut off" };
        Err(format!("the embedded detector {how}: {error}"))
    })
    .map_err(|message| ProviderError::BadAnswer { message })
}

/// Makes a text of what the looks found; `looks` stand for the request's pictures, in order.
fn describe(request: &DescribeRequest, looks: &[Vec<Detection>]) -> Described {
    let found = merge(looks);
    let objects = found
        .iter()
        .filter(|(sight, _, _)| sight.sure)
        .map(|(sight, score, count)| Object {
            label: sight.label.name.to_owned(),
            count: *count,
            confidence: (score * 100.0).round().clamp(0.0, 100.0) as u8,
        })
        .collect();
    let looked_at = request.pictures.iter().any(|picture| {
        let (width, height) = picture.content;
        width.min(height) >= detector::MIN_SIDE_PX
    });
    let scene = Scene {
        sights: found.into_iter().map(|(sight, _, _)| sight).collect(),
        facts: &request.facts,
        names: Names::of(&request.names),
        seconds: &request.frame_seconds,
        looked_at,
        variation: request.variation,
    };
    Described { text: sentences::write(&scene), objects, changed: None }
}

/// One entry for each sort of object in all looks, the surest first, with its best score and its largest number.
fn merge(looks: &[Vec<Detection>]) -> Vec<(Sight, f32, u32)> {
    let mut sorts: Vec<(&'static Label, Vec<(usize, &Detection)>)> = Vec::new();
    for (at, look) in looks.iter().enumerate() {
        for detection in look {
            match sorts.iter_mut().find(|(label, _)| *label == detection.label) {
                Some((_, seen)) => seen.push((at, detection)),
                None => sorts.push((detection.label, vec![(at, detection)])),
            }
        }
    }
    let mut merged: Vec<(Sight, f32, u32)> = sorts
        .into_iter()
        .map(|(label, seen)| {
            let best = seen.iter().map(|(_, detection)| detection.score).fold(0.0, f32::max);
            let most = seen.iter().map(|(_, detection)| detection.boxes.len()).max().unwrap_or_default();
            let stated = seen.iter().filter(|(_, detection)| detection.sure).count();
            let once = looks.len() == 1 || best >= stated_from(label) + SURER_ONCE;
            let sure = stated >= 2 || stated == 1 && once;
            let counts: Vec<Count> = seen.iter().map(|(_, detection)| Count::of(detection)).collect();
            let found = seen.iter().map(|(at, _)| *at).collect();
            let most = u32::try_from(most).unwrap_or(u32::MAX).max(1);
            (Sight { label, count: Count::over(&counts), sure, looks: found }, best, most)
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
            image::load_from_memory(include_bytes!("../../tests/fixtures/cat.jpg")).expect("a sound JPEG");
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
        let sure = score >= stated_from(label);
        Detection { label, score, sure, boxes: vec![area], more: false }
    }

    #[tokio::test]
    async fn a_cat_is_described_and_found_by_a_search_for_pets() {
        let builtin = Builtin::default();
        let described = builtin.describe(Arc::new(request(vec![cat()]))).await.expect("a description");
        assert!(described.text.starts_with("The picture shows a cat."), "{}", described.text);
        assert_eq!(audit(&described.text, Language::English).score, 100);
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
            assert_eq!(audit(&described.text, Language::English).score, 100, "{}", described.text);
        }
    }

    #[tokio::test]
    async fn a_request_without_sound_pictures_is_a_bad_answer() {
        for pictures in [vec![], vec![Picture { rgb: vec![], ..white(56) }]] {
            let error =
                Builtin::default().describe(Arc::new(request(pictures))).await.expect_err("no description");
            assert!(matches!(error, ProviderError::BadAnswer { .. }), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_panic_while_looking_is_a_bad_answer() {
        let broken: Vec<Result<(), String>> = vec![];
        let look = tokio::task::spawn_blocking(move || broken[0].clone()).await;
        let Err(ProviderError::BadAnswer { message }) = sound(look) else {
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
        assert_eq!(audit(&described.text, Language::English).score, 100);
        assert_eq!(described.objects[0].label, "cat");
    }

    #[test]
    fn a_video_is_one_text_of_what_was_seen_and_when() {
        let people = |n: usize| Detection {
            boxes: (0..n)
                .map(|at| at as f32 * 9.0)
                .map(|left| detector::Area { left, top: 0.0, right: left + 5.0, bottom: 9.0 })
                .collect(),
            ..detection("person", 0.8)
        };
        let looks: Vec<Vec<Detection>> = (0..10)
            .map(|second| {
                let mut look = vec![detection("dog", 0.7)];
                look.extend((second >= 4).then(|| people(if second == 6 { 3 } else { 1 })));
                // Once, and hardly: not worth stating.
                look.extend((second == 2).then(|| detection("kite", 0.51)));
                look
            })
            .collect();
        let facts =
            Facts { width: 640, height: 480, duration_ms: Some(10_000), lightness: 3, ..Facts::default() };
        let request = DescribeRequest {
            facts,
            frame_seconds: (0..10).map(f64::from).collect(),
            ..request(vec![white(56); 10])
        };
        let described = describe(&request, &looks);
        assert_eq!(
            described.text,
            "The video shows up to three people from about second 4; a dog throughout, and possibly a kite at about \
             second 2. It is a horizontal video of about ten seconds; ten of its frames were looked at."
        );
        assert_eq!(audit(&described.text, Language::English).score, 100);
        let objects: Vec<(&str, u32)> =
            described.objects.iter().map(|o| (o.label.as_str(), o.count)).collect();
        assert_eq!(objects, [("person", 3), ("dog", 1)]);
    }

    #[tokio::test]
    async fn a_video_with_more_or_fewer_times_than_frames_is_a_bad_answer() {
        for frame_seconds in [vec![0.0], vec![0.0, 1.0, 2.0]] {
            let request = DescribeRequest { frame_seconds, ..request(vec![white(56), white(56)]) };
            let error = Builtin::default().describe(Arc::new(request)).await.expect_err("no description");
            assert!(error.message().starts_with("a video of 2 frames cannot have the times of"), "{error:?}");
        }
    }

    #[test]
    fn a_weak_sight_in_one_frame_of_many_is_only_possible() {
        let sure = |looks: &[Vec<Detection>]| merge(looks)[0].0.sure;
        assert!(sure(&[vec![detection("dog", 0.55)]]), "alone");
        assert!(!sure(&[vec![detection("dog", 0.49)]]));
        assert!(!sure(&[vec![detection("dog", 0.55)], vec![]]), "in one of two");
        assert!(sure(&[vec![detection("dog", 0.65)], vec![]]), "but well seen");
        assert!(sure(&[vec![detection("dog", 0.55)], vec![], vec![detection("dog", 0.51)]]), "or twice");
        assert!(!sure(&[vec![detection("dog", 0.48)], vec![detection("dog", 0.47)]]));
    }

    #[test]
    fn only_what_is_stated_is_listed_as_an_object() {
        let looks = [vec![detection("dog", 0.731), detection("cat", 0.47)]];
        let described = describe(&request(vec![white(56)]), &looks);
        assert!(
            described.text.starts_with("The picture shows a dog, and possibly a cat."),
            "{}",
            described.text
        );
        assert_eq!(described.objects, [Object { label: "dog".to_owned(), count: 1, confidence: 73 }]);
    }

    #[test]
    fn an_embedding_of_too_few_or_many_dimensions_is_refused() {
        for dimensions in [0, 15, 4097] {
            let error = Builtin::new(dimensions).expect_err("refused");
            assert!(matches!(error, ProviderError::Misconfigured { .. }), "{error:?}");
        }
        assert_eq!(Builtin::new(16).expect("accepted").identity().dimensions, 16);
    }
}
