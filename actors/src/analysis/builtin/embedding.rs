//! Text in, vector out, without a model: hashed words, the words related to them, and pieces of three letters, which
//! survive misspelling. It finds by words and not by meaning.
//!
//! Each feature (a word, a piece) is hashed to a few places of the vector, each with a sign. A word weighs 1, words that merely
//! hold a sentence together next to nothing. The same text gives the same vector on any machine, for ever: the rules
//! change only together with [`MODEL`].

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::LazyLock,
};

use super::related::RELATED;

/// The name of these rules, for provenance.
pub const MODEL: &str = "hashed-words-2";

/// Fewest and most dimensions. Below, everything collides with everything.
pub const DIMENSIONS: std::ops::RangeInclusive<u32> = 16..=4096;

/// Places of the vector that one feature is spread over, so that one collision does not drown it.
const PLACES: u32 = 4;

/// Weight of another word for the same, of the word that one is another word for, and of a wider word.
const SAME: f32 = 0.5;
const HEAD: f32 = 0.7;
const WIDER: f32 = 0.5;
/// Weight of all the pieces of one word together.
const PIECES: f32 = 0.6;
/// Weight of the words that hold a sentence together.
const GLUE_WEIGHT: f32 = 0.05;
/// Weight of the numbers, which stand in many texts.
const NUMBER_WEIGHT: f32 = 0.5;

/// Words that nearly every description holds, and that mean nothing in a search.
const GLUE: &str = "\
    a about all almost among an and any are as at be been between by can confidence d detail end everyday file \
    fine folder for format frame from has have held hour image in is it its judged l last least lie look mainly \
    many may minute missing mostly name nearly no not nothing now object of on only or pair part photo picture \
    pixel possibly recognised s say second seen several show size some start t taken that the then this throughout \
    to toward up very was were what which with without";

static GLUE_WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| GLUE.split_whitespace().collect());

/// Embeds a text in `dimensions` (taken as 1 if 0) numbers: finite, of length 1. A text without words has a vector too, the
/// same for all such texts.
pub fn embed(text: &str, dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0.0_f32; dimensions.max(1)];
    for (feature, weight) in features(text) {
        add(&mut vector, feature, weight);
    }
    if !normalise(&mut vector) {
        // No words, or words that cancel each other out to the last bit.
        vector.fill(0.0);
        let place = (hash(b"", 0) % vector.len() as u64) as usize;
        vector[place] = 1.0;
    }
    vector
}

fn add(vector: &mut [f32], feature: u64, weight: f32) {
    let share = weight / (PLACES as f32).sqrt();
    let mut bits = feature;
    for _ in 0..PLACES {
        bits = stir(bits);
        // The upper bits choose the place, the lowest one the sign; the rest of a division by a length fits one.
        let place = ((bits >> 1) % vector.len() as u64) as usize;
        vector[place] += if bits & 1 == 0 { share } else { -share };
    }
}

fn normalise(vector: &mut [f32]) -> bool {
    let length = vector.iter().map(|n| n * n).sum::<f32>().sqrt();
    if !(length.is_finite() && length > 1e-6) {
        return false;
    }
    vector.iter_mut().for_each(|n| *n /= length);
    true
}

/// Weight of each hashed feature; one that occurs more than once has its largest weight, so that repetition does not drown
/// the rest. Ordered, so that sums are the same everywhere.
fn features(text: &str) -> BTreeMap<u64, f32> {
    let lower = text.to_lowercase();
    let words: Vec<String> =
        lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(stem).collect();
    let mut found = BTreeMap::new();
    let mut keep = |kind: u8, feature: &str, weight: f32| {
        let kept = found.entry(hash(feature.as_bytes(), kind)).or_insert(0.0_f32);
        *kept = kept.max(weight);
    };
    let mut rest = words.as_slice();
    while let [word, after @ ..] = rest {
        let phrase = (2..=3_usize.min(rest.len())).rev().map(|n| (n, rest[..n].join(" ")));
        if let Some((n, phrase)) = phrase.into_iter().find(|(_, phrase)| EXPANDED.contains_key(phrase)) {
            keep(WORD, &phrase, 1.0);
            expand(&phrase, &mut keep);
            rest = &rest[n..];
            continue;
        }
        rest = after;
        if GLUE_WORDS.contains(word.as_str()) {
            keep(WORD, word, GLUE_WEIGHT);
        } else if word.chars().all(char::is_numeric) {
            keep(WORD, word, NUMBER_WEIGHT);
        } else {
            keep(WORD, word, 1.0);
            expand(word, &mut keep);
            let pieces = pieces(word);
            let weight = PIECES / (pieces.len().max(1) as f32).sqrt();
            for piece in pieces {
                keep(PIECE, &piece, weight);
            }
        }
    }
    found
}

const WORD: u8 = b'w';
const PIECE: u8 = b'p';

fn expand(word: &str, keep: &mut impl FnMut(u8, &str, f32)) {
    for (related, weight) in EXPANDED.get(word).into_iter().flatten() {
        keep(WORD, related, *weight);
    }
}

/// What each word leads to, both as stems.
static EXPANDED: LazyLock<HashMap<String, Vec<(String, f32)>>> = LazyLock::new(|| {
    let stems = |list: &str| -> Vec<String> {
        let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| part.split(' ').map(stem).collect::<Vec<_>>().join(" ")).collect()
    };
    let mut expanded: HashMap<String, Vec<(String, f32)>> = HashMap::new();
    for (word, same, wider) in RELATED {
        let (words, same, wider) = (stems(word), stems(same), stems(wider));
        for word in words {
            let leads = expanded.entry(word.clone()).or_default();
            leads.extend(same.iter().map(|other| (other.clone(), SAME)));
            leads.extend(wider.iter().map(|other| (other.clone(), WIDER)));
            for other in &same {
                let leads = expanded.entry(other.clone()).or_default();
                leads.push((word.clone(), HEAD));
                leads.extend(wider.iter().map(|wide| (wide.clone(), HEAD * WIDER)));
            }
        }
    }
    expanded
});

/// Pieces of three letters (two, where a letter is a syllable or a word), its ends marked.
fn pieces(word: &str) -> Vec<String> {
    let marked: Vec<char> =
        std::iter::once('^').chain(word.chars().take(64)).chain(std::iter::once('$')).collect();
    let size = if word.is_ascii() { 3 } else { 2 };
    marked.windows(size).map(|piece| piece.iter().collect()).collect()
}

/// Takes the plural off an English word; others mostly stay as they are, and are the same each time, which is enough.
fn stem(word: &str) -> String {
    const IRREGULAR: [(&str, &str); 21] = [
        ("people", "person"),
        ("persons", "person"),
        ("men", "man"),
        ("women", "woman"),
        ("children", "child"),
        ("mice", "mouse"),
        ("geese", "goose"),
        ("teeth", "teeth"),
        ("feet", "foot"),
        ("knives", "knife"),
        ("calves", "calf"),
        ("wolves", "wolf"),
        ("leaves", "leaf"),
        ("oxen", "ox"),
        ("buses", "bus"),
        ("scissors", "scissors"),
        ("color", "colour"),
        ("colors", "colour"),
        ("colorful", "colourful"),
        ("movies", "movie"),
        ("skis", "ski"),
    ];
    if let Some((_, singular)) = IRREGULAR.iter().find(|(plural, _)| *plural == word) {
        return (*singular).to_owned();
    }
    let long = word.len() > 3;
    let ends = |ending: &str| long && word.ends_with(ending);
    let without = |n: usize| word[..word.len() - n].to_owned();
    if ends("ies") && word.len() > 4 {
        without(3) + "y"
    } else if ["ches", "shes", "sses", "xes", "zzes", "oes"].iter().any(|ending| ends(ending)) {
        without(2)
    } else if ends("s") && !["ss", "us", "is"].iter().any(|ending| ends(ending)) {
        without(1)
    } else {
        word.to_owned()
    }
}

/// FNV-1a with 64 bits.
fn hash(bytes: &[u8], kind: u8) -> u64 {
    std::iter::once(&kind).chain(bytes).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The next number of splitmix64, whose bits are all equally good; FNV's are not.
fn stir(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::labels::LABELS, *};

    /// Cosine of two texts in the default number of dimensions.
    fn likeness(a: &str, b: &str) -> f32 {
        embed(a, 512).iter().zip(embed(b, 512)).map(|(x, y)| x * y).sum()
    }

    /// A description as the provider makes it.
    fn described(objects: &str, colours: &str) -> String {
        format!(
            "The picture shows {objects}. It is mostly {colours}, sharp, and in horizontal format. It was taken on 4 May 2026 \
             with a Canon EOS 5D at 59.32° N, 18.07° E."
        )
    }

    #[test]
    fn a_search_ranks_the_right_text_first() {
        for (query, right, wrong) in [
            ("puppy", "a dog", "a bus"),
            ("dog", "a dog", "a cat"),
            ("dogs", "a dog", "a cat"),
            ("dog", "two dogs", "a hot dog"),
            ("hot dogs", "a hot dog", "a dog"),
            ("kitten", "a cat", "a dog"),
            ("pet", "a cat", "a car"),
            ("animal", "three sheep", "a truck"),
            ("vehicle", "a bus", "a dog"),
            ("automobile", "a car", "a boat"),
            ("motorcyle", "a motorcycle", "a microwave oven"),
            ("girafe", "a giraffe", "a zebra"),
            ("umbrela", "an umbrella", "a ball"),
            ("woman", "a person", "a bird"),
            ("man riding a horse", "a person and a horse", "a person and a car"),
            ("group of people", "at least 12 people", "at least 12 boats"),
            ("sofa", "a couch", "a chair"),
            ("phone", "a mobile phone", "a laptop"),
            ("tv", "a television", "an oven"),
            ("mouse", "two computer mice", "a cat"),
            ("toy", "a teddy bear", "a bear"),
            ("bear", "a bear", "a pear tree"),
            ("fruit", "an orange (fruit)", "a carrot"),
            ("food", "some broccoli", "a bench"),
            ("furniture", "a bed", "a sheep"),
            ("skiing", "a pair of skis", "a surfboard"),
            ("cutlery", "three knives", "three dogs"),
            ("photo of a bicycle", "a bicycle", "a train"),
        ] {
            let [right_score, wrong_score] =
                [right, wrong].map(|objects| likeness(query, &described(objects, "green and grey")));
            assert!(
                right_score > wrong_score + 0.02,
                "{query}: {right} {right_score}, {wrong} {wrong_score}"
            );
        }
    }

    #[test]
    fn colours_count() {
        for (query, right, wrong) in [
            ("red car", "red and grey", "blue and grey"),
            ("gray car", "grey and black", "green and white"),
            ("navy", "dark blue and white", "brown and white"),
            ("orange", "orange and white", "purple and white"),
        ] {
            let [right, wrong] = [right, wrong].map(|colours| likeness(query, &described("a car", colours)));
            assert!(right > wrong + 0.02, "{query}: {right} {wrong}");
        }
        let mostly_orange = described("a car", "orange and white");
        let an_orange = described("an orange (fruit)", "grey and white");
        assert!(likeness("fruit", &an_orange) > likeness("fruit", &mostly_orange) + 0.05);
    }

    #[test]
    fn names_dates_and_cameras_are_found() {
        let named = "Nothing in the picture was recognised with confidence. The name of its file is “Gardasee Sommerurlaub”.";
        for (query, right, wrong) in [
            ("gardasee", named.to_owned(), described("a boat", "blue")),
            ("canon", described("a boat", "blue"), named.to_owned()),
            ("2026", described("a boat", "blue"), named.to_owned()),
            ("富士", "it is called “富士山”".to_owned(), named.to_owned()),
        ] {
            assert!(likeness(query, &right) > likeness(query, &wrong) + 0.05, "{query}");
        }
    }

    #[test]
    fn every_class_has_related_words_and_is_found_by_its_own_name() {
        for label in &LABELS {
            let key = label.name.split(' ').map(stem).collect::<Vec<_>>().join(" ");
            assert!(EXPANDED.contains_key(&key), "{key}");
            let other = if label.name == "kite" { "an elephant" } else { "a kite" };
            for objects in [label.one(), format!("two {}", label.plural)] {
                let text = described(&objects, "white and grey");
                let wrong = likeness(label.name, &described(other, "white and grey"));
                assert!(likeness(label.name, &text) > wrong + 0.1, "{objects}");
            }
        }
    }

    #[test]
    fn plurals_lose_their_ending() {
        for (word, stemmed) in [
            ("dogs", "dog"),
            ("buses", "bus"),
            ("bus", "bus"),
            ("benches", "bench"),
            ("glasses", "glass"),
            ("glass", "glass"),
            ("puppies", "puppy"),
            ("tomatoes", "tomato"),
            ("skis", "ski"),
            ("gas", "gas"),
            ("tennis", "tennis"),
            ("vases", "vase"),
            ("horses", "horse"),
            ("ties", "tie"),
        ] {
            assert_eq!(stem(word), stemmed, "{word}");
        }
    }

    #[test]
    fn vectors_stay_the_same_for_ever() {
        let vector = embed("The picture shows a dog.", 16);
        let rounded: Vec<i32> = vector.iter().map(|n| (n * 1000.0).round() as i32).collect();
        assert_eq!(rounded, EXPECTED, "another vector for the same text needs another MODEL");
    }

    const EXPECTED: [i32; 16] =
        [359, -120, -83, 12, -12, 58, -478, 95, -227, 190, -166, -598, 143, -166, 0, 298];

    #[test]
    fn a_text_without_words_has_a_vector_of_its_own() {
        let empty = embed("", 512);
        assert_eq!(embed(" … !?", 512), empty);
        assert!((likeness("", "") - 1.0).abs() < 1e-6);
        assert_eq!(embed("dog", 0).len(), 1);
    }

    proptest! {
        #[test]
        fn any_text_has_a_finite_vector_of_length_1(text in "\\PC{0,200}", dimensions in 1_usize..600) {
            let vector = embed(&text, dimensions);
            prop_assert_eq!(vector.len(), dimensions);
            let length: f32 = vector.iter().map(|n| n * n).sum();
            prop_assert!((length - 1.0).abs() < 1e-4, "{}", length);
        }
    }
}
