//! The main colours of a picture in a few words.

use super::english::list;
use crate::media::{Colour, Facts};

/// Share of the picture from which a colour is named, in percent.
const NAMED_PERCENT: u32 = 8;
/// Most colours that are named.
const MOST_NAMED: usize = 4;
/// Share of the picture from which the named colours are enough, in percent.
const ENOUGH_PERCENT: u32 = 75;
/// Share of the picture from which a colour is named though others are enough, in percent.
const STANDS_OUT_PERCENT: u32 = 15;
/// Share of the picture from which a colour is the only one, in percent.
const PLAIN_PERCENT: u8 = 97;
/// Share of the picture from which it is "mostly" of the named colours, in percent.
const MOSTLY_PERCENT: u32 = 50;
/// Share of a colour from which one of its shades gives the colour its name, in percent.
const SHADE_PERCENT: u32 = 60;

/// Whether a picture has only one colour.
pub(super) fn is_plain(facts: &Facts) -> bool {
    facts.colours.first().is_some_and(|colour| colour.percent >= PLAIN_PERCENT)
}

/// `, mostly brown, grey and white` after a noun; `mostly` is that word or a synonym. `None` if no colour is
/// known.
pub(super) fn phrase(facts: &Facts, mostly: &str) -> Option<String> {
    let first = facts.colours.first()?;
    if is_plain(facts) {
        return Some(format!(", all {}", everyday(&first.name)));
    }
    let colours = merged(&facts.colours);
    let (names, percent) = named(&colours);
    if names.is_empty() {
        return Some(" in many colours".to_owned());
    }
    if percent < MOSTLY_PERCENT {
        return Some(format!(" in many colours, among them {}", list(&names)));
    }
    let all: u32 = colours.iter().map(|(_, percent)| percent).sum();
    let grey = colours.iter().all(|(name, _)| is_neutral(name)) && all >= 95;
    let colourless = if grey { "almost without colour, " } else { "" };
    Some(format!(", {colourless}{mostly} {}", list(&names)))
}

/// `, with brown and grey in it`: holds for a video if it holds for one of its frames.
pub(super) fn among(facts: &Facts) -> Option<String> {
    let colours = merged(&facts.colours);
    let (names, _) = named(&colours);
    (!names.is_empty()).then(|| format!(", with {} in it", list(&names)))
}

/// Names of the main colours, and their share of the picture in percent.
fn named(colours: &[(String, u32)]) -> (Vec<&str>, u32) {
    let (mut names, mut sum) = (Vec::new(), 0);
    for (name, percent) in colours.iter().filter(|(_, percent)| *percent >= NAMED_PERCENT).take(MOST_NAMED) {
        if sum >= ENOUGH_PERCENT && *percent < STANDS_OUT_PERCENT {
            break;
        }
        names.push(name.as_str());
        sum += percent;
    }
    (names, sum)
}

/// Merges the shades of each colour, the largest share first: a person sees light and dark grey as grey.
fn merged(colours: &[Colour]) -> Vec<(String, u32)> {
    let mut bases: Vec<(&str, Vec<&Colour>)> = Vec::new();
    for colour in colours {
        let base = base(&colour.name);
        match bases.iter_mut().find(|(other, _)| *other == base) {
            Some((_, shades)) => shades.push(colour),
            None => bases.push((base, vec![colour])),
        }
    }
    let mut merged: Vec<(String, u32)> = bases
        .into_iter()
        .map(|(base, shades)| {
            let sum = shades.iter().map(|shade| u32::from(shade.percent)).sum();
            let largest = shades.iter().max_by_key(|shade| shade.percent);
            let shade = largest.filter(|shade| u32::from(shade.percent) * 100 >= sum * SHADE_PERCENT);
            (everyday(shade.map_or(base, |shade| &shade.name)).to_owned(), sum)
        })
        .collect();
    merged.sort_by_key(|(_, percent)| std::cmp::Reverse(*percent));
    merged
}

/// `grey` for `light grey`.
fn base(colour: &str) -> &str {
    colour.strip_prefix("light ").or_else(|| colour.strip_prefix("dark ")).unwrap_or(colour)
}

/// The everyday name of a colour: an olive is also a fruit.
fn everyday(colour: &str) -> &str {
    if colour == "olive" { "olive green" } else { colour }
}

fn is_neutral(colour: &str) -> bool {
    matches!(base(colour), "black" | "white" | "grey" | "gray")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(colours: &[(&str, u8)]) -> Facts {
        let colours =
            colours.iter().map(|(name, percent)| Colour { name: (*name).to_owned(), percent: *percent });
        Facts { colours: colours.collect(), ..Facts::default() }
    }

    #[test]
    fn the_main_colours_are_named() {
        for (colours, expected) in [
            (&[("brown", 87), ("pink", 5)][..], ", mostly brown"),
            (&[("black", 93)], ", mostly black"),
            (&[("white", 100)], ", all white"),
            (&[("olive", 98)], ", all olive green"),
            (
                &[("dark blue", 49), ("blue", 25), ("dark grey", 11), ("black", 7)],
                ", mostly dark blue and dark grey",
            ),
            (
                &[("black", 19), ("light grey", 18), ("grey", 15), ("orange", 10), ("red", 8)],
                ", mostly grey, black, orange and red",
            ),
            (
                &[("blue", 22), ("brown", 21), ("grey", 14), ("dark grey", 11), ("olive", 11)],
                ", mostly grey, blue, brown and olive green",
            ),
            (&[("blue", 22), ("brown", 19), ("black", 6)], " in many colours, among them blue and brown"),
            (&[("blue", 7), ("brown", 6)], " in many colours"),
            (
                &[("grey", 47), ("dark grey", 26), ("black", 24)],
                ", almost without colour, mostly grey and black",
            ),
            (&[("grey", 47), ("black", 24), ("red", 24)], ", mostly grey, black and red"),
        ] {
            assert_eq!(phrase(&facts(colours), "mostly").as_deref(), Some(expected), "{colours:?}");
        }
        assert_eq!(phrase(&facts(&[]), "mostly"), None);
    }

    #[test]
    fn a_video_has_the_colours_of_one_frame_in_it() {
        assert_eq!(
            among(&facts(&[("green", 60), ("light green", 30), ("red", 10)])).as_deref(),
            Some(", with green in it")
        );
        assert_eq!(among(&facts(&[])), None);
    }
}
