//! Embeds a text without a model: by feature hashing of its words, of related words, and of trigrams, which
//! survive misspelling. A search finds words, and not their meaning.
//!
//! Each feature (a word, a trigram) is hashed to several elements of the vector, each with a sign. A text has
//! the same vector on every machine and for ever: the rules change only together with [`MODEL`].

mod features;
mod singular;
mod thesaurus;

use self::features::Feature;

/// Name of these rules, for [`Identity`](crate::analysis::Identity).
pub const MODEL: &str = "hashed-words-2";

/// Valid lengths of the vectors. In a shorter one, most features would collide.
pub const DIMENSIONS: std::ops::RangeInclusive<u32> = 16..=4096;

/// Number of elements that one feature is spread over, so that one collision does not hide it.
const SPREAD: u32 = 8;

/// Embeds a text in a vector of `dimensions` finite numbers (1 if 0) and Euclidean length 1. All texts
/// without words have the same vector.
pub fn embed(text: &str, dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0.0_f32; dimensions.max(1)];
    for (feature, weight) in features::of(text) {
        add(&mut vector, &feature, weight);
    }
    if !normalise(&mut vector) {
        // No words, or words that cancel each other out exactly.
        vector.fill(0.0);
        let element = (hash(b"", 0) % vector.len() as u64) as usize;
        vector[element] = 1.0;
    }
    vector
}

fn add(vector: &mut [f32], feature: &Feature, weight: f32) {
    let share = weight / (SPREAD as f32).sqrt();
    let mut bits = match feature {
        Feature::Word(word) => hash(word.as_bytes(), b'w'),
        Feature::Trigram(trigram) => hash(trigram.as_bytes(), b'p'),
    };
    for _ in 0..SPREAD {
        bits = splitmix64(bits);
        // The lowest bit is the sign, the others choose the element.
        let element = ((bits >> 1) % vector.len() as u64) as usize;
        vector[element] += if bits & 1 == 0 { share } else { -share };
    }
}

/// Scales a vector to length 1; `false` if it is too short for that.
fn normalise(vector: &mut [f32]) -> bool {
    let length = vector.iter().map(|n| n * n).sum::<f32>().sqrt();
    if !(length.is_finite() && length > 1e-6) {
        return false;
    }
    vector.iter_mut().for_each(|n| *n /= length);
    true
}

/// FNV-1a with 64 bits.
fn hash(bytes: &[u8], kind: u8) -> u64 {
    std::iter::once(&kind).chain(bytes).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The next number of splitmix64. All its bits are well distributed, which those of FNV-1a are not.
fn splitmix64(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::labels::LABELS, *};

    /// Cosine similarity of two texts, with vectors of the default length.
    fn similarity(a: &str, b: &str) -> f32 {
        embed(a, 512).iter().zip(embed(b, 512)).map(|(x, y)| x * y).sum()
    }

    /// A description like the provider's.
    fn described(objects: &str, colours: &str) -> String {
        format!(
            "The picture shows {objects}. It is a horizontal picture, mostly {colours}, with sharp detail. \
             It was taken on 4 May 2026 with a Canon EOS 5D at 59.32° N, 18.07° E, and the name of its \
             file says “holiday”."
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
            ("hrose", "a horse", "a cow"),
            ("pupy", "a dog", "a cat"),
            ("kiten", "a cat", "a dog"),
            ("bycicle", "a bicycle", "a motorcycle"),
            ("elefant", "an elephant", "a giraffe"),
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
                [right, wrong].map(|objects| similarity(query, &described(objects, "green and grey")));
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
            let [right, wrong] =
                [right, wrong].map(|colours| similarity(query, &described("a car", colours)));
            assert!(right > wrong + 0.02, "{query}: {right} {wrong}");
        }
        let mostly_orange = described("a car", "orange and white");
        let an_orange = described("an orange (fruit)", "grey and white");
        assert!(similarity("fruit", &an_orange) > similarity("fruit", &mostly_orange) + 0.05);
    }

    #[test]
    fn names_dates_and_cameras_are_found() {
        let named = "No everyday object was recognised in it with confidence. The name of its file says \
                     “Gardasee Sommerurlaub”.";
        for (query, right, wrong) in [
            ("gardasee", named.to_owned(), described("a boat", "blue")),
            ("gardase", named.to_owned(), described("a boat", "blue")),
            ("canon", described("a boat", "blue"), named.to_owned()),
            ("2026", described("a boat", "blue"), named.to_owned()),
            ("富士", "The name of its file says “富士山”.".to_owned(), named.to_owned()),
        ] {
            assert!(similarity(query, &right) > similarity(query, &wrong) + 0.05, "{query}");
        }
    }

    /// A short and a long description of each class.
    fn library() -> Vec<(&'static str, Vec<f32>)> {
        let texts = LABELS.iter().flat_map(|label| {
            let one = label.one();
            let short = format!("The picture shows {one}. It is a square picture, mostly grey.");
            [short, described(&format!("two {}", label.plural), "dark green, beige, light blue and black")]
                .map(|text| (label.name, embed(&text, 512)))
        });
        texts.collect()
    }

    /// The classes of a library's texts with their scores, best first.
    fn ranked(query: &str, library: &[(&'static str, Vec<f32>)]) -> Vec<(&'static str, f32)> {
        let vectors = library.iter().enumerate().map(|(at, (_, vector))| (at, vector));
        let hits = crate::search::nearest(&embed(query, 512), vectors, usize::MAX);
        hits.into_iter().map(|hit| (library[hit.id].0, hit.score)).collect()
    }

    #[test]
    fn every_class_is_found_first_by_its_name_its_plural_and_a_misspelling() {
        let library = library();
        for label in &LABELS {
            // "orange (fruit)", since an orange is also a colour.
            let name = label.single();
            for query in [name.clone(), label.plural.to_owned(), format!("photos of a {name}")] {
                let hits = ranked(&query, &library);
                assert_eq!(hits[0].0, label.name, "{query}: {:?}", &hits[..4]);
                // A short text about a related class may come between.
                let right = hits[..4].iter().filter(|hit| hit.0 == label.name).count();
                assert_eq!(right, 2, "{query}: {:?}", &hits[..4]);
            }
            // Without the middle letter of its longest word, if that is long enough to be recognised.
            let longest = label.name.split(' ').max_by_key(|word| word.len()).unwrap_or_default();
            if longest.len() > 5 {
                let middle = longest.len() / 2;
                let misspelt =
                    name.replace(longest, &format!("{}{}", &longest[..middle], &longest[middle + 1..]));
                let hits = ranked(&misspelt, &library);
                assert_eq!(hits[0].0, label.name, "{misspelt}: {:?}", &hits[..4]);
            }
        }
    }

    #[test]
    fn unrelated_texts_score_clearly_lower_than_related_ones() {
        let library = library();
        let mut worst_right = ("", 1.0_f32);
        for label in &LABELS {
            let hits = ranked(&label.single(), &library);
            if hits[1].1 < worst_right.1 {
                worst_right = (label.name, hits[1].1);
            }
        }
        for query in
            ["submarine", "wedding", "volcano", "graduation", "lighthouse", "grandmother", "museum", "Rome"]
        {
            let best = ranked(query, &library)[0];
            assert!(best.1 + 0.05 < worst_right.1, "{query}: {best:?}, but {worst_right:?} is right");
        }
    }

    #[test]
    fn vectors_never_change() {
        let vector = embed("The picture shows a dog.", 16);
        let rounded: Vec<i32> = vector.iter().map(|n| (n * 1000.0).round() as i32).collect();
        assert_eq!(rounded, EXPECTED, "another vector for the same text needs another MODEL");
    }

    const EXPECTED: [i32; 16] =
        [-91, -291, 11, 295, -52, 314, -227, 52, -52, 204, -293, -79, 182, -105, -688, 102];

    #[test]
    fn all_texts_without_words_have_one_vector() {
        let empty = embed("", 512);
        assert_eq!(embed(" … !?", 512), empty);
        assert!((similarity("", "") - 1.0).abs() < 1e-6);
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
