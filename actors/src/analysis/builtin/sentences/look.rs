//! What the picture is like as a picture: light, colours, sharpness, shape.

use super::{Scene, colours, english::number, times::length};
use crate::{
    analysis::builtin::labels::article,
    media::{Facts, Shape},
};

/// Sharpness from which the sharpest parts are worth a word.
const SHARP: u8 = 60;
/// Longer side of a picture, in pixels, up to which its size is worth a word.
const TINY_PX: u32 = 64;

/// `a dark, horizontal picture, mostly black, with sharp detail`.
pub(super) fn phrase(scene: &Scene<'_>, subject: &str) -> String {
    let facts = scene.facts;
    let video = !scene.seconds.is_empty();
    let adjectives = adjectives(scene);
    let mut after = String::new();
    if !scene.looked_at || tiny(facts) {
        after = format!(" of only {} by {} pixels", facts.width, facts.height);
    }
    match facts.duration_ms {
        Some(duration) if video => after.push_str(&format!(" of {}", length(duration))),
        Some(duration) if facts.animated => after.push_str(&format!(" that lasts {}", length(duration))),
        _ => {}
    }
    let mostly = if (scene.variation / 3).is_multiple_of(2) { "mostly" } else { "mainly" };
    let colours = if video { colours::among(facts) } else { colours::phrase(facts, mostly) };
    // Of one colour, or of a few pixels, there is nothing to be sharp.
    let sharp = !video && facts.sharpness >= SHARP && !colours::is_plain(facts) && scene.looked_at;
    let sharp = sharp.then(|| ", with sharp detail".to_owned());
    if adjectives.is_empty() && after.is_empty() && colours.is_none() && sharp.is_none() {
        after = " of which no more is known".to_owned();
    }

    let adjectives = adjectives.join(", ");
    let head = if adjectives.is_empty() { subject.to_owned() } else { format!("{adjectives} {subject}") };
    let mut text = format!("{} {head}{after}", article(&head));
    text.extend([colours, sharp].into_iter().flatten());
    if let frames @ 1.. = scene.seconds.len() {
        let were = if frames == 1 { "was" } else { "were" };
        let frames = number(u64::try_from(frames).unwrap_or(u64::MAX));
        text.push_str(&format!("; {frames} of its frames {were} looked at"));
    }
    if facts.damaged {
        text.push_str("; the file is damaged, so a part of what it held may be missing");
    }
    text
}

/// `dark`, `blurred`, `horizontal`, as far as they are so.
fn adjectives(scene: &Scene<'_>) -> Vec<&'static str> {
    let facts = scene.facts;
    let mut adjectives = Vec::new();
    // A video is not judged by one of its frames; facts of nobody's making have no colours, and their 0 says nothing.
    if scene.seconds.is_empty() && !facts.colours.is_empty() && !colours::is_plain(facts) {
        if facts.dark() {
            adjectives.push("dark");
        } else if facts.bright() {
            adjectives.push("bright");
        }
        if facts.blurred() && scene.looked_at {
            adjectives.push("blurred");
        }
    }
    adjectives.extend(shape(facts));
    adjectives
}

/// The shape in words that are not also a sort of picture (a landscape, a portrait).
fn shape(facts: &Facts) -> Option<&'static str> {
    if facts.width == 0 || facts.height == 0 {
        return None;
    }
    Some(match facts.shape() {
        Shape::Panorama => "very wide",
        Shape::Landscape => "horizontal",
        Shape::Square => "square",
        Shape::Portrait => "vertical",
        Shape::Tall => "tall, narrow",
    })
}

fn tiny(facts: &Facts) -> bool {
    (1..=TINY_PX).contains(&facts.width.max(facts.height))
}
