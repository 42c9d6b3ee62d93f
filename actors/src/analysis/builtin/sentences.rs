//! Makes two or three English sentences of objects and facts. Unknown facts are omitted, and uncertain
//! objects are called possible.

mod appearance;
mod colours;
mod english;
mod origin;
mod seen_object;
mod times;

pub use seen_object::{Count, SeenObject};

use self::english::{capital, list};
use super::file_names::FileNames;
use crate::media::Facts;

/// Version of the rules below. A change of the wording needs a higher one.
pub const VERSION: u32 = 2;

/// Most classes that are named.
const MAX_CLASSES: usize = 6;

/// All that a description is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene<'a> {
    /// Detected objects, best score first.
    pub objects: Vec<SeenObject>,
    /// Facts that need no detector.
    pub facts: &'a Facts,
    /// Words in the names of the file and its folders.
    pub names: FileNames,
    /// Seconds from the start of a video for each frame; empty for a still picture or an animation.
    pub seconds: &'a [f64],
    /// Whether the picture was large enough for the detector.
    pub large_enough: bool,
    /// Number of the wording; 0 is the plainest.
    pub variation: u32,
}

/// Writes the description, which has 50 characters or more.
pub fn write(scene: &Scene<'_>) -> String {
    let subject = match scene.facts.animated {
        _ if !scene.seconds.is_empty() => "video",
        true => "animation",
        false => "picture",
    };
    let appearance = appearance::phrase(scene, subject);
    // "It is a picture" and never "it is brown": a reader would relate "it" to the object named last.
    let mut text = match shown(scene, subject) {
        Some(shown) => format!("{shown} It is {appearance}."),
        None => format!("This is {appearance}. {}", nothing(scene)),
    };
    if let Some(origin) = origin::sentence(scene.facts, &scene.names) {
        text.push(' ');
        text.push_str(&origin);
    }
    text
}

/// The sentence about objects, if there are any.
fn shown(scene: &Scene<'_>, subject: &str) -> Option<String> {
    let named = |certain: bool, most: usize| {
        let objects = scene.objects.iter().filter(|seen| seen.certain == certain).take(most);
        let phrases: Vec<String> = objects.map(|seen| seen.phrase(scene.seconds)).collect();
        // A phrase with times may contain "and".
        if scene.seconds.len() > 1 { phrases.join("; ") } else { list(&phrases) }
    };
    let (certain, possible) = (named(true, MAX_CLASSES), named(false, 2));
    let first_frame = if subject == "animation" { ", judged by its first frame," } else { "" };
    let (before, everything) = match (certain.is_empty(), possible.is_empty()) {
        (true, true) => return None,
        (true, false) => ("possibly ", possible),
        (false, true) => ("", certain),
        (false, false) => ("", format!("{certain}, and possibly {possible}")),
    };
    let possibly_after = if everything.contains(", and possibly") { "," } else { "" };
    Some(match scene.variation % 3 {
        0 => format!("The {subject}{first_frame} {before}shows {everything}."),
        1 => {
            let seen = capital(&format!("{before}{everything}{possibly_after}"));
            format!("{seen} can be seen in the {subject}{}.", first_frame.trim_end_matches(','))
        }
        _ => format!("What can be seen in the {subject}{first_frame} is this: {before}{everything}."),
    })
}

/// The sentence about a picture without detected objects.
fn nothing(scene: &Scene<'_>) -> &'static str {
    match (scene.large_enough, scene.variation % 3) {
        (false, 0) => "It is too small to tell what it shows.",
        (false, 1) => "What it shows cannot be told, as it is too small.",
        (false, _) => "It is so small that it cannot be told what it shows.",
        (true, 0) => "No everyday object was recognised in it with confidence.",
        (true, 1) => "Nothing in it was recognised with confidence.",
        (true, _) => "What it shows was not recognised with any confidence.",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::labels::{LABELS, Label},
        *,
    };
    use crate::{
        analysis::audit::{Language, audit},
        media::Colour,
    };

    fn label(name: &str) -> &'static Label {
        LABELS.iter().find(|label| label.name == name).expect(name)
    }

    fn object(name: &str, count: Count) -> SeenObject {
        SeenObject { label: label(name), count, certain: true, frames: vec![0] }
    }

    fn possible(name: &str) -> SeenObject {
        SeenObject { certain: false, ..object(name, Count::Exactly(1)) }
    }

    fn in_frames(name: &str, frames: &[usize]) -> SeenObject {
        SeenObject { frames: frames.to_vec(), ..object(name, Count::Exactly(1)) }
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

    fn scene(facts: &Facts, objects: Vec<SeenObject>) -> Scene<'_> {
        Scene { objects, facts, names: FileNames::default(), seconds: &[], large_enough: true, variation: 0 }
    }

    #[test]
    fn objects_are_named_with_their_numbers() {
        let facts = plain();
        for (objects, expected) in [
            (vec![object("cat", Count::Exactly(1))], "The picture shows a cat."),
            (
                vec![object("person", Count::Exactly(2)), object("umbrella", Count::Exactly(1))],
                "The picture shows two people and an umbrella.",
            ),
            (
                vec![
                    object("book", Count::Several),
                    object("broccoli", Count::Exactly(3)),
                    possible("computer mouse"),
                ],
                "The picture shows several books and some broccoli, and possibly a computer mouse.",
            ),
            (vec![possible("dog"), possible("cat")], "The picture possibly shows a dog and a cat."),
        ] {
            let text = write(&scene(&facts, objects));
            let picture = "It is a horizontal picture, mostly brown and grey.";
            assert_eq!(text, format!("{expected} {picture}"));
        }
    }

    #[test]
    fn at_most_six_classes_are_named() {
        let facts = plain();
        let objects = LABELS[..9].iter().map(|label| object(label.name, Count::Exactly(1))).collect();
        let text = write(&scene(&facts, objects));
        assert!(text.contains("an airplane and a bus. It is"), "{text}");
    }

    #[test]
    fn without_objects_the_appearance_comes_first() {
        let facts = plain();
        assert_eq!(
            write(&scene(&facts, vec![])),
            "This is a horizontal picture, mostly brown and grey. No everyday object was recognised in it \
             with confidence."
        );
        assert_eq!(
            write(&scene(&Facts::default(), vec![])),
            "This is a picture of which no more is known. No everyday object was recognised in it with \
             confidence."
        );
    }

    #[test]
    fn each_variation_has_another_wording_that_passes_the_audit() {
        let facts = plain();
        for (objects, large_enough) in [
            (vec![object("dog", Count::Exactly(2)), possible("cat")], true),
            (vec![possible("cat")], true),
            (vec![], true),
            (vec![], false),
        ] {
            let texts: Vec<String> = (0..6)
                .map(|variation| write(&Scene { variation, large_enough, ..scene(&facts, objects.clone()) }))
                .collect();
            for (at, text) in texts.iter().enumerate() {
                assert!(!texts[..at].contains(text), "{text}");
                assert_eq!(audit(text, Language::ENGLISH).score, 100, "{text}");
            }
        }
        let objects = vec![object("dog", Count::Exactly(2)), possible("cat")];
        let text = |variation, objects: &[SeenObject]| {
            write(&Scene { variation, ..scene(&facts, objects.to_vec()) })
        };
        assert_eq!(
            text(1, &objects),
            "Two dogs, and possibly a cat, can be seen in the picture. It is a horizontal picture, mostly \
             brown and grey."
        );
        assert_eq!(
            text(5, &objects),
            "What can be seen in the picture is this: two dogs, and possibly a cat. It is a horizontal \
             picture, mainly brown and grey."
        );
        assert!(text(1, &objects[1..]).starts_with("Possibly a cat can be seen in the picture."));
    }

    #[test]
    fn facts_become_a_fluent_sentence() {
        let facts = Facts {
            lightness: 15,
            sharpness: 70,
            taken_at: Some("2026-05-04T10:11:12".to_owned()),
            camera: Some("NIKON CORPORATION NIKON D90".to_owned()),
            coordinates: Some((59.3217, -18.0686)),
            ..plain()
        };
        let names = FileNames {
            file: Some("anna birthday".to_owned()),
            folders: vec!["Spain".to_owned(), "Summer".to_owned()],
        };
        let text = write(&Scene { names, ..scene(&facts, vec![object("cake", Count::Exactly(1))]) });
        assert_eq!(
            text,
            "The picture shows a cake. It is a dark, horizontal picture, mostly brown and grey, with sharp \
             detail. It was taken on 4 May 2026 with a NIKON D90 at 59.32° N, 18.07° W, and the names of its \
             file and folders say “anna birthday”, “Spain” and “Summer”."
        );
    }

    #[test]
    fn light_sharpness_and_shape_are_mentioned_if_they_stand_out() {
        let appearance = |facts: Facts| {
            let text = write(&scene(&facts, vec![object("cat", Count::Exactly(1))]));
            text.strip_prefix("The picture shows a cat. It is ").expect("a cat").to_owned()
        };
        for (facts, expected) in [
            (Facts { lightness: 24, ..plain() }, "a dark, horizontal picture, mostly brown and grey."),
            (Facts { lightness: 25, ..plain() }, "a horizontal picture, mostly brown and grey."),
            (Facts { lightness: 76, ..plain() }, "a bright, horizontal picture, mostly brown and grey."),
            (Facts { sharpness: 0, ..plain() }, "a horizontal picture, mostly brown and grey."),
            (Facts { sharpness: 21, ..plain() }, "a blurred, horizontal picture, mostly brown and grey."),
            (
                Facts { sharpness: 60, ..plain() },
                "a horizontal picture, mostly brown and grey, with sharp detail.",
            ),
            (Facts { height: 1200, ..plain() }, "a square picture, mostly brown and grey."),
            (Facts { height: 1300, ..plain() }, "a vertical picture, mostly brown and grey."),
            (Facts { height: 100, ..plain() }, "a very wide picture, mostly brown and grey."),
            (Facts { height: 9000, ..plain() }, "a tall, narrow picture, mostly brown and grey."),
            (Facts { width: 0, ..plain() }, "a picture, mostly brown and grey."),
        ] {
            assert_eq!(appearance(facts), expected);
        }
        let red = Facts { colours: colours(&[("red", 99)]), lightness: 10, sharpness: 99, ..plain() };
        assert_eq!(appearance(red), "a horizontal picture, all red.", "one colour is neither dark nor sharp");
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
        let text = write(&Scene { large_enough: false, ..scene(&facts, vec![]) });
        assert_eq!(
            text,
            "This is a square picture of only 1 by 1 pixels, all white. It is too small to tell what it \
             shows."
        );
        assert_eq!(audit(&text, Language::ENGLISH).score, 100);
    }

    #[test]
    fn animations_damage_and_lack_of_colour_are_mentioned() {
        let facts = Facts {
            colours: colours(&[("black", 70), ("dark grey", 20), ("white", 10)]),
            sharpness: 5,
            duration_ms: Some(2400),
            animated: true,
            damaged: true,
            ..plain()
        };
        assert_eq!(
            write(&scene(&facts, vec![object("cat", Count::Exactly(1))])),
            "The animation, judged by its first frame, shows a cat. It is a blurred, horizontal animation \
             that lasts about two seconds, almost without colour, mostly black and dark grey; the file is \
             damaged, so a part of what it held may be missing."
        );
    }

    #[test]
    fn a_video_has_the_times_of_its_objects() {
        let facts = Facts { duration_ms: Some(4_000), lightness: 5, sharpness: 5, ..plain() };
        let objects = vec![
            in_frames("dog", &[0, 1, 2, 3]),
            SeenObject { count: Count::UpTo(2), ..in_frames("person", &[1, 2, 3]) },
            in_frames("car", &[2]),
            SeenObject { certain: false, ..in_frames("kite", &[0]) },
        ];
        assert_eq!(
            write(&Scene { seconds: &[0.0, 1.0, 2.0, 3.0], ..scene(&facts, objects) }),
            "The video shows a dog throughout; up to two people from about second 1; a car at about second \
             2, and possibly a kite at the start. It is a horizontal video of about four seconds, with \
             brown and grey in it; four of its frames were looked at."
        );
        let one = write(&Scene { seconds: &[0.0], ..scene(&facts, vec![in_frames("dog", &[0])]) });
        assert_eq!(
            one,
            "The video shows a dog. It is a horizontal video of about four seconds, with brown and grey in \
             it; one of its frames was looked at."
        );
        let nothing = write(&Scene { seconds: &[0.0, 2.0], ..scene(&facts, vec![]) });
        assert!(nothing.ends_with(" No everyday object was recognised in it with confidence."), "{nothing}");
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
                    ..Facts::default()
                }
            })
    }

    fn colours_sorted(mut list: Vec<(&str, u8)>) -> Vec<Colour> {
        list.sort_by_key(|(_, percent)| std::cmp::Reverse(*percent));
        colours(&list)
    }

    fn any_objects() -> impl Strategy<Value = Vec<SeenObject>> {
        let count = prop_oneof![
            (1_u32..11).prop_map(Count::Exactly),
            (11_u32..50).prop_map(Count::AtLeast),
            (2_u32..11).prop_map(Count::UpTo),
            Just(Count::Several)
        ];
        let frames = prop::collection::btree_set(0_usize..10, 1..10);
        let object =
            (0..LABELS.len(), count, any::<bool>(), frames).prop_map(|(class, count, certain, frames)| {
                SeenObject { label: &LABELS[class], count, certain, frames: frames.into_iter().collect() }
            });
        prop::collection::vec(object, 0..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]
        #[test]
        fn every_text_is_long_enough_and_passes_the_audit(
            facts in any_facts(),
            objects in any_objects(),
            names in prop::collection::vec("[a-zA-Zéü _.<|>0-9-]{0,40}|([a-z]{3,8} ){3}[a-z]{3,8}", 0..4),
            seconds in prop::collection::vec(0.0..9000.0_f64, 0..11),
            (large_enough, variation) in (any::<bool>(), 0_u32..7),
        ) {
            let names = FileNames::parse(&names);
            let scene =
                Scene { objects, facts: &facts, names, seconds: &seconds, large_enough, variation };
            let text = write(&scene);
            prop_assert!(text.chars().count() >= 50, "{}", text);
            let found = audit(&text, Language::ENGLISH);
            prop_assert!(found.score == 100, "{:?} {}", found, text);
        }
    }
}
