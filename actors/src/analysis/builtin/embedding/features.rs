//! The weighted features of a text: its words, the words that these imply, and their trigrams.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::LazyLock,
};

use super::{singular::singular, thesaurus::THESAURUS};

/// Weight of the word that a synonym implies: a puppy is a dog.
const HEAD: f32 = 0.9;
/// Weight of a broader term: a dog is an animal.
const BROADER: f32 = 0.6;
/// Weight of all trigrams of an unknown word together.
const TRIGRAMS: f32 = 1.0;
/// Weight of all trigrams of a word of [`VOCABULARY`] together. The word is found by itself; they find its
/// misspellings.
const TRIGRAMS_KNOWN: f32 = 0.4;
/// Weight of a known word that an unknown one may be a misspelling of.
const MISSPELT: f32 = 0.6;
/// Weight of a number, which occurs in many texts.
const NUMBER: f32 = 0.2;
/// Weight of a year, for which people search.
const YEAR: f32 = 0.5;
/// Weight of a name with digits, for which people search.
const CODE: f32 = 0.5;
/// Weight of function words. Nearly every description has some.
const GLUE_WEIGHT: f32 = 0.05;
/// Weight of words about light. Most searches are for things.
const LIGHT_WEIGHT: f32 = 0.5;
/// Weight of months.
const MONTH_WEIGHT: f32 = 0.5;
/// Weight of colours.
const COLOUR_WEIGHT: f32 = 0.6;

/// Words that nearly every description has, and that mean nothing in a search.
const GLUE: &str = "\
    a about all almost among an and any are as at be been between by can confidence detail end everyday \
    file fine folder for format frame from has have held horizontal hour image in is it its judged last \
    least lie look mainly many minute missing mostly name nearly no not nothing now object of on only or \
    pair part photo picture pixel possibly recognised say second seen several show size some start taken \
    that the then this throughout to toward up very was vertical were what which with without";
/// Words about light.
const LIGHT: &str = "blurred bright colour dark sharp";
const MONTHS: &str = "\
    january february march april may june july august september october november december";
/// Colours. `dark blue` counts by its last word.
const COLOURS: &str = "\
    beige black blue brown green grey olive orange pink purple red teal white yellow";

/// Weights of the words above. Any other word has weight 1, unless it has digits.
static WEIGHTS: LazyLock<HashMap<&str, f32>> = LazyLock::new(|| {
    let lists =
        [(GLUE, GLUE_WEIGHT), (LIGHT, LIGHT_WEIGHT), (MONTHS, MONTH_WEIGHT), (COLOURS, COLOUR_WEIGHT)];
    lists.iter().flat_map(|(list, weight)| list.split_whitespace().map(|word| (word, *weight))).collect()
});

/// The words that each word or phrase implies, all in the singular.
static IMPLIED: LazyLock<HashMap<String, Vec<(String, f32)>>> = LazyLock::new(|| {
    let mut implied: HashMap<String, Vec<(String, f32)>> = HashMap::new();
    for (words, synonyms, broader) in THESAURUS {
        let (words, synonyms, broader) = (singulars(words), singulars(synonyms), singulars(broader));
        for word in words {
            let broader = |weight: f32| broader.iter().map(move |term| (term.clone(), weight));
            implied.entry(word.clone()).or_default().extend(broader(BROADER));
            for synonym in &synonyms {
                let implied = implied.entry(synonym.clone()).or_default();
                implied.push((word.clone(), HEAD));
                implied.extend(broader(HEAD * BROADER));
            }
        }
    }
    implied
});

/// Every word and phrase of the thesaurus.
static VOCABULARY: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    let implied = IMPLIED.values().flatten().map(|(word, _)| word.as_str());
    IMPLIED.keys().map(String::as_str).chain(implied).collect()
});

/// The phrases that imply something, each as its words.
static PHRASES: LazyLock<Vec<Vec<&str>>> = LazyLock::new(|| {
    let phrases = IMPLIED.keys().filter(|words| words.contains(' '));
    phrases.map(|phrase| phrase.split(' ').collect()).collect()
});

/// The elements of a list that is separated by commas, in the singular.
fn singulars(list: &str) -> Vec<String> {
    let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| part.split(' ').map(singular).collect::<Vec<_>>().join(" ")).collect()
}

/// A feature of a text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Feature {
    /// A word or phrase in the singular.
    Word(String),
    /// Three characters of a word, or two if the word is not ASCII.
    Trigram(String),
}

/// The features of a text with their weights. A repeated feature has its largest weight, so that repetition
/// does not hide the rest. The map is ordered, so that sums are the same everywhere.
pub(super) fn of(text: &str) -> BTreeMap<Feature, f32> {
    let lower = text.to_lowercase();
    let words: Vec<String> =
        lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(singular).collect();
    let mut weights = Weights(BTreeMap::new());
    let mut rest = words.as_slice();
    while let [word, after @ ..] = rest {
        let phrase = (2..=3_usize.min(rest.len())).rev().map(|n| (n, rest[..n].join(" ")));
        if let Some((n, phrase)) = phrase.into_iter().find(|(_, phrase)| IMPLIED.contains_key(phrase)) {
            let weight = weight(&rest[n - 1]);
            weights.add_with_implied(&phrase, weight);
            if weight >= 1.0 {
                weights.add_trigrams(&rest[..n], TRIGRAMS_KNOWN);
            }
            rest = &rest[n..];
            continue;
        }
        for phrase in PHRASES.iter().filter(|phrase| misspelt_phrase(rest, phrase)) {
            weights.add_with_implied(&phrase.join(" "), MISSPELT);
        }
        rest = after;
        weights.add_word(word);
    }
    weights.0
}

/// Whether words begin with a phrase, with one mistake in one of its words.
fn misspelt_phrase(words: &[String], phrase: &[&str]) -> bool {
    let mut wrong = words.iter().zip(phrase).filter(|(word, meant)| word.as_str() != **meant);
    let (Some((word, meant)), None) = (wrong.next(), wrong.next()) else { return false };
    words.len() >= phrase.len() && one_mistake(&letters(word), &letters(meant))
}

/// The weight of a word.
fn weight(word: &str) -> f32 {
    match WEIGHTS.get(word) {
        Some(weight) => *weight,
        None if word.chars().all(char::is_numeric) => {
            let year = word.parse().is_ok_and(|year: u32| (1826..2200).contains(&year));
            if year { YEAR } else { NUMBER }
        }
        None if word.chars().any(|c| c.is_ascii_digit()) => CODE,
        None if word.len() == 1 => GLUE_WEIGHT,
        None => 1.0,
    }
}

struct Weights(BTreeMap<Feature, f32>);

impl Weights {
    fn add(&mut self, feature: Feature, weight: f32) {
        let kept = self.0.entry(feature).or_insert(0.0);
        *kept = kept.max(weight);
    }

    fn add_word(&mut self, word: &str) {
        let weight = weight(word);
        self.add_with_implied(word, weight);
        if weight < 1.0 {
            return;
        }
        let known = VOCABULARY.contains(word);
        self.add_trigrams(&[word], if known { TRIGRAMS_KNOWN } else { TRIGRAMS });
        if !known {
            for meant in meant(word) {
                self.add_with_implied(meant, MISSPELT);
            }
        }
    }

    /// Adds the trigrams of a word or phrase, with `weight` for all of them together.
    fn add_trigrams<S: AsRef<str>>(&mut self, words: &[S], weight: f32) {
        let trigrams: Vec<String> = words.iter().flat_map(|word| trigrams(word.as_ref())).collect();
        let each = weight / (trigrams.len().max(1) as f32).sqrt();
        for trigram in trigrams {
            self.add(Feature::Trigram(trigram), each);
        }
    }

    /// Adds a word or phrase, and the words that it implies.
    fn add_with_implied(&mut self, word: &str, weight: f32) {
        self.add(Feature::Word(word.to_owned()), weight);
        for (other, share) in IMPLIED.get(word).into_iter().flatten() {
            self.add(Feature::Word(other.clone()), weight * share);
        }
    }
}

/// The known words that a word may be a misspelling of.
fn meant(word: &str) -> impl Iterator<Item = &'static str> {
    let word = letters(word);
    VOCABULARY.iter().copied().filter(move |known| one_mistake(&word, &letters(known)))
}

fn letters(word: &str) -> Vec<char> {
    word.chars().collect()
}

/// Whether a word is another one with one mistake after its first letter: two letters swapped, one missing,
/// one too many, or one wrong. A short word must be longer for the more frequent mistakes, as it may be
/// another word (a house is not a horse, and a beach not a bench).
fn one_mistake(word: &[char], meant: &[char]) -> bool {
    if word.first() != meant.first() {
        return false;
    }
    let same = word.iter().zip(meant).take_while(|(x, y)| x == y).count();
    let (word, rest) = (&word[same..], &meant[same..]);
    let (Some(skipped), Some(left)) = (word.get(1..), rest.get(1..)) else {
        // One word is a prefix of the other.
        return word.len().abs_diff(rest.len()) == 1 && meant.len() >= 5;
    };
    let swapped = word.len() > 1 && left.first() == word.first() && skipped.first() == rest.first();
    swapped && skipped[1..] == left[1..] && meant.len() >= 4
        || skipped == left && meant.len() >= 6
        || (word == left || skipped == rest) && meant.len() >= 5
}

/// The trigrams of a word with its ends marked; bigrams if it is not ASCII, as a character may then be a
/// syllable or a word.
fn trigrams(word: &str) -> Vec<String> {
    let marked: Vec<char> =
        std::iter::once('^').chain(word.chars().take(64)).chain(std::iter::once('$')).collect();
    let size = if word.is_ascii() { 3 } else { 2 };
    marked.windows(size).map(|window| window.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::builtin::labels::LABELS;

    #[test]
    fn every_class_is_in_the_thesaurus() {
        for label in &LABELS {
            let key = label.name.split(' ').map(singular).collect::<Vec<_>>().join(" ");
            assert!(IMPLIED.contains_key(&key), "{key}");
        }
    }

    #[test]
    fn a_word_with_one_mistake_is_recognised() {
        let one = |word: &str, meant: &str| one_mistake(&letters(word), &letters(meant));
        for (word, meant) in [
            ("motorcyle", "motorcycle"),
            ("motorccycle", "motorcycle"),
            ("motorsycle", "motorcycle"),
            ("hrose", "horse"),
            ("pupy", "puppy"),
            ("kittens", "kitten"),
            ("brid", "bird"),
        ] {
            assert!(one(word, meant), "{word}");
        }
        for (word, meant) in [
            ("house", "horse"),
            ("beach", "bench"),
            ("cable", "table"),
            ("otorcycle", "motorcycle"),
            ("motorcl", "motorcycle"),
            ("motroclycle", "motorcycle"),
            ("coat", "boat"),
            ("cart", "car"),
            ("horse", "horse"),
            ("", "horse"),
            ("horse", ""),
        ] {
            assert!(!one(word, meant), "{word}");
        }
    }

    #[test]
    fn informative_words_have_larger_weights() {
        let weights = of("The dark blue puppy of 2026, no 17, in a T4");
        for (word, weight) in [
            ("puppy", 1.0),
            ("dog", HEAD),
            ("pet", HEAD * BROADER),
            ("dark blue", COLOUR_WEIGHT),
            ("2026", YEAR),
            ("17", NUMBER),
            ("t4", CODE),
            ("the", GLUE_WEIGHT),
        ] {
            assert_eq!(weights.get(&Feature::Word(word.to_owned())), Some(&weight), "{word}");
        }
        let has = |trigram: &str| weights.contains_key(&Feature::Trigram(trigram.to_owned()));
        assert!(has("^pu") && !has("^bl") && !has("^20"));
    }
}
