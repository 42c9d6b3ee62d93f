//! Detects everyday objects in a picture with a small network that is part of the program: NanoDet-g, 80
//! classes. `models/nanodet/README.md` has its origin, its inputs and outputs, and its accuracy.
//!
//! The network sees two views of a picture: the picture itself, and its mirror image at three quarters of the
//! size. The mean of a class's best scores in both decides whether the class is present, which drops most
//! false detections. Boxes of both views that overlap are one object.

use std::sync::{Arc, OnceLock};

use rten::{Model, NodeId, RunOptions, ThreadPool, Value};

use super::labels::{CLASSES, LABELS, Label};
use crate::media::{Picture, Rgb, interpolated};

/// The model's name, for provenance.
pub const MODEL: &str = "nanodet-g-416";

/// Score from which a class is certain. Measured: 95 % of the certain classes of photos are right, and 90 %
/// of those of all pictures.
pub const CERTAIN: f32 = 0.50;

/// Score from which a [doubtful](Label::doubtful) class is certain. Below it, more were wrong than right.
pub const CERTAIN_DOUBTFUL: f32 = 0.60;

/// Score from which a class that is not doubtful is possible, if both views show it. A class below it is not
/// mentioned.
pub const POSSIBLE: f32 = 0.45;

/// Score that a possible class needs in each of the two views.
const POSSIBLE_IN_EACH_VIEW: f32 = 0.40;

/// Shortest side of a picture for detection, in pixels. A smaller picture would be enlarged too much to show
/// anything.
pub const MIN_SIDE_PX: u32 = 32;

/// Side of the network's input, in pixels.
const SIZE: u32 = 416;
/// Mean of each channel, in the order of the planes: blue, green, red.
const MEAN: [f32; 3] = [103.53, 116.28, 123.675];
/// Standard deviation of each channel.
const DEVIATION: [f32; 3] = [57.375, 57.12, 58.395];
/// Number of cells of all three scales.
const CELLS: usize = 52 * 52 + 26 * 26 + 13 * 13;
/// Boxes of one class whose [overlap](Area::overlap) is larger than this are one object.
const SAME_OBJECT: f32 = 0.5;
/// Mean score in both views from which an object of a present class counts.
const COUNTED: f32 = 0.40;
/// Score in one view from which an object of a present class counts.
const COUNTED_IN_ONE_VIEW: f32 = 0.50;
/// Mean score from which an object that does not count is a sign that there are more.
const HINT: f32 = 0.30;
/// Score below which a box is ignored.
const MIN_BOX_SCORE: f32 = 0.20;
/// Most boxes that are compared with each other, the best first.
const MAX_BOXES: usize = 1000;

static ONNX: &[u8] = include_bytes!("../../../models/nanodet/nanodet-g-416.onnx");

/// The loaded network, shared by all threads. It takes about 45 MB.
pub struct Detector {
    model: Model,
    image: NodeId,
    scores: NodeId,
    boxes: NodeId,
}

/// A class of objects in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// The class.
    pub label: &'static Label,
    /// Mean of the best scores in both views, [`POSSIBLE`] to 1.
    pub score: f32,
    /// Whether the class is certain; otherwise it is possible.
    pub certain: bool,
    /// The objects, best score first; at least one.
    pub boxes: Vec<Area>,
    /// Whether there seem to be more objects than `boxes` has.
    pub more: bool,
}

/// Score from which a class is certain.
pub fn certain_from(label: &Label) -> f32 {
    if label.doubtful { CERTAIN_DOUBTFUL } else { CERTAIN }
}

/// A rectangle in the content of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    /// Left edge.
    pub left: f32,
    /// Upper edge.
    pub top: f32,
    /// Right edge, not less than the left one.
    pub right: f32,
    /// Lower edge, not less than the upper one.
    pub bottom: f32,
}

impl Area {
    fn pixels(&self) -> f32 {
        (self.right - self.left).max(0.0) * (self.bottom - self.top).max(0.0)
    }

    /// Intersection over union: 0 (apart) to 1 (equal).
    pub fn overlap(&self, other: &Self) -> f32 {
        let width = (self.right.min(other.right) - self.left.max(other.left)).max(0.0);
        let height = (self.bottom.min(other.bottom) - self.top.max(other.top)).max(0.0);
        let shared = width * height;
        let joint = self.pixels() + other.pixels() - shared;
        if joint > 0.0 { shared / joint } else { 0.0 }
    }
}

impl Detector {
    /// The detector of this process. The first call loads it, which takes about 20 ms.
    ///
    /// # Errors
    /// A sentence if the embedded model cannot be loaded; every call then returns the same one.
    pub fn shared() -> Result<&'static Self, String> {
        static SHARED: OnceLock<Result<Detector, String>> = OnceLock::new();
        SHARED.get_or_init(Self::load).as_ref().map_err(Clone::clone)
    }

    fn load() -> Result<Self, String> {
        let model =
            Model::load_static_slice(ONNX).map_err(|e| format!("cannot load the embedded detector: {e}"))?;
        let node =
            |name: &str| model.node_id(name).map_err(|e| format!("the embedded detector lacks {name}: {e}"));
        let (image, scores, boxes) = (node("image")?, node("scores")?, node("boxes")?);
        Ok(Self { model, image, scores, boxes })
    }

    /// Detects the classes in a picture, best score first; none if a side is shorter than [`MIN_SIDE_PX`].
    ///
    /// Blocks for about 0.15 s.
    ///
    /// # Errors
    /// A sentence if the picture's sizes are inconsistent or the network fails.
    pub fn detect(&self, picture: &Picture) -> Result<Vec<Detection>, String> {
        let mut content = content(picture)?;
        if content.width.min(content.height) < MIN_SIDE_PX {
            return Ok(Vec::new());
        }
        // Each call has one thread of its own: in a shared pool, calls would queue.
        let options = RunOptions::default().with_thread_pool(Some(Arc::new(ThreadPool::with_num_threads(1))));

        let first = View::new(&mut content, 1.0, false)?;
        let second = View::new(&mut content, 0.75, true)?;
        let (first_scores, first_boxes) = self.run(&first, options.clone())?;
        let (second_scores, second_boxes) = self.run(&second, options)?;
        let (best_first, best_second) = (best_scores(&first_scores), best_scores(&second_scores));

        let mut found: Vec<Detection> = LABELS
            .iter()
            .enumerate()
            .filter_map(|(class, label)| {
                Some((class, label, judge(label, best_first[class], best_second[class])?))
            })
            .map(|(class, label, (score, certain))| {
                let (boxes, more) = counted(paired(
                    first.boxes_of(class, &first_scores, &first_boxes),
                    second.boxes_of(class, &second_scores, &second_boxes),
                ));
                Detection { label, score, certain, boxes, more }
            })
            .collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok(found)
    }

    /// Runs the network: scores (a row of classes for each cell) and boxes (four numbers for each cell).
    fn run(&self, view: &View, options: RunOptions) -> Result<(Vec<f32>, Vec<f32>), String> {
        let failed = |e: &dyn std::fmt::Display| format!("the embedded detector failed: {e}");
        let side = SIZE as usize;
        let input = Value::from_shape([1, 3, side, side], view.planes.clone()).map_err(|e| failed(&e))?;
        let [scores, boxes] = self
            .model
            .run_n(vec![(self.image, input.into())], [self.scores, self.boxes], Some(options))
            .map_err(|e| failed(&e))?;
        let (scores_shape, scores) = scores.into_shape_vec::<f32, 3>().map_err(|e| failed(&e))?;
        let (boxes_shape, boxes) = boxes.into_shape_vec::<f32, 3>().map_err(|e| failed(&e))?;
        if scores_shape != [1, CELLS, CLASSES] || boxes_shape != [1, CELLS, 4] {
            return Err(failed(&"its output has another shape"));
        }
        Ok((scores, boxes))
    }
}

/// Score of a class and whether it is certain, from its best scores in both views; `None` if it is not even
/// possible.
fn judge(label: &Label, first: f32, second: f32) -> Option<(f32, bool)> {
    let score = (first + second) / 2.0;
    let certain = score >= certain_from(label);
    let possible = !label.doubtful && score >= POSSIBLE && first.min(second) >= POSSIBLE_IN_EACH_VIEW;
    (certain || possible).then_some((score, certain))
}

/// An object in both views.
struct Paired {
    /// Mean of its scores in both views; 0 in a view that lacks it.
    mean: f32,
    /// The better of its scores.
    best: f32,
    /// Its box in the view with the better score.
    area: Area,
}

/// Pairs the boxes of one class in two views, best mean first.
fn paired(first: Vec<(f32, Area)>, mut second: Vec<(f32, Area)>) -> Vec<Paired> {
    let mut pairs: Vec<Paired> = Vec::new();
    for (score, area) in first {
        let overlaps = second.iter().map(|(_, other)| other.overlap(&area)).enumerate();
        let partner =
            overlaps.filter(|(_, overlap)| *overlap > SAME_OBJECT).max_by(|a, b| a.1.total_cmp(&b.1));
        let (other_score, other_area) = partner.map_or((0.0, area), |(at, _)| second.remove(at));
        let area = if score >= other_score { area } else { other_area };
        pairs.push(Paired { mean: (score + other_score) / 2.0, best: score.max(other_score), area });
    }
    pairs.extend(second.into_iter().map(|(score, area)| Paired { mean: score / 2.0, best: score, area }));
    pairs.sort_by(|a, b| b.mean.total_cmp(&a.mean));
    pairs
}

/// The boxes of the objects that count, and whether there seem to be more.
fn counted(pairs: Vec<Paired>) -> (Vec<Area>, bool) {
    let counts = |pair: &Paired| pair.mean >= COUNTED || pair.best >= COUNTED_IN_ONE_VIEW;
    let mut boxes: Vec<Area> = pairs.iter().filter(|pair| counts(pair)).map(|pair| pair.area).collect();
    let more = pairs.iter().any(|pair| !counts(pair) && pair.mean >= HINT);
    if boxes.is_empty() {
        // Each view shows another object, with a low score.
        boxes.extend(pairs.first().map(|pair| pair.area));
        return (boxes, false);
    }
    (boxes, more)
}

/// The picture without its padding.
fn content(picture: &Picture) -> Result<Rgb, String> {
    let (width, height) = picture.content;
    let row = picture.width as usize * 3;
    let fits = (1..=picture.width).contains(&width) && (1..=picture.height).contains(&height);
    if !fits || row.checked_mul(picture.height as usize) != Some(picture.rgb.len()) {
        return Err(format!(
            "a picture of {}x{} pixels with a content of {width}x{height} cannot have {} bytes",
            picture.width,
            picture.height,
            picture.rgb.len()
        ));
    }
    let rows = picture.rgb.chunks_exact(row).take(height as usize);
    let data: Vec<u8> = rows.flat_map(|row| &row[..width as usize * 3]).copied().collect();
    Ok(Rgb { width, height, data })
}

/// The input of the network, and how to convert its coordinates to pixels of the picture.
struct View {
    /// Planes of blue, green and red.
    planes: Vec<f32>,
    /// Input pixels for each pixel of the picture.
    scale: f32,
    /// Left edge of the picture in the input.
    left: u32,
    /// Upper edge of the picture in the input.
    top: u32,
    /// Width of the picture in its own pixels.
    width: f32,
    /// Height of the picture in its own pixels.
    height: f32,
    mirrored: bool,
}

impl View {
    /// Scales a picture to `share` of the input's side, keeps its aspect ratio, and centres it on black.
    ///
    /// # Errors
    /// A sentence if the picture cannot be scaled.
    fn new(content: &mut Rgb, share: f32, mirrored: bool) -> Result<Self, String> {
        let (width, height) = (content.width as f32, content.height as f32);
        let scale = share * (SIZE as f32 / width).min(SIZE as f32 / height);
        let scaled = |side: f32| ((side * scale).round() as u32).clamp(1, SIZE);
        let (new_width, new_height) = (scaled(width), scaled(height));
        let (left, top) = ((SIZE - new_width) / 2, (SIZE - new_height) / 2);
        let small = interpolated(content, (new_width, new_height)).map_err(|error| error.message)?;

        let plane = (SIZE * SIZE) as usize;
        let mut planes = vec![0.0; 3 * plane];
        for (channel, values) in planes.chunks_exact_mut(plane).enumerate() {
            values.fill(-MEAN[channel] / DEVIATION[channel]);
        }
        let rows = small.data.as_chunks::<3>().0.chunks_exact(new_width as usize);
        for (y, row) in (top..).zip(rows) {
            for (x, pixel) in (0..).zip(row) {
                let x = if mirrored { new_width - 1 - x } else { x };
                let at = (y * SIZE + x + left) as usize;
                for channel in 0..3 {
                    let value = f32::from(pixel[2 - channel]);
                    planes[channel * plane + at] = (value - MEAN[channel]) / DEVIATION[channel];
                }
            }
        }
        Ok(Self { planes, scale, left, top, width, height, mirrored })
    }

    /// Scores and boxes of the objects of a class, best score first, one box for each object.
    fn boxes_of(&self, class: usize, scores: &[f32], boxes: &[f32]) -> Vec<(f32, Area)> {
        let mut all: Vec<(f32, Area)> = scores
            .chunks_exact(CLASSES)
            .zip(boxes.chunks_exact(4))
            .filter(|(row, _)| row[class] >= MIN_BOX_SCORE)
            .map(|(row, area)| (row[class], self.area(area)))
            .collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all.truncate(MAX_BOXES);
        let mut kept: Vec<(f32, Area)> = Vec::new();
        for (score, area) in all {
            if kept.iter().all(|(_, better)| better.overlap(&area) <= SAME_OBJECT) {
                kept.push((score, area));
            }
        }
        kept
    }

    fn area(&self, corners: &[f32]) -> Area {
        let x = |value: f32| ((value - self.left as f32) / self.scale).clamp(0.0, self.width);
        let y = |value: f32| ((value - self.top as f32) / self.scale).clamp(0.0, self.height);
        let (left, right) = (x(corners[0]), x(corners[2]));
        let (left, right) =
            if self.mirrored { (self.width - right, self.width - left) } else { (left, right) };
        Area { left, top: y(corners[1]), right, bottom: y(corners[3]) }
    }
}

/// The best score of each class in all cells.
fn best_scores(scores: &[f32]) -> [f32; CLASSES] {
    let mut best = [0.0_f32; CLASSES];
    for row in scores.chunks_exact(CLASSES) {
        for (best, score) in best.iter_mut().zip(row) {
            // `max` ignores NaN.
            *best = best.max(*score);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32, content: (u32, u32)) -> Picture {
        Picture { width, height, rgb: vec![255; (width * height * 3) as usize], content, jpeg: None }
    }

    #[test]
    fn the_cat_is_detected_at_its_place() {
        let bytes = include_bytes!("../../../tests/fixtures/cat.jpg");
        let image = image::load_from_memory(bytes).expect("a valid JPEG").into_rgb8();
        // Padded as for a provider. The padding must not matter.
        let (width, height) = image.dimensions();
        let mut padded = image::RgbImage::from_pixel(width + 60, height + 200, image::Rgb([255; 3]));
        image::imageops::replace(&mut padded, &image, 0, 0);
        let bare = Picture { width, height, rgb: image.into_raw(), content: (width, height), jpeg: None };
        let padded =
            Picture { width: width + 60, height: height + 200, rgb: padded.into_raw(), ..bare.clone() };

        let detector = Detector::shared().expect("the embedded model");
        let found = detector.detect(&bare).expect("detection");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].label.name, "cat");
        assert!(found[0].score > 0.6, "{}", found[0].score);
        assert_eq!(found[0].boxes.len(), 1);
        let area = found[0].boxes[0];
        assert!(area.pixels() > 0.4 * (width * height) as f32, "{area:?}");
        assert!(area.right <= width as f32 && area.bottom <= height as f32, "{area:?}");

        assert_eq!(detector.detect(&padded).expect("detection"), found);
    }

    #[test]
    fn nothing_is_detected_in_plain_or_tiny_pictures() {
        let detector = Detector::shared().expect("the embedded model");
        for content in [(64, 64), (31, 64), (1, 1)] {
            assert_eq!(detector.detect(&picture(64, 64, content)), Ok(vec![]));
        }
    }

    #[test]
    fn a_picture_with_inconsistent_sizes_is_an_error() {
        let detector = Detector::shared().expect("the embedded model");
        for content in [(0, 10), (10, 0), (65, 10), (10, 65)] {
            assert!(detector.detect(&picture(64, 64, content)).is_err());
        }
        let short = Picture { rgb: vec![0; 100], ..picture(64, 64, (64, 64)) };
        assert!(detector.detect(&short).is_err());
        let empty = Picture { rgb: vec![], ..picture(0, 0, (0, 0)) };
        assert!(detector.detect(&empty).is_err());
    }

    fn view(mirrored: bool) -> View {
        View { planes: vec![], scale: 1.0, left: 0, top: 0, width: 100.0, height: 100.0, mirrored }
    }

    fn area(left: f32, right: f32) -> Area {
        Area { left, top: 0.0, right, bottom: 40.0 }
    }

    #[test]
    fn boxes_with_a_large_overlap_are_one_object() {
        let mut scores = vec![0.0; 4 * CLASSES];
        for (cell, score) in [0.6, 0.9, 0.7, 0.1].into_iter().enumerate() {
            scores[cell * CLASSES] = score;
        }
        let boxes = [
            [0.0, 0.0, 40.0, 50.0],
            [0.0, 0.0, 40.0, 40.0],
            [50.0, 50.0, 120.0, 90.0],
            [60.0, 0.0, 90.0, 30.0],
        ];
        let found = view(false).boxes_of(0, &scores, boxes.as_flattened());
        assert_eq!(found.len(), 2, "the second overlaps the first, and the last has a low score");
        assert_eq!(found[1], (0.7, Area { left: 50.0, top: 50.0, right: 100.0, bottom: 90.0 }));
        let mirrored = view(true).boxes_of(0, &scores, boxes.as_flattened());
        assert_eq!(mirrored[1].1, Area { left: 0.0, top: 50.0, right: 50.0, bottom: 90.0 });
    }

    #[test]
    fn an_object_counts_by_its_mean_score_or_by_a_good_one_in_one_view() {
        let (left, right) = (area(0.0, 40.0), area(60.0, 100.0));
        for (first, second, expected) in [
            (vec![(0.7, left)], vec![(0.7, left)], (1, false)),
            (vec![(0.7, left), (0.35, right)], vec![(0.7, left), (0.5, right)], (2, false)),
            (vec![(0.7, left), (0.35, right)], vec![(0.7, left), (0.3, right)], (1, true)),
            (vec![(0.7, left), (0.45, right)], vec![(0.7, left)], (1, false)),
            (vec![(0.7, left)], vec![(0.55, right), (0.2, left)], (2, false)),
            (vec![(0.45, left)], vec![(0.45, right)], (1, false)),
            (vec![(0.7, area(0.0, 40.0))], vec![(0.6, area(2.0, 44.0))], (1, false)),
        ] {
            let (boxes, more) = counted(paired(first.clone(), second.clone()));
            assert_eq!((boxes.len(), more), expected, "{first:?} {second:?}");
        }
    }

    #[test]
    fn doubtful_classes_need_a_higher_score_and_are_never_possible() {
        let label = |name: &str| LABELS.iter().find(|label| label.name == name).expect(name);
        for (name, first, second, expected) in [
            ("dog", 0.6, 0.42, Some(true)),
            ("dog", 0.46, 0.48, Some(false)),
            ("dog", 0.6, 0.35, None),
            ("dog", 0.44, 0.44, None),
            ("banana", 0.65, 0.47, None),
            ("banana", 0.65, 0.57, Some(true)),
        ] {
            let certain = judge(label(name), first, second).map(|(_, certain)| certain);
            assert_eq!(certain, expected, "{name} {first} {second}");
        }
    }

    #[test]
    fn the_border_is_black_before_normalisation() {
        let mut orange = Rgb { width: 100, height: 50, data: [255, 128, 0].repeat(100 * 50) };
        let view = View::new(&mut orange, 1.0, false).expect("it can be scaled");
        let plane = (SIZE * SIZE) as usize;
        for channel in 0..3 {
            let at = |x: u32, y: u32| view.planes[channel * plane + (y * SIZE + x) as usize];
            let value = |byte: f32| (byte - MEAN[channel]) / DEVIATION[channel];
            assert!((at(0, 0) - value(0.0)).abs() < 1e-6);
            assert!((at(200, 208) - value([0.0, 128.0, 255.0][channel])).abs() < 1e-6);
        }
    }
}
