//! Texts to embed, and the vectors that models return.

use super::ProviderError;

/// The part of a text to embed: at most `max_chars` characters, cut between two words if possible.
pub(super) fn cut(text: &str, max_chars: usize) -> &str {
    let text = text.trim();
    let Some((end, _)) = text.char_indices().nth(max_chars) else { return text };
    let start = &text[..end];
    match start.rfind(char::is_whitespace) {
        _ if text[end..].starts_with(char::is_whitespace) => start,
        // Otherwise a text without spaces would lose too much.
        Some(space) if 2 * space > end => start[..space].trim_end(),
        _ => start,
    }
}

/// A shorter text for a retry after its embedding failed, and a sentence about it.
///
/// `tries` counts the failures: each of the first six takes away a third of the remaining text (of
/// `max_chars` characters at most), since models fail on long texts and on some ordinary ones.
pub fn shorter_text(text: &str, max_chars: usize, tries: u32) -> (String, String) {
    let characters = text.trim().chars().count().min(max_chars);
    let keep = (0..tries.min(6)).fold(characters, |keep, _| keep * 2 / 3).max(1);
    let text = cut(text, keep);
    (
        text.to_owned(),
        format!("the embedding is of the first {} of {characters} characters", text.chars().count()),
    )
}

/// Checks a vector: it must have `dimensions` finite numbers that are not all zero.
pub(super) fn checked(
    numbers: &[Option<f64>],
    model: &str,
    dimensions: u32,
) -> Result<Vec<f32>, ProviderError> {
    if numbers.is_empty() {
        return Err(ProviderError::bad_answer(format!("`{model}` returned an empty vector")));
    }
    if numbers.len() != dimensions as usize {
        let length = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        return Err(ProviderError::misconfigured(wrong_length(model, length, dimensions)));
    }
    let vector: Option<Vec<f32>> =
        numbers.iter().map(|number| number.map(|it| it as f32).filter(|it| it.is_finite())).collect();
    match vector {
        None => Err(ProviderError::bad_answer(format!(
            "`{model}` returned a vector with elements that are not finite numbers"
        ))),
        Some(vector) if vector.iter().all(|number| *number == 0.0) => {
            Err(ProviderError::bad_answer(format!("`{model}` returned a vector of zeros")))
        }
        Some(vector) => Ok(vector),
    }
}

/// The sentence about vectors of another length than configured.
pub(super) fn wrong_length(model: &str, length: u32, dimensions: u32) -> String {
    format!(
        "the vectors of `{model}` have {length} numbers, but provider.embedding_dimensions is {dimensions}; \
         set it to {length} or choose another provider.embedding_model"
    )
}

/// The error for a server that answers with another number of vectors than one.
pub(super) fn not_one(place: &str, count: usize) -> ProviderError {
    ProviderError::bad_answer(format!("{place} returned {count} vectors for one text"))
}

/// Scales a vector to length 1. The vector must not be zero.
pub(super) fn normalised(vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
    vector.into_iter().map(|number| (f64::from(number) / length) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_words() {
        assert_eq!(cut(" a red house ", 20), "a red house");
        assert_eq!(cut("a red house", 8), "a red");
        assert_eq!(cut("äöüäöüäöü", 4), "äöüä");
    }

    #[test]
    fn each_further_try_has_another_text() {
        let text = "one two three four five six";
        let tries: Vec<String> = (0..3).map(|tries| shorter_text(text, 1500, tries).0).collect();
        assert_eq!(tries, ["one two three four five six", "one two three four", "one two"]);
        assert_eq!(shorter_text("x", 1500, 9).0, "x");
    }

    #[test]
    fn an_invalid_vector_is_a_bad_answer_and_one_of_another_length_a_misconfiguration() {
        let error = |numbers: &[Option<f64>]| checked(numbers, "m", 2).expect_err("no vector");
        for wrong in [&[][..], &[None, Some(1.0)], &[Some(0.0), Some(0.0)], &[Some(1e300), Some(1.0)]] {
            assert!(matches!(error(wrong), ProviderError::BadAnswer { .. }), "{wrong:?}");
        }
        let ProviderError::Misconfigured { message } = error(&[Some(1.0)]) else {
            unreachable!("another length")
        };
        assert!(message.contains("set it to 1"), "{message}");
        assert_eq!(checked(&[Some(3.0), Some(4.0)], "m", 2).map(normalised), Ok(vec![0.6, 0.8]));
    }
}
