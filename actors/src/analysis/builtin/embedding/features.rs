//! What a text is about, as weighted features: its words, the words that those lead to, and pieces of words.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::LazyLock,
};

use super::{related::RELATED, stem::stem};

/// Weight of the word that one is another word for: a puppy is a dog.
const HEAD: f32 = 0.9;
/// Weight of a wider word: a dog is an animal.
const WIDER: f32 = 0.6;
/// Weight of all the pieces of a word together, where the word is none of [`VOCABULARY`], and where it is: such a word is
/// found by itself, and its pieces serve those who misspell it.
const PIECES: f32 = 1.0;
const PIECES_KNOWN: f32 = 0.4;
/// Weight of a known word that somebody may have meant who wrote an unknown one.
const MISSPELT: f32 = 0.6;
/// Weight of numbers, which stand in many texts, and of years and names with digits, which somebody may look for.
const NUMBER: f32 = 0.2;
const YEAR: f32 = 0.5;
const CODE: f32 = 0.5;
/// Weight of the words that hold a sentence together, of those that tell of light and time, and of colours. Nearly every
/// description has some of them, and most searches are for things.
const GLUE_WEIGHT: f32 = 0.05;
const LIGHT_WEIGHT: f32 = 0.5;
const MONTH_WEIGHT: f32 = 0.5;
const COLOUR_WEIGHT: f32 = 0.6;

/// Words that nearly every description holds, and that mean nothing in a search.
const GLUE: &str = "\
    a about all almost among an and any are as at be been between by can confidence detail end everyday file fine \
    folder for format frame from has have held horizontal hour image in is it its judged last least lie look mainly many \
    minute missing mostly name nearly no not nothing now object of on only or pair part photo picture pixel possibly \
    recognised say second seen several show size some start taken that the then this throughout to toward up very was vertical \
    were what which with without";
/// Words about light.
const LIGHT: &str = "blurred bright colour dark sharp";
const MONTHS: &str = "\
    january february march april may june july august september october november december";
/// Colours by their first names: `dark blue` begins with none of them, and is one by its last.
const COLOURS: &str = "\
    beige black blue brown green grey olive orange pink purple red teal white yellow";

/// Words without a weight of their own: those that are not in it weigh 1.
static WEIGHTS: LazyLock<HashMap<&str, f32>> = LazyLock::new(|| {
    let lists =
        [(GLUE, GLUE_WEIGHT), (LIGHT, LIGHT_WEIGHT), (MONTHS, MONTH_WEIGHT), (COLOURS, COLOUR_WEIGHT)];
    lists.iter().flat_map(|(list, weight)| list.split_whitespace().map(|word| (word, *weight))).collect()
});

/// What each word or phrase leads to, both as stems.
static LEADS: LazyLock<HashMap<String, Vec<(String, f32)>>> = LazyLock::new(|| {
    let mut leads: HashMap<String, Vec<(String, f32)>> = HashMap::new();
    for (words, same, wider) in RELATED {
        let (words, same, wider) = (stems(words), stems(same), stems(wider));
        for word in words {
            let wider = |weight: f32| wider.iter().map(move |wide| (wide.clone(), weight));
            leads.entry(word.clone()).or_default().extend(wider(WIDER));
            for other in &same {
                let leads = leads.entry(other.clone()).or_default();
                leads.push((word.clone(), HEAD));
                leads.extend(wider(HEAD * WIDER));
            }
        }
    }
    leads
});

/// Every word and phrase that leads somewhere or is led to.
static VOCABULARY: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    let led_to = LEADS.values().flatten().map(|(word, _)| word.as_str());
    LEADS.keys().map(String::as_str).chain(led_to).collect()
});

/// The phrases that lead somewhere, in words.
static PHRASES: LazyLock<Vec<Vec<&str>>> = LazyLock::new(|| {
    let phrases = LEADS.keys().filter(|words| words.contains(' '));
    phrases.map(|phrase| phrase.split(' ').collect()).collect()
});

/// The parts of a list that commas part, each as stems.
fn stems(list: &str) -> Vec<String> {
    let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| part.split(' ').map(stem).collect::<Vec<_>>().join(" ")).collect()
}

/// A word, phrase or piece.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Feature {
    /// A word or phrase, stemmed.
    Word(String),
    /// A piece of a word.
    Piece(String),
}

/// Weight of each feature; one that occurs more than once has its largest weight, so that repetition does not drown the rest.
/// Ordered, so that sums are the same everywhere.
pub(super) fn of(text: &str) -> BTreeMap<Feature, f32> {
    let lower = text.to_lowercase();
    let words: Vec<String> =
        lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(stem).collect();
    let mut found = Found(BTreeMap::new());
    let mut rest = words.as_slice();
    while let [word, after @ ..] = rest {
        let phrase = (2..=3_usize.min(rest.len())).rev().map(|n| (n, rest[..n].join(" ")));
        if let Some((n, phrase)) = phrase.into_iter().find(|(_, phrase)| LEADS.contains_key(phrase)) {
            let weight = weight(&rest[n - 1]);
            found.known(&phrase, weight);
            if weight >= 1.0 {
                found.pieces(&rest[..n], PIECES_KNOWN);
            }
            rest = &rest[n..];
            continue;
        }
        for phrase in PHRASES.iter().filter(|phrase| misspelt_phrase(rest, phrase)) {
            found.known(&phrase.join(" "), MISSPELT);
        }
        rest = after;
        found.word(word);
    }
    found.0
}

/// Whether words begin with a phrase of which one word has one mistake.
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

struct Found(BTreeMap<Feature, f32>);

impl Found {
    fn keep(&mut self, feature: Feature, weight: f32) {
        let kept = self.0.entry(feature).or_insert(0.0);
        *kept = kept.max(weight);
    }

    fn word(&mut self, word: &str) {
        let weight = weight(word);
        self.known(word, weight);
        if weight < 1.0 {
            return;
        }
        let known = VOCABULARY.contains(word);
        self.pieces(&[word], if known { PIECES_KNOWN } else { PIECES });
        if !known {
            for meant in meant(word) {
                self.known(meant, MISSPELT);
            }
        }
    }

    /// The pieces of a word or of the words of a phrase, which weigh as much together.
    fn pieces<S: AsRef<str>>(&mut self, words: &[S], weight: f32) {
        let pieces: Vec<String> = words.iter().flat_map(|word| pieces(word.as_ref())).collect();
        let each = weight / (pieces.len().max(1) as f32).sqrt();
        for piece in pieces {
            self.keep(Feature::Piece(piece), each);
        }
    }

    /// A word or phrase and what it leads to.
    fn known(&mut self, word: &str, weight: f32) {
        self.keep(Feature::Word(word.to_owned()), weight);
        for (other, share) in LEADS.get(word).into_iter().flatten() {
            self.keep(Feature::Word(other.clone()), weight * share);
        }
    }
}

/// The known words that somebody may have meant, who made one mistake.
fn meant(word: &str) -> impl Iterator<Item = &'static str> {
    let word = letters(word);
    VOCABULARY.iter().copied().filter(move |known| one_mistake(&word, &letters(known)))
}

fn letters(word: &str) -> Vec<char> {
    word.chars().collect()
}

/// Whether a word is another one with two letters in the wrong order, one missing, one too many, or a wrong one, but not at its
/// beginning. The shorter the word and the commoner the mistake, the sooner it is just another word (a house is no horse, and a
/// beach no bench).
fn one_mistake(word: &[char], meant: &[char]) -> bool {
    if word.first() != meant.first() {
        return false;
    }
    let same = word.iter().zip(meant).take_while(|(x, y)| x == y).count();
    let (word, rest) = (&word[same..], &meant[same..]);
    let (Some(skipped), Some(left)) = (word.get(1..), rest.get(1..)) else {
        // One of them is the beginning of the other.
        return word.len().abs_diff(rest.len()) == 1 && meant.len() >= 5;
    };
    let swapped = word.len() > 1 && left.first() == word.first() && skipped.first() == rest.first();
    swapped && skipped[1..] == left[1..] && meant.len() >= 4
        || skipped == left && meant.len() >= 6
        || (word == left || skipped == rest) && meant.len() >= 5
}

/// Pieces of three letters (two, where a letter is a syllable or a word), its ends marked.
fn pieces(word: &str) -> Vec<String> {
    let marked: Vec<char> =
        std::iter::once('^').chain(word.chars().take(64)).chain(std::iter::once('$')).collect();
    let size = if word.is_ascii() { 3 } else { 2 };
    marked.windows(size).map(|piece| piece.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::builtin::labels::LABELS;

    #[test]
    fn every_class_has_related_words() {
        for label in &LABELS {
            let key = label.name.split(' ').map(stem).collect::<Vec<_>>().join(" ");
            assert!(LEADS.contains_key(&key), "{key}");
        }
    }

    #[test]
    fn a_word_is_taken_for_a_known_one_if_it_has_one_mistake() {
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
    fn words_weigh_by_what_they_tell() {
        let weights = of("The dark blue puppy of 2026, no 17, in a T4");
        for (word, weight) in [
            ("puppy", 1.0),
            ("dog", HEAD),
            ("pet", HEAD * WIDER),
            ("dark blue", COLOUR_WEIGHT),
            ("2026", YEAR),
            ("17", NUMBER),
            ("t4", CODE),
            ("the", GLUE_WEIGHT),
        ] {
            assert_eq!(weights.get(&Feature::Word(word.to_owned())), Some(&weight), "{word}");
        }
        let piece = |piece: &str| weights.contains_key(&Feature::Piece(piece.to_owned()));
        assert!(piece("^pu") && !piece("^bl") && !piece("^20"));
    }
}
