//! A model's answer, received piece by piece, and whether it is a valid text.

mod marks;
mod wrapping;

use self::marks::Unmarked;
use super::ProviderError;

/// Most bytes of a text. No description is that long.
const MAX_TEXT: usize = 64 << 10;
/// Number of characters at the end of a text that are searched for a repetition.
const TAIL: usize = 1200;
/// A text loops if it ends with this many repetitions of a chunk, which together have `MIN_LOOP` characters
/// or more.
const REPETITIONS: usize = 4;
const MIN_LOOP: usize = 160;
/// A growing text is searched for a loop after each this many bytes.
const CHECK_INTERVAL: usize = 256;
/// A truncated text must have this many characters in whole sentences.
const MIN_WHOLE_SENTENCES: usize = 50;

/// The answer received so far.
#[derive(Debug, Default)]
pub(super) struct Reply {
    text: String,
    /// Length of `text` at the last search for a loop.
    checked: usize,
    thinking: bool,
    truncated: bool,
}

/// A text that is complete enough for the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ValidText {
    /// The text: not empty.
    pub(super) text: String,
    /// Whether the token limit cut it. Its last, unfinished sentence is then dropped.
    pub(super) truncated: bool,
}

impl Reply {
    /// Appends the next piece.
    ///
    /// # Errors
    /// [`ProviderError::BadAnswer`] if the text grows too long or loops.
    pub(super) fn push(&mut self, piece: &str) -> Result<(), ProviderError> {
        self.text.push_str(piece);
        if self.text.len() > MAX_TEXT {
            return Err(ProviderError::bad_answer("the model does not stop: its text is longer than 64 KiB"));
        }
        if self.text.len() - self.checked >= CHECK_INTERVAL {
            self.checked = self.text.len();
            self.check_loop()?;
        }
        Ok(())
    }

    /// Records that the model wrote its reasoning, which is not a description.
    pub(super) fn set_thinking(&mut self) {
        self.thinking = true;
    }

    /// Records that the token limit ended the text.
    pub(super) fn set_truncated(&mut self) {
        self.truncated = true;
    }

    /// The text without reasoning, control tokens, and wrapping such as fences, JSON, an announcement or an
    /// offer of more help. A truncated one also loses its unfinished sentence. `limit` is the key of the token
    /// limit.
    ///
    /// # Errors
    /// [`ProviderError::BadAnswer`] if the text loops, or if nothing is left of it.
    pub(super) fn finish(mut self, model: &str, limit: &str) -> Result<ValidText, ProviderError> {
        self.check_loop()?;
        let text = without_control_characters(&self.text);
        let Unmarked { text, reasoned } = marks::unmark(&text);
        self.thinking |= reasoned;
        let answer = wrapping::unwrap(text);
        let answer = answer.trim();
        let whole = if self.truncated { whole_sentences(answer) } else { answer };
        match (whole.is_empty(), self.thinking, self.truncated) {
            (false, _, truncated) => Ok(ValidText { text: whole.to_owned(), truncated }),
            (true, true, _) => Err(ProviderError::bad_answer(format!(
                "`{model}` reasoned and gave no answer; raise {limit} or choose a model that does not think"
            ))),
            (true, false, true) => Err(ProviderError::bad_answer(format!(
                "`{model}` was cut off before it finished a sentence; raise {limit}"
            ))),
            (true, false, false) => Err(ProviderError::bad_answer(format!(
                "`{model}` answered with an empty text; if that happens often, try another model"
            ))),
        }
    }

    fn check_loop(&self) -> Result<(), ProviderError> {
        if ends_in_loop(&self.text) {
            return Err(ProviderError::bad_answer(
                "the model repeats itself without end; if that happens often, try another model or lower \
                 provider.max_image_tokens",
            ));
        }
        Ok(())
    }
}

/// A text without characters that control a terminal or the direction of writing. Lines and tabs stay.
fn without_control_characters(text: &str) -> String {
    let controls = |c: char| match c {
        '\n' | '\t' => false,
        '\u{feff}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        _ => c.is_control(),
    };
    text.chars().filter(|c| !controls(*c)).collect()
}

/// Whether a text ends with repetitions of one chunk.
fn ends_in_loop(text: &str) -> bool {
    let mut tail: Vec<char> = text.trim_end().chars().rev().take(TAIL).collect();
    tail.reverse();
    (1..=tail.len() / REPETITIONS).any(|period| {
        let length = (REPETITIONS * period).max(MIN_LOOP);
        length <= tail.len() && {
            let end = &tail[tail.len() - length..];
            end[period..].iter().zip(end).all(|(now, before)| now == before)
        }
    })
}

/// The text up to the end of its last whole sentence; empty if that is too short.
fn whole_sentences(text: &str) -> &str {
    let mut characters = text.char_indices().peekable();
    let mut end = 0;
    while let Some((at, c)) = characters.next() {
        let after = characters.peek().map(|(_, c)| *c);
        let ends = match c {
            '。' | '！' | '？' => true,
            '.' | '!' | '?' => after.is_none_or(|c| c.is_whitespace() || matches!(c, '"' | '”' | '\'' | ')')),
            _ => false,
        };
        if ends {
            end = at + c.len_utf8();
        }
    }
    if text[..end].chars().count() < MIN_WHOLE_SENTENCES { "" } else { &text[..end] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(text: &str, truncated: bool) -> Result<ValidText, String> {
        let mut reply = Reply::default();
        reply.push(text).map_err(ProviderError::into_message)?;
        if truncated {
            reply.set_truncated();
        }
        reply.finish("m", "provider.max_image_tokens").map_err(ProviderError::into_message)
    }

    #[test]
    fn loops_and_empty_texts_are_refused() {
        let loops =
            ["A dog runs on the beach. ".repeat(8), "ha".repeat(100), format!("A dog. {}", "!".repeat(200))];
        for text in &loops {
            assert!(finished(text, false).is_err_and(|it| it.contains("repeats itself")), "{text}");
        }
        for text in ["", " \n ", "<think>hm</think>", "<think>I wonder", "I wonder</think> "] {
            let sentence = finished(text, false).expect_err(text);
            assert_eq!(sentence.contains("reasoned"), text.contains("think"), "{sentence}");
        }
        for text in ["A dog. A dog. A dog. A cat.", "Ha ha ha ha!", &format!("Notes.....{}", ".".repeat(50))]
        {
            assert_eq!(finished(text, false), Ok(ValidText { text: text.into(), truncated: false }));
        }
    }

    #[test]
    fn the_reasoning_is_removed() {
        let text = finished("<think>Is it a dog?</think>\nA dog.", false).map(|it| it.text);
        assert_eq!(text, Ok("A dog.".into()));
    }

    #[test]
    fn wrapping_and_control_characters_are_removed() {
        let dog = "A brown dog runs along a wide beach beside the sea.";
        for text in [
            format!("Is it a dog?</think>Sure! Here it is:\n\n{dog}<|im_end|>"),
            format!("<|begin_of_box|>```json\n{{\"description\": \"{dog}\"}}\n```<|end_of_box|>"),
            "A brown dog\u{0} runs\u{7} along a wide\u{1b} beach\u{202e} beside the sea.\r\n".to_owned(),
        ] {
            assert_eq!(finished(&text, false).map(|it| it.text), Ok(dog.into()), "{text}");
        }
    }

    #[test]
    fn a_truncated_text_keeps_its_whole_sentences() {
        let whole = "A brown dog runs along a wide beach at 3.5 metres from the sea.";
        let kept = Ok(ValidText { text: whole.into(), truncated: true });
        assert_eq!(finished(&format!("{whole} In the ba"), true), kept);
        assert!(finished("A brown dog runs along a wide beach and then over the d", true).is_err());
        assert!(
            finished("Dog. A brown dog runs along a wide beach and then over", true)
                .is_err_and(|it| it.contains("cut off"))
        );
    }

    #[test]
    fn an_endless_text_is_stopped_while_it_is_received() {
        let mut reply = Reply::default();
        let stopped = (0..10_000).find(|at| reply.push(&format!("{at} things. ")).is_err());
        assert!(stopped.is_some_and(|at| at < 6_000));
        let mut reply = Reply::default();
        let stopped = (0..10_000).find(|_| reply.push("a dog and ").is_err());
        assert!(stopped.is_some_and(|at| at < 60), "{stopped:?}");
    }
}
