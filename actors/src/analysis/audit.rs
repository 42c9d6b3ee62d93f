//! Audit of a description: judges by its form alone whether a text is one. It detects models that derailed
//! (loops, leftover tokens, character salad: rows 1 to 10) and answers that are no description (refusals,
//! talk to the user, placeholders, echoes, another language: rows 11 to 16); it does not check whether
//! sentences are true.
//!
//! The text is trimmed. A character is a Unicode scalar value; words are separated by white space and include
//! their punctuation. All comparisons are strict, on whole numbers.

mod answer;
mod language;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

pub use self::language::Language;

/// Version of the rules. Only scores of the same version are comparable. Version 1 had rows 1 to 10, which are
/// unchanged.
pub const VERSION: u32 = 2;

/// The lowest score that passes.
pub const PASS: u8 = 60;

/// Words that most English sentences have, in the order of the contract.
const COMMON: [&str; 43] = [
    "the", "a", "an", "and", "or", "but", "in", "on", "at", "to", "for", "of", "with", "by", "from", "is",
    "are", "was", "were", "this", "that", "these", "those", "it", "its", "be", "been", "being", "have",
    "has", "had", "do", "does", "did", "will", "would", "could", "should", "may", "might", "can", "as",
    "not",
];

/// Result of an audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// 100 minus all penalties, at least 0.
    pub score: u8,
    /// The rows that apply, in the order of the table.
    pub strikes: Vec<Strike>,
}

impl Audit {
    /// Whether the score is [`PASS`] (60) or above.
    pub fn passed(&self) -> bool {
        self.score >= PASS
    }

    /// The reasons, separated by commas; empty if no row applies.
    pub fn reasons(&self) -> String {
        self.strikes.iter().map(|strike| strike.reason.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// A row of the table that applies to a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strike {
    /// Number of the row, 1 to 16.
    pub row: u8,
    /// Points that it takes from the score, 1 to 100.
    pub penalty: u8,
    /// A few words in lower case: `a word repeated four times in a row`.
    pub reason: String,
}

/// Audits a description, in time linear in its length.
///
/// ```
/// use mediamill_actors::analysis::audit::{audit, Language};
///
/// let looped = audit(&"cat ".repeat(100), Language::ENGLISH);
/// assert!(!looped.passed());
/// let valid = audit("A grey cat lies on the sofa and looks at the camera.", Language::ENGLISH);
/// assert_eq!(valid.score, 100);
/// ```
pub fn audit(text: &str, language: Language) -> Audit {
    let text = text.trim();
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut strikes = Vec::new();
    let mut strike = |row: u8, penalty: u8, reason: &str| {
        if penalty > 0 {
            strikes.push(Strike { row, penalty, reason: reason.to_owned() });
        }
    };

    let characters = Characters::of(text);
    if characters.letters * 100 < characters.all * 30 {
        strike(1, 70, "hardly any letters");
    } else {
        let mixed = words.iter().take(100).filter(|word| is_mixed(word)).count();
        let penalty = match mixed * 100 {
            share if share > words.len() * 30 => 80,
            share if share > words.len() * 10 => 50,
            _ => 0,
        };
        strike(2, penalty, "words of letters, digits and signs mixed");
    }

    let tokens = 50 * (u8::from(text.contains("<|")) + u8::from(text.contains("|>")));
    strike(3, tokens, "a model's control tokens");

    match characters.all {
        ..50 => strike(4, 35, "too short"),
        5001.. => strike(4, 20, "too long"),
        _ => {}
    }

    let lower = text.to_lowercase();
    let lower: Vec<&str> = lower.split_whitespace().collect();
    let distinct = lower.iter().collect::<HashSet<_>>().len();
    strike(5, if distinct * 100 < words.len() * 20 { 45 } else { 0 }, "the same few words over and over");

    let stutters = lower.windows(4).any(|four| four.iter().all(|word| *word == four[0]));
    strike(6, if stutters { 40 } else { 0 }, "a word repeated four times in a row");

    let penalty = match characters.signs * 100 {
        share if share > characters.all * 50 => 60,
        share if share > characters.all * 30 => 30,
        _ => 0,
    };
    strike(7, penalty, "too many signs and digits");

    if language.is_english() {
        strike(8, sentence_penalty(text), "no proper sentences");
        let worded: Vec<&str> =
            lower.iter().copied().filter(|word| word.chars().any(char::is_alphabetic)).collect();
        if worded.len() >= 5 {
            let real: Vec<&str> = worded.iter().copied().filter(|word| is_real(word)).collect();
            strike(9, if real.len() * 2 < worded.len() { 50 } else { 0 }, "few real words");
            let common = real.iter().filter(|word| COMMON.contains(word)).count();
            strike(10, common_penalty(common, real.len()), "few of the words that English sentences need");
        }
    }

    for (row, penalty, reason) in answer::rows(text, language) {
        strike(row, penalty, reason);
    }

    let lost: u32 = strikes.iter().map(|strike| u32::from(strike.penalty)).sum();
    let score = u8::try_from(100_u32.saturating_sub(lost)).unwrap_or(0);
    Audit { score, strikes }
}

/// Number of characters of a text, in all and by kind.
struct Characters {
    all: usize,
    letters: usize,
    /// Neither letters nor white space.
    signs: usize,
}

impl Characters {
    fn of(text: &str) -> Self {
        let mut counts = Self { all: 0, letters: 0, signs: 0 };
        for character in text.chars() {
            counts.all += 1;
            if character.is_alphabetic() {
                counts.letters += 1;
            } else if !character.is_whitespace() {
                counts.signs += 1;
            }
        }
        counts
    }
}

/// Whether a word has at most 15 characters, with a letter, a digit, and more than two that are neither.
fn is_mixed(word: &str) -> bool {
    let (mut letters, mut digits, mut signs) = (0, 0, 0);
    for (at, character) in word.chars().enumerate() {
        if at == 15 {
            return false;
        }
        match character {
            _ if character.is_alphabetic() => letters += 1,
            _ if character.is_numeric() => digits += 1,
            _ => signs += 1,
        }
    }
    letters > 0 && digits > 0 && signs > 2
}

/// Whether a word has more than 70 % letters.
fn is_real(word: &str) -> bool {
    let counts = Characters::of(word);
    counts.letters * 100 > counts.all * 70
}

fn sentence_penalty(text: &str) -> u8 {
    let pieces = text.split(['.', '!', '?']).map(str::trim).filter(|piece| !piece.is_empty());
    let (mut all, mut capital) = (0_usize, 0_usize);
    for piece in pieces {
        all += 1;
        capital += usize::from(piece.starts_with(char::is_uppercase));
    }
    match all {
        0 => 30,
        2.. if capital * 2 < all => 15,
        _ => 0,
    }
}

fn common_penalty(common: usize, real: usize) -> u8 {
    if real == 0 {
        return 60;
    }
    match common * 100 {
        share if share < real * 2 => 60,
        share if share < real * 5 => 45,
        share if share < real * 15 => 20,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rows that apply, with their penalties.
    fn rows(text: &str) -> Vec<(u8, u8)> {
        audit(text, Language::ENGLISH).strikes.iter().map(|strike| (strike.row, strike.penalty)).collect()
    }

    fn row(text: &str, number: u8) -> u8 {
        rows(text).iter().find(|(row, _)| *row == number).map_or(0, |(_, penalty)| *penalty)
    }

    /// `n` different words of letters, without common ones: `qa`, `qb`, …
    fn words(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("q{}{}", letter(i / 26), letter(i % 26))).collect()
    }

    fn letter(i: usize) -> char {
        char::from(b'a' + u8::try_from(i % 26).expect("below 26"))
    }

    #[test]
    fn a_careful_sentence_scores_100() {
        let text = "The picture shows a cat. It is mostly brown and grey, and it was taken on 4 May 2026.";
        assert_eq!(audit(text, Language::ENGLISH), Audit { score: 100, strikes: vec![] });
    }

    #[test]
    fn row_1_applies_below_30_percent_letters_and_excludes_row_2() {
        assert_eq!(row(&format!("{}{}", "a".repeat(30), "1".repeat(70)), 1), 0);
        assert_eq!(row(&format!("{}{}", "a".repeat(29), "1".repeat(71)), 1), 70);
        let salad = "a1-+* ".repeat(20);
        assert_eq!((row(&salad, 1), row(&salad, 2)), (70, 0));
    }

    #[test]
    fn row_2_applies_above_10_and_30_percent_mixed_words() {
        let text = |mixed: usize, plain: usize| {
            let mut all = vec!["abcdef1-+*".to_owned(); mixed];
            all.extend(words(plain).iter().map(|word| format!("{word}word")));
            all.join(" ")
        };
        assert_eq!(row(&text(1, 9), 2), 0, "10 % is not over 10 %");
        assert_eq!(row(&text(2, 16), 2), 50);
        assert_eq!(row(&text(3, 7), 2), 50, "30 % is not over 30 %");
        assert_eq!(row(&text(4, 6), 2), 80);
        // Only the first 100 words are examined, but the share is of all words.
        assert_eq!(row(&text(100, 899), 2), 50, "100 of 999");
        assert_eq!(row(&text(100, 900), 2), 0, "100 of 1000");
        assert_eq!(row(&text(200, 800), 2), 0, "the second hundred is not examined");
    }

    #[test]
    fn row_2_counts_words_of_at_most_15_characters_with_letter_digit_and_three_signs() {
        for (word, mixed) in [
            ("a1-+*", true),
            ("a1-+", false),
            ("aa-+*", false),
            ("11-+*", false),
            ("abcdefghijk1-+*", true),
            ("abcdefghijkl1-+*", false),
            ("éééééééééé1-+*", true),
        ] {
            assert_eq!(is_mixed(word), mixed, "{word}");
        }
    }

    #[test]
    fn row_3_applies_to_each_half_of_a_control_token() {
        let text =
            |extra: &str| format!("The picture shows a cat on the sofa of the house {extra} and it is grey.");
        assert_eq!(row(&text(""), 3), 0);
        assert_eq!(row(&text("<|"), 3), 50);
        assert_eq!(row(&text("|>"), 3), 50);
        assert_eq!(row(&text("<|im_end|>"), 3), 100);
        assert_eq!(row(&text("< | >"), 3), 0);
    }

    #[test]
    fn row_4_counts_characters_and_not_bytes() {
        assert_eq!(row(&"é".repeat(49), 4), 35);
        assert_eq!(row(&"é".repeat(50), 4), 0);
        assert_eq!(row(&format!("  {}  ", "a".repeat(49)), 4), 35, "trimmed");
        assert_eq!(row(&"é".repeat(5000), 4), 0);
        assert_eq!(row(&"é".repeat(5001), 4), 20);
    }

    #[test]
    fn row_5_applies_below_20_percent_distinct_words() {
        let text = |distinct: usize, all: usize| {
            let pool = words(distinct);
            (0..all).map(|i| pool[i % distinct].clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(row(&text(20, 100), 5), 0);
        assert_eq!(row(&text(19, 100), 5), 45);
        assert_eq!(row(&"Cat cat CAT cAt caT ".repeat(2), 5), 45, "case does not count");
    }

    #[test]
    fn row_6_applies_once_to_four_in_a_row() {
        assert_eq!(row("very very very good", 6), 0);
        assert_eq!(row("very Very VERY very good", 6), 40);
        assert_eq!(row("no no no no yes yes yes yes", 6), 40);
        assert_eq!(row("very, very very very good", 6), 0, "punctuation is part of the word");
    }

    #[test]
    fn row_7_applies_above_30_and_50_percent_signs() {
        let text = |letters: usize, signs: usize| format!("{}{}", "a".repeat(letters), "-".repeat(signs));
        assert_eq!(row(&text(70, 30), 7), 0);
        assert_eq!(row(&text(69, 31), 7), 30);
        assert_eq!(row(&text(50, 50), 7), 30);
        assert_eq!(row(&text(49, 51), 7), 60);
    }

    #[test]
    fn row_8_expects_sentences_that_begin_with_capitals() {
        assert_eq!(row("...", 8), 30);
        assert_eq!(row("", 8), 30);
        assert_eq!(row("one piece in lower case", 8), 0);
        assert_eq!(row("One. two", 8), 0, "half is not under half");
        assert_eq!(row("One. two! three?", 8), 15);
        assert_eq!(row("One. Two. three", 8), 0);
    }

    #[test]
    fn row_9_expects_half_of_the_words_to_be_mostly_letters() {
        assert_eq!(row("ab12 ab12 ab12 ab12", 9), 0, "fewer than five words are not judged");
        assert_eq!(row("ab12 ab12 ab12 ab12 12 the", 9), 50);
        assert_eq!(row("ab12 ab12 ab12 the a is", 9), 0, "half is not under half");
        assert_eq!(row("ab12 ab12 ab12 ab12 the a is", 9), 50);
        assert!(!is_real("abcdefg123"), "70 % is not over 70 %");
        assert!(is_real("abcdefgh123"));
    }

    #[test]
    fn row_10_expects_common_words_among_the_real_ones() {
        let text = |common: usize, all: usize| {
            let mut list = words(all - common);
            list.extend(vec!["The".to_owned(); common]);
            list.join(" ")
        };
        assert_eq!(row(&text(0, 4), 10), 0, "fewer than five words are not judged");
        assert_eq!(row(&text(0, 5), 10), 60);
        assert_eq!(row(&text(1, 51), 10), 60);
        assert_eq!(row(&text(1, 50), 10), 45);
        assert_eq!(row(&text(1, 21), 10), 45);
        assert_eq!(row(&text(1, 20), 10), 20);
        assert_eq!(row(&text(1, 7), 10), 20);
        assert_eq!(row(&text(3, 20), 10), 0, "15 % is not under 15 %");
        assert_eq!(row("ab12 ab12 ab12 ab12 ab12", 10), 60, "no real word at all");
    }

    #[test]
    fn rows_8_to_10_apply_only_to_english() {
        let text = "katt katten. hunden hundar. bilen bilar. båten båtar och mycket mera som inte syns";
        assert!(audit(text, Language::ENGLISH).score < 100);
        assert_eq!(audit(text, Language::UNKNOWN).score, 100);
    }

    #[test]
    fn a_looping_text_fails_the_audit() {
        let found = audit(&"the cat the cat ".repeat(60), Language::ENGLISH);
        assert_eq!(found.score, 55);
        assert!(!found.passed());
        assert_eq!(found.reasons(), "the same few words over and over");
    }

    #[test]
    fn a_short_description_still_passes() {
        let found = audit("The picture shows a cat.", Language::ENGLISH);
        assert_eq!((found.score, found.passed()), (65, true));
    }

    #[test]
    fn a_score_is_never_below_0() {
        assert_eq!(audit("<|!1|> <|!1|> <|!1|> <|!1|>", Language::ENGLISH).score, 0);
        assert_eq!(audit("", Language::ENGLISH).score, 35);
        assert!(!audit("   ", Language::ENGLISH).passed());
    }

    #[test]
    fn a_megabyte_is_audited_in_linear_time() {
        for text in
            ["a ".repeat(1 << 19), "a".repeat(1 << 20), ". ".repeat(1 << 19), "é1-+* ".repeat(150_000)]
        {
            let start = std::time::Instant::now();
            audit(&text, Language::ENGLISH);
            // Generous: a debug build on a busy machine. Anything quadratic would take hours.
            assert!(start.elapsed().as_secs() < 10);
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_score_of_0_to_100(text in "\\PC{0,400}", spaced in "[a-z0-9 .!<|>]{0,400}") {
            for text in [text, spaced] {
                for language in [Language::ENGLISH, Language::UNKNOWN] {
                    let found = audit(&text, language);
                    prop_assert!(found.score <= 100);
                    prop_assert_eq!(found.passed(), found.score >= 60);
                    let lost: u32 = found.strikes.iter().map(|strike| u32::from(strike.penalty)).sum();
                    prop_assert_eq!(u32::from(found.score), 100_u32.saturating_sub(lost));
                }
            }
        }
    }
}
