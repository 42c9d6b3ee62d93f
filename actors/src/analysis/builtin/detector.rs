//! Finds everyday objects in a picture with a small network that is part of the program: NanoDet-g, 80 classes.
//! `models/nanodet/README.md` tells where it comes from, what goes in and out, and how good it is.
//!
//! A picture is looked at twice: as it is, and mirrored at three quarters of the size. The mean of a class's best scores
//! decides whether it is there, which drops most of the false ones; boxes of both looks that cover each other are one object.

use std::sync::{Arc, OnceLock};

use rten::{Model, NodeId, RunOptions, ThreadPool, Value};

use super::labels::{CLASSES, LABELS, Label};
use crate::media::{Picture, Rgb, interpolated};

/// The model's name, for provenance.
pub const MODEL: &str = "nanodet-g-416";

/// Score from which a class is stated. Measured: 95 % of what is stated of photos is right, 90 % of all pictures.
pub const STATED: f32 = 0.50;

/// The same for a [doubtful](Label::doubtful) class: of those that scored less, more were wrong than right.
pub const STATED_DOUBTFUL: f32 = 0.60;

/// Score from which a class is "possibly" there, if it is not doubtful and both looks have it; below, nothing is said of it.
pub const POSSIBLE: f32 = 0.45;

/// Score that each of the two looks has to give to what is "possibly" there.
const POSSIBLE_EACH: f32 = 0.40;

/// Shortest side of a picture that is looked at, in pixels: enlarged any further, it is mush, and mush is not evidence.
pub const MIN_SIDE_PX: u32 = 32;

/// Side of the network's input, in pixels.
const SIZE: u32 = 416;
/// Blue, green, red: the order of the planes.
const MEAN: [f32; 3] = [103.53, 116.28, 123.675];
const DEVIATION: [f32; 3] = [57.375, 57.12, 58.395];
/// Cells of all three scales.
const CELLS: usize = 52 * 52 + 26 * 26 + 13 * 13;
/// Boxes of one class that share more than this of their joint area are one object.
const SAME_OBJECT: f32 = 0.5;
/// Once its class is there, an object counts if both looks together give it this score, a little lower than for the class,
const BOX: f32 = 0.40;
/// or if one look alone gives it this one.
const BOX_ALONE: f32 = 0.50;
/// Objects with less are not counted, but from here on they are a sign that there are more than were counted.
const BOX_HINT: f32 = 0.30;
/// Nothing below is looked at.
const BOX_LEAST: f32 = 0.20;
/// Most boxes that are compared with each other, the best first.
const MAX_BOXES: usize = 1000;

static ONNX: &[u8] = include_bytes!("../../../models/nanodet/nanodet-g-416.onnx");

/// The loaded network. Shared by all threads; about 45 MB.
pub struct Detector {
    model: Model,
    image: NodeId,
    scores: NodeId,
    boxes: NodeId,
}

/// A class of objects that is in a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// Its words.
    pub label: &'static Label,
    /// Mean of the best scores of both looks, [`POSSIBLE`] to 1.
    pub score: f32,
    /// Whether it is sure enough to be stated; otherwise it is "possibly" there.
    pub sure: bool,
    /// Where, the surest first; at least one.
    pub boxes: Vec<Area>,
    /// Whether there seem to be more of them than `boxes` tells.
    pub more: bool,
}

/// The score from which a class is stated.
pub fn stated_from(label: &Label) -> f32 {
    if label.doubtful { STATED_DOUBTFUL } else { STATED }
}

/// A rectangle, in pixels of the picture, within its content.
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

    /// Shared area, divided by joint area: 0 (apart) to 1 (the same).
    pub fn overlap(&self, other: &Self) -> f32 {
        let width = (self.right.min(other.right) - self.left.max(other.left)).max(0.0);
        let height = (self.bottom.min(other.bottom) - self.top.max(other.top)).max(0.0);
        let shared = width * height;
        let joint = self.pixels() + other.pixels() - shared;
        if joint > 0.0 { shared / joint } else { 0.0 }
    }
}

impl Detector {
    /// The one detector of this process, loaded when it is first asked for (about 20 ms).
    ///
    /// # Errors
    /// A sentence, if the embedded model cannot be loaded; the same one each time.
    pub fn shared() -> Result<&'static Self, String> {
        static SHARED: OnceLock<Result<Detector, String>> = OnceLock::new();
        SHARED.get_or_init(Self::load).as_ref().map_err(Clone::clone)
    }

    fn load() -> Result<Self, String> {
        let model =
            Model::load_static_slice(ONNX).map_err(|e| format!("cannot load the embedded detector: {e}"))?;
        let node =
            |name: &str| model.node_id(name).map_err(|e| format!("embedded detector without {name}: {e}"));
        let (image, scores, boxes) = (node("image")?, node("scores")?, node("boxes")?);
        Ok(Self { model, image, scores, boxes })
    }

    /// Finds what is in a picture, the surest class first. A picture with a side under [`MIN_SIDE_PX`] has nothing in it.
    ///
    /// Takes about 0.15 s of one thread; blocks meanwhile.
    ///
    /// # Errors
    /// A sentence, if the picture's numbers do not fit together or the network fails.
    pub fn detect(&self, picture: &Picture) -> Result<Vec<Detection>, String> {
        let mut content = content(picture)?;
        if content.width.min(content.height) < MIN_SIDE_PX {
            return Ok(Vec::new());
        }
        // One thread a call: pictures run beside each other, and a pool that calls share would put them in a queue.
        let options = RunOptions::default().with_thread_pool(Some(Arc::new(ThreadPool::with_num_threads(1))));

        let first = Look::new(&mut content, 1.0, false)?;
        let second = Look::new(&mut content, 0.75, true)?;
        let (first_scores, first_boxes) = self.run(&first, options.clone())?;
        let (second_scores, second_boxes) = self.run(&second, options)?;
        let (ours, theirs) = (best_scores(&first_scores), best_scores(&second_scores));

        let mut found: Vec<Detection> = LABELS
            .iter()
            .enumerate()
            .filter_map(|(class, label)| Some((class, label, judge(label, ours[class], theirs[class])?)))
            .map(|(class, label, (score, sure))| {
                let (boxes, more) = counted(paired(
                    first.boxes_of(class, &first_scores, &first_boxes),
                    second.boxes_of(class, &second_scores, &second_boxes),
                ));
                Detection { label, score, sure, boxes, more }
            })
            .collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok(found)
    }

    /// Scores (a row of classes for each cell) and boxes (four numbers for each cell).
    fn run(&self, look: &Look, options: RunOptions) -> Result<(Vec<f32>, Vec<f32>), String> {
        let failed = |e: &dyn std::fmt::Display| format!("the embedded detector failed: {e}");
        let side = SIZE as usize;
        let input = Value::from_shape([1, 3, side, side], look.planes.clone()).map_err(|e| failed(&e))?;
        let [scores, boxes] = self
            .model
            .run_n(vec![(self.image, input.into())], [self.scores, self.boxes], Some(options))
            .map_err(|e| failed(&e))?;
        let (scores_shape, scores) = scores.into_shape_vec::<f32, 3>().map_err(|e| failed(&e))?;
        let (boxes_shape, boxes) = boxes.into_shape_vec::<f32, 3>().map_err(|e| failed(&e))?;
        if scores_shape != [1, CELLS, CLASSES] || boxes_shape != [1, CELLS, 4] {
            return Err(failed(&"output of another shape"));
        }
        Ok((scores, boxes))
    }
}

/// Score of a class and whether it is sure, from its best scores in both looks; `None` if nothing is to be said of it.
fn judge(label: &Label, ours: f32, theirs: f32) -> Option<(f32, bool)> {
    let score = (ours + theirs) / 2.0;
    let sure = score >= stated_from(label);
    let possible = !label.doubtful && score >= POSSIBLE && ours.min(theirs) >= POSSIBLE_EACH;
    (sure || possible).then_some((score, sure))
}

/// An object as both looks have it.
struct Paired {
    /// Mean of its scores in both looks, with 0 where it is missing.
    mean: f32,
    /// The better of its scores.
    best: f32,
    /// Its box in the look that has the better score.
    area: Area,
}

/// Puts together what two looks found of one class; the surest first.
fn paired(ours: Vec<(f32, Area)>, mut theirs: Vec<(f32, Area)>) -> Vec<Paired> {
    let mut pairs: Vec<Paired> = Vec::new();
    for (score, area) in ours {
        let overlaps = theirs.iter().map(|(_, other)| other.overlap(&area)).enumerate();
        let partner =
            overlaps.filter(|(_, overlap)| *overlap > SAME_OBJECT).max_by(|a, b| a.1.total_cmp(&b.1));
        let (other, their_area) = partner.map_or((0.0, area), |(at, _)| theirs.remove(at));
        let area = if score >= other { area } else { their_area };
        pairs.push(Paired { mean: (score + other) / 2.0, best: score.max(other), area });
    }
    pairs.extend(theirs.into_iter().map(|(score, area)| Paired { mean: score / 2.0, best: score, area }));
    pairs.sort_by(|a, b| b.mean.total_cmp(&a.mean));
    pairs
}

/// The boxes of the objects that count, and whether there seem to be more.
fn counted(pairs: Vec<Paired>) -> (Vec<Area>, bool) {
    let counts = |pair: &Paired| pair.mean >= BOX || pair.best >= BOX_ALONE;
    let mut boxes: Vec<Area> = pairs.iter().filter(|pair| counts(pair)).map(|pair| pair.area).collect();
    let more = pairs.iter().any(|pair| !counts(pair) && pair.mean >= BOX_HINT);
    if boxes.is_empty() {
        // Each look has one of its own, neither of them well.
        boxes.extend(pairs.first().map(|pair| pair.area));
        return (boxes, false);
    }
    (boxes, more)
}

/// The part of a picture that is not padding.
fn content(picture: &Picture) -> Result<Rgb, String> {
    let (width, height) = picture.content;
    let row = picture.width as usize * 3;
    let fits = (1..=picture.width).contains(&width) && (1..=picture.height).contains(&height);
    if !fits || row.checked_mul(picture.height as usize) != Some(picture.rgb.len()) {
        return Err(format!(
            "a picture of {}x{} with a content of {width}x{height} cannot have {} bytes",
            picture.width,
            picture.height,
            picture.rgb.len()
        ));
    }
    let rows = picture.rgb.chunks_exact(row).take(height as usize);
    let data: Vec<u8> = rows.flat_map(|row| &row[..width as usize * 3]).copied().collect();
    Ok(Rgb { width, height, data })
}

/// A picture as the network sees it, and the way back to the picture's own pixels.
struct Look {
    /// Planes of blue, green and red.
    planes: Vec<f32>,
    scale: f32,
    left: u32,
    top: u32,
    width: f32,
    height: f32,
    mirrored: bool,
}

impl Look {
    /// Scales to `share` of the input's side, aspect kept, and centres on black.
    ///
    /// # Errors
    /// A sentence, if the picture cannot be scaled.
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

    /// Where objects of a class may be and with which score, the surest first, one box an object.
    fn boxes_of(&self, class: usize, scores: &[f32], boxes: &[f32]) -> Vec<(f32, Area)> {
        let mut all: Vec<(f32, Area)> = scores
            .chunks_exact(CLASSES)
            .zip(boxes.chunks_exact(4))
            .filter(|(row, _)| row[class] >= BOX_LEAST)
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

/// The best score of each class, wherever it is.
fn best_scores(scores: &[f32]) -> [f32; CLASSES] {
    let mut best = [0.0_f32; CLASSES];
    for row in scores.chunks_exact(CLASSES) {
        for (best, score) in best.iter_mut().zip(row) {
            // `max` passes over what is not a number.
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
    fn the_cat_is_found_where_it_is() {
        let bytes = include_bytes!("../../../tests/fixtures/cat.jpg");
        let image = image::load_from_memory(bytes).expect("a sound JPEG").into_rgb8();
        // Padded as a provider gets it: the padding is no part of what is looked at.
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
    fn nothing_is_found_in_plain_or_tiny_pictures() {
        let detector = Detector::shared().expect("the embedded model");
        for content in [(64, 64), (31, 64), (1, 1)] {
            assert_eq!(detector.detect(&picture(64, 64, content)), Ok(vec![]));
        }
    }

    #[test]
    fn a_picture_whose_numbers_do_not_fit_is_an_error_and_no_panic() {
        let detector = Detector::shared().expect("the embedded model");
        for content in [(0, 10), (10, 0), (65, 10), (10, 65)] {
            assert!(detector.detect(&picture(64, 64, content)).is_err());
        }
        let short = Picture { rgb: vec![0; 100], ..picture(64, 64, (64, 64)) };
        assert!(detector.detect(&short).is_err());
        let empty = Picture { rgb: vec![], ..picture(0, 0, (0, 0)) };
        assert!(detector.detect(&empty).is_err());
    }

    fn look(mirrored: bool) -> Look {
        Look { planes: vec![], scale: 1.0, left: 0, top: 0, width: 100.0, height: 100.0, mirrored }
    }

    fn area(left: f32, right: f32) -> Area {
        Area { left, top: 0.0, right, bottom: 40.0 }
    }

    #[test]
    fn boxes_that_mostly_cover_each_other_are_one_object() {
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
        let found = look(false).boxes_of(0, &scores, boxes.as_flattened());
        assert_eq!(found.len(), 2, "the second covers the first, and the last is too weak");
        assert_eq!(found[1], (0.7, Area { left: 50.0, top: 50.0, right: 100.0, bottom: 90.0 }));
        let mirrored = look(true).boxes_of(0, &scores, boxes.as_flattened());
        assert_eq!(mirrored[1].1, Area { left: 0.0, top: 50.0, right: 50.0, bottom: 90.0 });
    }

    #[test]
    fn an_object_counts_if_both_looks_or_one_of_them_well_has_it() {
        let (left, right) = (area(0.0, 40.0), area(60.0, 100.0));
        for (ours, theirs, expected) in [
            (vec![(0.7, left)], vec![(0.7, left)], (1, false)),
            (vec![(0.7, left), (0.35, right)], vec![(0.7, left), (0.5, right)], (2, false)),
            (vec![(0.7, left), (0.35, right)], vec![(0.7, left), (0.3, right)], (1, true)),
            (vec![(0.7, left), (0.45, right)], vec![(0.7, left)], (1, false)),
            (vec![(0.7, left)], vec![(0.55, right), (0.2, left)], (2, false)),
            (vec![(0.45, left)], vec![(0.45, right)], (1, false)),
            (vec![(0.7, area(0.0, 40.0))], vec![(0.6, area(2.0, 44.0))], (1, false)),
        ] {
            let (boxes, more) = counted(paired(ours.clone(), theirs.clone()));
            assert_eq!((boxes.len(), more), expected, "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn doubtful_classes_have_to_be_surer_and_are_never_possible() {
        let label = |name: &str| LABELS.iter().find(|label| label.name == name).expect(name);
        for (name, ours, theirs, expected) in [
            ("dog", 0.6, 0.42, Some(true)),
            ("dog", 0.46, 0.48, Some(false)),
            ("dog", 0.6, 0.35, None),
            ("dog", 0.44, 0.44, None),
            ("banana", 0.65, 0.47, None),
            ("banana", 0.65, 0.57, Some(true)),
        ] {
            assert_eq!(
                judge(label(name), ours, theirs).map(|(_, sure)| sure),
                expected,
                "{name} {ours} {theirs}"
            );
        }
    }

    #[test]
    fn the_black_frame_is_black_before_the_mean_is_taken() {
        let mut orange = Rgb { width: 100, height: 50, data: [255, 128, 0].repeat(100 * 50) };
        let look = Look::new(&mut orange, 1.0, false).expect("it can be scaled");
        let plane = (SIZE * SIZE) as usize;
        for channel in 0..3 {
            let at = |x: u32, y: u32| look.planes[channel * plane + (y * SIZE + x) as usize];
            let value = |byte: f32| (byte - MEAN[channel]) / DEVIATION[channel];
            assert!((at(0, 0) - value(0.0)).abs() < 1e-6);
            assert!((at(200, 208) - value([0.0, 128.0, 255.0][channel])).abs() < 1e-6);
        }
    }
}
