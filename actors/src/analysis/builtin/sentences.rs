//! Objects and facts in, one to three true English sentences out. Nothing is guessed: what is not known is not said, and
//! what is not sure is called possible.

use jiff::civil::DateTime;

use super::{
    detector::Area,
    labels::{Form, Label, article},
    names::Names,
};
use crate::media::Facts;

/// Version of the rules that make the sentences; a description with another one may be worded otherwise.
pub const VERSION: u32 = 1;

/// Most sorts of objects that are named.
const MAX_SORTS: usize = 6;
/// Share of a colour from which it is named, in percent.
const COLOUR_PERCENT: u8 = 8;
/// Mean lightness below which a person calls a picture dark, and above which bright.
const DARK: u8 = 25;
const BRIGHT: u8 = 75;
/// Sharpness below which a picture is blurred, and from which it is sharp; of 0 nothing is said, as nothing is to be seen.
const BLURRED: u8 = 22;
const SHARP: u8 = 60;
/// Longer side of a picture, in pixels, up to which its size is worth a word.
const TINY_PX: u32 = 64;

/// A sort of object, as it goes into a sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct Sight {
    /// Its words.
    pub label: &'static Label,
    /// How many there are.
    pub count: Count,
    /// Whether it is sure enough to be stated; otherwise it is "possibly" there.
    pub sure: bool,
    /// When it is to be seen, in a video: seconds from the start of each look that found it. Empty for a still picture.
    pub seconds: Vec<f64>,
}

/// How many objects of a sort there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// This many, at least 1.
    Exactly(u32),
    /// This many were found, and in a crowd of that size some will have been missed.
    AtLeast(u32),
    /// More than a few, which cover each other or lie in a stack.
    Several,
}

impl Count {
    /// Counts the boxes of a sort in one picture.
    pub fn of(label: &Label, boxes: &[Area]) -> Self {
        let n = u32::try_from(boxes.len()).unwrap_or(u32::MAX).max(1);
        let touching = |area: &&Area| boxes.iter().any(|other| other != *area && other.overlap(area) > 0.15);
        let crowded = || boxes.iter().filter(touching).count() * 2 >= boxes.len();
        match n {
            11.. => Self::AtLeast(n),
            4.. if label.stacked || crowded() => Self::Several,
            _ => Self::Exactly(n),
        }
    }
}

/// Everything a description is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene<'a> {
    /// What was found, the surest first.
    pub sights: Vec<Sight>,
    /// What is known without looking.
    pub facts: &'a Facts,
    /// What the file and its folders are called.
    pub names: Names,
    /// How many frames of a video were looked at; `None` for a still picture or an animation.
    pub frames: Option<usize>,
    /// Whether the picture was large enough to be looked at.
    pub looked_at: bool,
    /// Which of the wordings; 0 for the plain one.
    pub variation: u32,
}

/// Writes the description: at least 50 characters.
pub fn write(scene: &Scene<'_>) -> String {
    let mut text = what(scene);
    text.push(' ');
    text.push_str(&look(scene));
    if let Some(origin) = origin(scene) {
        text.push(' ');
        text.push_str(&origin);
    }
    text
}

/// What the picture is called in its first sentence.
fn subject(scene: &Scene<'_>) -> &'static str {
    match (scene.frames, scene.facts.animated) {
        (Some(_), _) => "video",
        (None, true) => "animation",
        (None, false) => "picture",
    }
}

/// The sentence about objects.
fn what(scene: &Scene<'_>) -> String {
    let subject = subject(scene);
    let first_frame = if subject == "animation" { ", judged by its first frame," } else { "" };
    let sure: Vec<&Sight> = scene.sights.iter().filter(|sight| sight.sure).take(MAX_SORTS).collect();
    let possible: Vec<&Sight> = scene.sights.iter().filter(|sight| !sight.sure).take(2).collect();
    let named = |sights: &[&Sight]| {
        let phrases: Vec<String> = sights.iter().map(|sight| phrase(sight, scene.frames)).collect();
        // Times hold commas and "and" of their own.
        let loose = sights.len() > 1 && phrases.iter().any(|phrase| phrase.contains(" and "));
        if loose { phrases.join("; ") } else { list(&phrases) }
    };

    if sure.is_empty() && possible.is_empty() {
        let too_small = format!("The {subject} is too small to tell what it shows.");
        return match (scene.looked_at, scene.variation % 3) {
            (false, _) => too_small,
            (true, 0) => format!("Nothing in the {subject} was recognised with confidence."),
            (true, 1) => format!("What the {subject} shows was not recognised with any confidence."),
            (true, _) => format!("No everyday object was recognised in the {subject} with confidence."),
        };
    }
    let possibly = match (sure.is_empty(), possible.is_empty()) {
        (_, true) => String::new(),
        (true, false) => format!("possibly {}", named(&possible)),
        (false, false) => format!(", and possibly {}", named(&possible)),
    };
    let everything = format!("{}{possibly}", named(&sure));
    match scene.variation % 3 {
        0 => format!("The {subject}{first_frame} shows {everything}."),
        1 => {
            let comma = if sure.is_empty() || possible.is_empty() { "" } else { "," };
            format!(
                "{}{comma} can be seen in the {subject}{}.",
                capital(&everything),
                first_frame.trim_end_matches(',')
            )
        }
        _ => format!("What can be seen in the {subject}{first_frame} is this: {everything}."),
    }
}

/// A sort of object with its number, and in a video when it is to be seen.
fn phrase(sight: &Sight, frames: Option<usize>) -> String {
    let label = sight.label;
    let counted = match sight.count {
        _ if label.form == Form::Mass => label.one(),
        Count::Exactly(0 | 1) => label.one(),
        Count::Exactly(n) => format!("{} {}", number(n), label.plural),
        Count::AtLeast(n) => format!("at least {} {}", number(n), label.plural),
        Count::Several => format!("several {}", label.plural),
    };
    match when(&sight.seconds, frames) {
        Some(when) => format!("{counted} {when}"),
        None => counted,
    }
}

/// `at 0:03`, `from 0:03 to 0:06`, `throughout`.
fn when(seconds: &[f64], frames: Option<usize>) -> Option<String> {
    let (first, last) = (seconds.first()?, seconds.last()?);
    Some(match (seconds.len(), frames?) {
        (_, 1) => return None,
        (seen, all) if seen == all => "throughout".to_owned(),
        (1, _) => format!("at {}", clock(*first)),
        (2, _) => format!("at {} and {}", clock(*first), clock(*last)),
        _ => format!("between {} and {}", clock(*first), clock(*last)),
    })
}

/// The sentence about light, colours, sharpness and shape.
fn look(scene: &Scene<'_>) -> String {
    let facts = scene.facts;
    let mut traits: Vec<String> = Vec::new();
    match facts.lightness {
        // Facts of nobody's making have no colours, and their 0 says nothing.
        _ if facts.colours.is_empty() => {}
        ..DARK => traits.push("dark".to_owned()),
        lightness if lightness > BRIGHT => traits.push("bright".to_owned()),
        _ => {}
    }
    let plain = facts.colours.first().is_some_and(|colour| colour.percent >= 97);
    traits.extend(colours(facts, scene.variation));
    match facts.sharpness {
        // Of one colour, or of a few pixels, there is nothing to be sharp.
        _ if plain || !scene.looked_at => {}
        1..BLURRED => traits.push("blurred".to_owned()),
        SHARP.. => traits.push("sharp".to_owned()),
        _ => {}
    }
    traits.extend(shape(facts.width, facts.height));
    let tiny = (1..=TINY_PX).contains(&facts.width.max(facts.height));
    if tiny || !scene.looked_at && facts.width > 0 {
        traits.push(format!("only {} by {} pixels in size", facts.width, facts.height));
    }

    let mut extra = String::new();
    match (scene.frames, facts.duration_ms) {
        (Some(n), duration) => {
            let of = duration.map_or_else(String::new, |duration| format!(" of its {}", length(duration)));
            let frames = u32::try_from(n).unwrap_or(u32::MAX);
            let (s, were) = if n == 1 { ("", "was") } else { ("s", "were") };
            extra = format!("; {} frame{s}{of} {were} looked at", number(frames));
        }
        (None, Some(duration)) if facts.animated => extra = format!("; it runs for {}", length(duration)),
        _ => {}
    }
    if facts.damaged {
        extra.push_str("; the file is damaged, so a part of what it held may be missing");
    }
    if traits.is_empty() {
        traits.push("a file of which no more is known than this".to_owned());
    }
    format!("It is {}{extra}.", serial(&traits))
}

/// `mostly brown, grey and white`.
fn colours(facts: &Facts, variation: u32) -> Option<String> {
    let mostly = if (variation / 3).is_multiple_of(2) { "mostly" } else { "mainly" };
    let named = facts.colours.iter().filter(|colour| colour.percent >= COLOUR_PERCENT).take(3);
    let named: Vec<&str> = named.map(|colour| colour.name.as_str()).collect();
    let first = facts.colours.first()?;
    if first.percent >= 97 {
        return Some(format!("all {}", first.name));
    }
    let coloured: u32 = facts
        .colours
        .iter()
        .filter(|colour| !is_neutral(&colour.name))
        .map(|colour| u32::from(colour.percent))
        .sum();
    let all: u32 = facts.colours.iter().map(|colour| u32::from(colour.percent)).sum();
    if coloured == 0 && all >= 95 {
        return Some(format!("almost without colour, {mostly} {}", joined(&named, first)));
    }
    Some(format!("{mostly} {}", joined(&named, first)))
}

fn joined(named: &[&str], first: &crate::media::Colour) -> String {
    if named.is_empty() { first.name.clone() } else { list(named) }
}

fn is_neutral(colour: &str) -> bool {
    matches!(colour.rsplit(' ').next(), Some("black" | "white" | "grey" | "gray"))
}

/// Shape by the ratio of the sides, in words that are not also a sort of picture (a landscape, a portrait).
fn shape(width: u32, height: u32) -> Option<String> {
    if width == 0 || height == 0 {
        return None;
    }
    let ratio = f64::from(width) / f64::from(height);
    Some(
        match ratio {
            2.5.. => "in a very wide format",
            1.03.. => "in horizontal format",
            0.97.. => "square",
            0.4.. => "in vertical format",
            _ => "in a very tall, narrow format",
        }
        .to_owned(),
    )
}

/// The sentence about when, where and with what it was taken, and what it is called.
fn origin(scene: &Scene<'_>) -> Option<String> {
    let facts = scene.facts;
    let date = facts.taken_at.as_deref().and_then(date).map(|date| format!("on {date}"));
    let camera = facts.camera.as_deref().and_then(camera);
    let camera = camera.map(|camera| format!("with {} {camera}", article(&camera)));
    let place = facts.coordinates.and_then(place).map(|place| format!("at {place}"));
    let taken: Vec<String> = [date, camera, place].into_iter().flatten().collect();
    let taken = (!taken.is_empty()).then(|| format!("It was taken {}", taken.join(" ")));
    let called = called(&scene.names);
    match (taken, called) {
        (Some(taken), Some(called)) => Some(format!("{taken}, and {called}.")),
        (Some(taken), None) => Some(format!("{taken}.")),
        (None, Some(called)) => Some(format!("{}.", capital(&called))),
        (None, None) => None,
    }
}

/// `4 May 2026`, from what EXIF gives; a camera without a clock writes zeros, which is no date.
fn date(taken_at: &str) -> Option<String> {
    let date = taken_at.parse::<DateTime>().ok()?.date();
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let month = MONTHS.get(usize::try_from(date.month()).ok()?.checked_sub(1)?)?;
    (date.year() >= 1826).then(|| format!("{} {month} {}", date.day(), date.year()))
}

/// Maker and model in as few words as say it, without marks that end a sentence.
fn camera(name: &str) -> Option<String> {
    const FIRMS: [&str; 9] =
        ["corporation", "corp", "co", "ltd", "inc", "company", "electronics", "camera", "gmbh"];
    let clean: String = name
        .chars()
        .map(|c| if c.is_alphanumeric() || matches!(c, '-' | '/' | '(' | ')' | '+' | '&') { c } else { ' ' })
        .take(100)
        .collect();
    let mut words: Vec<&str> = Vec::new();
    for word in clean.split_whitespace().filter(|word| !FIRMS.contains(&word.to_lowercase().as_str())).take(6)
    {
        if !words.iter().any(|before| before.eq_ignore_ascii_case(word)) {
            words.push(word);
        }
    }
    words.iter().any(|word| word.chars().any(char::is_alphabetic)).then(|| words.join(" "))
}

/// `59.32° N, 18.07° E`: to about a kilometre. Zero by zero is what a receiver without a fix writes.
fn place((north, east): (f64, f64)) -> Option<String> {
    let known = north.abs() <= 90.0 && east.abs() <= 180.0 && (north != 0.0 || east != 0.0);
    known.then(|| {
        format!(
            "{:.2}° {}, {:.2}° {}",
            north.abs(),
            if north < 0.0 { 'S' } else { 'N' },
            east.abs(),
            if east < 0.0 { 'W' } else { 'E' }
        )
    })
}

fn called(names: &Names) -> Option<String> {
    let quoted: Vec<String> = names.folders.iter().map(|folder| format!("“{folder}”")).collect();
    match (&names.file, quoted.as_slice()) {
        (None, []) => None,
        (Some(file), []) => Some(format!("the name of its file is “{file}”")),
        (Some(file), [folder]) => Some(format!("the name of its file is “{file}”, in the folder {folder}")),
        (Some(file), folders) => {
            Some(format!("the name of its file is “{file}”, in the folders {}", list(folders)))
        }
        (None, [folder]) => Some(format!("it lies in the folder {folder}")),
        (None, folders) => Some(format!("it lies in the folders {}", list(folders))),
    }
}

/// `0:03`; `1:02:03`.
fn clock(seconds: f64) -> String {
    // `as` cuts to what fits, and makes 0 of what is no number.
    let whole = seconds as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// `12 seconds`, `3 minutes and 5 seconds`, `2 hours and 1 minute`, `half a second or so`.
fn length(duration_ms: u64) -> String {
    let unit = |n: u64, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let seconds = duration_ms.saturating_add(500) / 1000;
    let (large, small) = match seconds {
        0 => return "less than a second".to_owned(),
        1..60 => (unit(seconds, "second"), None),
        60..3600 => (unit(seconds / 60, "minute"), Some((seconds % 60, "second"))),
        _ => (unit(seconds / 3600, "hour"), Some((seconds / 60 % 60, "minute"))),
    };
    match small {
        Some((n, word)) if n > 0 => format!("{large} and {}", unit(n, word)),
        _ => large,
    }
}

/// Numbers up to ten in words.
fn number(n: u32) -> String {
    const WORDS: [&str; 11] =
        ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    usize::try_from(n)
        .ok()
        .and_then(|n| WORDS.get(n))
        .map_or_else(|| n.to_string(), |word| (*word).to_owned())
}

/// `a`, `a and b`, `a, b and c`.
fn list<S: AsRef<str>>(items: &[S]) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [before @ .., last] => {
            let before: Vec<&str> = before.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", before.join(", "), last.as_ref())
        }
    }
}

/// As [`list`], with a comma before "and" if an item has an "and" of its own.
fn serial(items: &[String]) -> String {
    match items {
        [before @ .., last] if before.len() > 1 || before.iter().any(|item| item.contains(" and ")) => {
            format!("{}, and {last}", before.join(", "))
        }
        _ => list(items),
    }
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::labels::LABELS, *};
    use crate::{
        analysis::audit::{Language, audit},
        media::Colour,
    };

    fn label(name: &str) -> &'static Label {
        LABELS.iter().find(|label| label.name == name).expect(name)
    }

    fn sight(name: &str, count: Count) -> Sight {
        Sight { label: label(name), count, sure: true, seconds: vec![] }
    }

    fn maybe(name: &str) -> Sight {
        Sight { sure: false, ..sight(name, Count::Exactly(1)) }
    }

    fn seen(name: &str, seconds: &[f64]) -> Sight {
        Sight { seconds: seconds.to_vec(), ..sight(name, Count::Exactly(1)) }
    }

    fn colours(list: &[(&str, u8)]) -> Vec<Colour> {
        list.iter().map(|(name, percent)| Colour { name: (*name).to_owned(), percent: *percent }).collect()
    }

    /// A picture of medium light and sharpness.
    fn plain() -> Facts {
        Facts {
            width: 1200,
            height: 800,
            colours: colours(&[("brown", 50), ("grey", 30), ("red", 3)]),
            lightness: 50,
            sharpness: 40,
            ..Facts::default()
        }
    }

    fn scene(facts: &Facts, sights: Vec<Sight>) -> Scene<'_> {
        Scene { sights, facts, names: Names::default(), frames: None, looked_at: true, variation: 0 }
    }

    #[test]
    fn objects_are_named_with_their_numbers() {
        let facts = plain();
        for (sights, expected) in [
            (vec![sight("cat", Count::Exactly(1))], "The picture shows a cat."),
            (
                vec![sight("person", Count::Exactly(2)), sight("umbrella", Count::Exactly(1))],
                "The picture shows two people and an umbrella.",
            ),
            (
                vec![
                    sight("person", Count::AtLeast(12)),
                    sight("sheep", Count::Exactly(3)),
                    sight("skis", Count::Exactly(2)),
                ],
                "The picture shows at least 12 people, three sheep and two pairs of skis.",
            ),
            (
                vec![
                    sight("book", Count::Several),
                    sight("broccoli", Count::Exactly(3)),
                    maybe("computer mouse"),
                ],
                "The picture shows several books and some broccoli, and possibly a computer mouse.",
            ),
            (vec![maybe("dog")], "The picture shows possibly a dog."),
            (vec![], "Nothing in the picture was recognised with confidence."),
        ] {
            assert_eq!(what(&scene(&facts, sights)), expected);
        }
    }

    #[test]
    fn a_repeated_request_is_worded_otherwise_and_still_well() {
        let facts = plain();
        let sights = vec![sight("dog", Count::Exactly(2)), maybe("cat")];
        let texts: Vec<String> =
            (0..6).map(|variation| write(&Scene { variation, ..scene(&facts, sights.clone()) })).collect();
        assert_eq!(
            texts[1],
            "Two dogs, and possibly a cat, can be seen in the picture. It is mostly brown and grey, and in horizontal format."
        );
        assert_eq!(
            texts[5],
            "What can be seen in the picture is this: two dogs, and possibly a cat. It is mainly brown and grey, and in \
             horizontal format."
        );
        for (at, text) in texts.iter().enumerate() {
            assert!(!texts[..at].contains(text), "{text}");
        }
    }

    #[test]
    fn facts_are_told_as_a_person_would() {
        let facts = Facts {
            lightness: 15,
            sharpness: 70,
            taken_at: Some("2026-05-04T10:11:12".to_owned()),
            camera: Some("NIKON CORPORATION NIKON D90".to_owned()),
            coordinates: Some((59.3217, -18.0686)),
            ..plain()
        };
        let names = Names {
            file: Some("anna birthday".to_owned()),
            folders: vec!["Spain".to_owned(), "Summer".to_owned()],
        };
        let text = write(&Scene { names, ..scene(&facts, vec![sight("cake", Count::Exactly(1))]) });
        assert_eq!(
            text,
            "The picture shows a cake. It is dark, mostly brown and grey, sharp, and in horizontal format. It was taken on \
             4 May 2026 with a NIKON D90 at 59.32° N, 18.07° W, and the name of its file is “anna birthday”, in the folders \
             “Spain” and “Summer”."
        );
    }

    #[test]
    fn a_single_white_pixel_is_described_and_passes_the_audit() {
        let facts = Facts {
            width: 1,
            height: 1,
            colours: colours(&[("white", 100)]),
            lightness: 100,
            ..Facts::default()
        };
        let text = write(&Scene { looked_at: false, ..scene(&facts, vec![]) });
        assert_eq!(
            text,
            "The picture is too small to tell what it shows. It is bright, all white, square, and only 1 by 1 pixels in size."
        );
        assert_eq!(audit(&text, Language::English).score, 100);
    }

    #[test]
    fn animations_damage_and_lack_of_colour_are_told() {
        let facts = Facts {
            colours: colours(&[("black", 70), ("dark grey", 20), ("white", 10)]),
            sharpness: 5,
            duration_ms: Some(2400),
            animated: true,
            damaged: true,
            ..plain()
        };
        assert_eq!(
            write(&scene(&facts, vec![sight("cat", Count::Exactly(1))])),
            "The animation, judged by its first frame, shows a cat. It is almost without colour, mostly black, dark grey and \
             white, blurred, and in horizontal format; it runs for 2 seconds; the file is damaged, so \
             a part of what it held may be missing."
        );
    }

    #[test]
    fn a_video_tells_what_was_seen_when() {
        let facts = Facts { duration_ms: Some(4_000), ..plain() };
        let sights = vec![
            seen("dog", &[0.0, 1.0, 2.0, 3.0]),
            seen("person", &[1.0, 2.0, 3.0]),
            seen("car", &[2.0]),
            Sight { sure: false, ..seen("kite", &[0.0]) },
        ];
        assert_eq!(
            write(&Scene { frames: Some(4), ..scene(&facts, sights) }),
            "The video shows a dog throughout; a person between 0:01 and 0:03; a car at 0:02, and possibly a kite at 0:00. It \
             is mostly brown and grey, and in horizontal format; four frames of its 4 seconds were looked at."
        );
        let one = write(&Scene { frames: Some(1), ..scene(&facts, vec![seen("dog", &[0.0])]) });
        assert!(one.starts_with("The video shows a dog. "), "{one}");
        assert!(one.ends_with("; one frame of its 4 seconds was looked at."), "{one}");
    }

    #[test]
    fn dates_and_places_that_cannot_be_are_left_out() {
        for (taken_at, expected) in [
            ("2026-05-04T10:11:12", Some("4 May 2026")),
            ("2024-02-29T00:00:00", Some("29 February 2024")),
            ("0000-00-00T00:00:00", None),
            ("2023-02-29T00:00:00", None),
            ("1600-01-01T00:00:00", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(date(taken_at).as_deref(), expected, "{taken_at}");
        }
        for (place_, expected) in [
            ((59.32, 18.07), Some("59.32° N, 18.07° E")),
            ((-33.859, -151.2), Some("33.86° S, 151.20° W")),
            ((0.0, 0.0), None),
            ((91.0, 0.0), None),
            ((f64::NAN, 1.0), None),
        ] {
            assert_eq!(place(place_).as_deref(), expected);
        }
        for (name, expected) in [
            ("Canon Canon EOS 5D", Some("Canon EOS 5D")),
            ("SAMSUNG TECHWIN Co., Ltd. Digimax", Some("SAMSUNG TECHWIN Digimax")),
            ("  <|x|>. Evil! ", Some("x Evil")),
            ("...", None),
            ("", None),
        ] {
            assert_eq!(camera(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn lengths_of_time_are_told_in_two_units() {
        for (ms, expected) in [
            (0, "less than a second"),
            (1_000, "1 second"),
            (59_400, "59 seconds"),
            (60_000, "1 minute"),
            (185_000, "3 minutes and 5 seconds"),
            (7_260_000, "2 hours and 1 minute"),
        ] {
            assert_eq!(length(ms), expected);
        }
        assert_eq!(length(u64::MAX).split(' ').count(), 5);
        assert_eq!(
            (clock(3.9), clock(3723.0), clock(f64::NAN)),
            ("0:03".into(), "1:02:03".into(), "0:00".into())
        );
    }

    #[test]
    fn crowds_and_stacks_are_not_counted() {
        let boxes = |n: usize, step: f32| -> Vec<Area> {
            (0..n)
                .map(|i| i as f32 * step)
                .map(|left| Area { left, top: 0.0, right: left + 10.0, bottom: 10.0 })
                .collect()
        };
        let (person, book) = (label("person"), label("book"));
        for (label, boxes, expected) in [
            (person, boxes(0, 20.0), Count::Exactly(1)),
            (person, boxes(10, 20.0), Count::Exactly(10)),
            (person, boxes(11, 20.0), Count::AtLeast(11)),
            (person, boxes(3, 4.0), Count::Exactly(3)),
            (person, boxes(6, 4.0), Count::Several),
            (book, boxes(3, 20.0), Count::Exactly(3)),
            (book, boxes(4, 20.0), Count::Several),
        ] {
            assert_eq!(Count::of(label, &boxes), expected);
        }
    }

    fn any_facts() -> impl Strategy<Value = Facts> {
        let colour = prop::sample::select(vec![
            "dark blue",
            "black",
            "white",
            "grey",
            "light green",
            "orange",
            "brown",
        ]);
        let colours = prop::collection::vec((colour, 1_u8..100), 0..5);
        (
            (0_u32..5000, 0_u32..5000, colours, 0_u8..=100, 0_u8..=100),
            prop::option::of("(20|19)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9])T10:00:00"),
            prop::option::of("\\PC{0,60}"),
            prop::option::of((-90.0..90.0, -180.0..180.0)),
            (prop::option::of(0_u64..100_000_000), any::<bool>(), any::<bool>()),
        )
            .prop_map(|(look, taken_at, camera, coordinates, (duration_ms, animated, damaged))| {
                let (width, height, list, lightness, sharpness) = look;
                let colours = colours_sorted(list);
                Facts {
                    width,
                    height,
                    colours,
                    lightness,
                    sharpness,
                    taken_at,
                    camera,
                    coordinates,
                    duration_ms,
                    animated,
                    damaged,
                }
            })
    }

    fn colours_sorted(mut list: Vec<(&str, u8)>) -> Vec<Colour> {
        list.sort_by_key(|(_, percent)| std::cmp::Reverse(*percent));
        colours(&list)
    }

    fn any_sights() -> impl Strategy<Value = Vec<Sight>> {
        let count = prop_oneof![
            (1_u32..11).prop_map(Count::Exactly),
            (11_u32..50).prop_map(Count::AtLeast),
            Just(Count::Several)
        ];
        let times = prop::collection::vec(0.0..600.0_f64, 0..10);
        let sight = (0..LABELS.len(), count, any::<bool>(), times)
            .prop_map(|(class, count, sure, seconds)| Sight { label: &LABELS[class], count, sure, seconds });
        prop::collection::vec(sight, 0..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]
        #[test]
        fn whatever_is_known_the_text_is_long_enough_and_passes_the_audit(
            facts in any_facts(),
            sights in any_sights(),
            names in prop::collection::vec("[a-zA-Zéü _.<|>0-9-]{0,40}|[a-z]{3,8} [a-z]{3,8} [a-z]{3,8} [a-z]{3,8}", 0..4),
            (frames, looked_at, variation) in (prop::option::of(1_usize..11), any::<bool>(), 0_u32..7),
        ) {
            let names = Names::of(&names);
            let text = write(&Scene { sights, facts: &facts, names, frames, looked_at, variation });
            prop_assert!(text.chars().count() >= 50, "{}", text);
            let found = audit(&text, Language::English);
            prop_assert!(found.score == 100, "{:?} {}", found, text);
        }
    }
}
