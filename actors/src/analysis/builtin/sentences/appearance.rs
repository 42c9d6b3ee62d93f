//! The phrase about a picture's appearance: light, colours, sharpness, shape.

use super::{Scene, colours, english::number, times::length};
use crate::{
    analysis::builtin::labels::article,
    media::{Facts, Shape},
};

/// Sharpness from which it is mentioned, 0 to 100.
const SHARP: u8 = 60;
/// Longest side up to which the size is mentioned, in pixels.
const TINY_PX: u32 = 64;

/// `a dark, horizontal picture, mostly black, with sharp detail`.
pub(super) fn phrase(scene: &Scene<'_>, subject: &str) -> String {
    let facts = scene.facts;
    let video = !scene.seconds.is_empty();
    let adjectives = adjectives(scene);
    let mut after = String::new();
    if !scene.large_enough || tiny(facts) {
        after = format!(" of only {} by {} pixels", facts.width, facts.height);
    }
    match facts.duration_ms {
        Some(duration) if video => after.push_str(&format!(" of {}", length(duration))),
        Some(duration) if facts.animated => after.push_str(&format!(" that lasts {}", length(duration))),
        _ => {}
    }
    let mostly = if (scene.variation / 3).is_multiple_of(2) { "mostly" } else { "mainly" };
    let colours = if video { colours::among(facts) } else { colours::phrase(facts, mostly) };
    // One colour, or a few pixels, cannot be sharp.
    let sharp = !video && facts.sharpness >= SHARP && !colours::is_plain(facts) && scene.large_enough;
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

/// The adjectives that apply: `dark`, `blurred`, `horizontal`.
fn adjectives(scene: &Scene<'_>) -> Vec<&'static str> {
    let facts = scene.facts;
    let mut adjectives = Vec::new();
    // One frame says nothing about the light of a video. Default facts have no colours, and their zeros mean
    // nothing.
    if scene.seconds.is_empty() && !facts.colours.is_empty() && !colours::is_plain(facts) {
        if facts.dark() {
            adjectives.push("dark");
        } else if facts.bright() {
            adjectives.push("bright");
        }
        if facts.blurred() && scene.large_enough {
            adjectives.push("blurred");
        }
    }
    adjectives.extend(shape(facts));
    adjectives
}

/// The shape, in words that do not also mean a genre (a landscape, a portrait).
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
