//! What a model said, piece by piece, and whether it is a text at all.

use super::ProviderError;

/// Most bytes of a text; no description is that long.
const MAX_TEXT: usize = 64 << 10;
/// Characters at the end of a text in which a repetition is looked for.
const TAIL: usize = 1200;
/// A chunk that stands at the end of the text this often, ...
const REPEATS: usize = 4;
/// ... over at least so many characters, is an endless repetition.
const LEAST: usize = 160;
/// New bytes after which a text is looked at again.
const EVERY: usize = 256;
/// A text that was cut short must still have so many characters in whole sentences.
const LEAST_KEPT: usize = 50;

/// What a model has said so far.
#[derive(Debug, Default)]
pub(super) struct Reply {
    text: String,
    checked: usize,
    thought: bool,
    cut: bool,
}

/// A text that may be audited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sound {
    /// The text: not empty.
    pub(super) text: String,
    /// The token limit cut it, and its last, unfinished sentence was dropped.
    pub(super) cut: bool,
}

impl Reply {
    /// Takes the next piece.
    pub(super) fn push(&mut self, piece: &str) -> Result<(), ProviderError> {
        self.text.push_str(piece);
        if self.text.len() > MAX_TEXT {
            return Err(ProviderError::bad(
                "the model does not stop talking; the text is longer than 64 KiB",
            ));
        }
        if self.text.len() - self.checked >= EVERY {
            self.checked = self.text.len();
            self.check_repetition()?;
        }
        Ok(())
    }

    /// Notes that the model thought aloud, which is no description.
    pub(super) fn thinks(&mut self) {
        self.thought = true;
    }

    /// Notes that the token limit ended it.
    pub(super) fn is_cut(&mut self) {
        self.cut = true;
    }

    /// The text without thinking and, where it was cut, without the unfinished sentence. `limit` is the key of the token limit.
    pub(super) fn finish(mut self, model: &str, limit: &str) -> Result<Sound, ProviderError> {
        self.check_repetition()?;
        // Templates that open the thinking themselves leave only its end in the text.
        let said = match self.text.rsplit_once("</think>") {
            Some((_, after)) => {
                self.thought = true;
                after
            }
            None if self.text.trim_start().starts_with("<think>") => {
                self.thought = true;
                ""
            }
            None => &self.text,
        };
        let said = said.trim();
        let whole = if self.cut { whole_sentences(said) } else { said };
        match (whole.is_empty(), self.thought, self.cut) {
            (false, _, cut) => Ok(Sound { text: whole.to_owned(), cut }),
            (true, true, _) => Err(ProviderError::bad(format!(
                "`{model}` only thought and said nothing; raise {limit} or choose a model that does not think"
            ))),
            (true, false, true) => Err(ProviderError::bad(format!(
                "`{model}` was cut off before a sentence was done; raise {limit}"
            ))),
            (true, false, false) => Err(ProviderError::bad(format!(
                "`{model}` answered with an empty text; if that happens often, try another model"
            ))),
        }
    }

    fn check_repetition(&self) -> Result<(), ProviderError> {
        if repeats(&self.text) {
            return Err(ProviderError::bad(
                "the model repeats itself without end; if that happens often, try another model or lower provider.max_image_tokens",
            ));
        }
        Ok(())
    }
}

/// Whether a text ends with the same chunk over and over.
fn repeats(text: &str) -> bool {
    let mut tail: Vec<char> = text.trim_end().chars().rev().take(TAIL).collect();
    tail.reverse();
    (1..=tail.len() / REPEATS).any(|period| {
        let length = (REPEATS * period).max(LEAST);
        length <= tail.len() && {
            let end = &tail[tail.len() - length..];
            end[period..].iter().zip(end).all(|(now, before)| now == before)
        }
    })
}

/// The part up to the end of the last whole sentence; empty if that is next to nothing.
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
    if text[..end].chars().count() < LEAST_KEPT { "" } else { &text[..end] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, cut: bool) -> Result<Sound, String> {
        let mut reply = Reply::default();
        reply.push(text).map_err(ProviderError::into_message)?;
        if cut {
            reply.is_cut();
        }
        reply.finish("m", "provider.max_image_tokens").map_err(ProviderError::into_message)
    }

    #[test]
    fn texts_that_are_none_are_told_from_texts() {
        let loops =
            ["A dog runs on the beach. ".repeat(8), "ha".repeat(100), format!("A dog. {}", "!".repeat(200))];
        for text in &loops {
            assert!(said(text, false).is_err_and(|it| it.contains("repeats itself")), "{text}");
        }
        for text in ["", " \n ", "<think>hm</think>", "<think>I wonder", "I wonder</think> "] {
            let sentence = said(text, false).expect_err(text);
            assert_eq!(sentence.contains("only thought"), text.contains("think"), "{sentence}");
        }
        for text in ["A dog. A dog. A dog. A cat.", "Ha ha ha ha!", &format!("Notes.....{}", ".".repeat(50))]
        {
            assert_eq!(said(text, false), Ok(Sound { text: text.into(), cut: false }));
        }
    }

    #[test]
    fn thinking_is_taken_off() {
        assert_eq!(said("<think>Is it a dog?</think>\nA dog.", false).map(|it| it.text), Ok("A dog.".into()));
    }

    #[test]
    fn of_a_text_that_was_cut_the_whole_sentences_are_kept() {
        let whole = "A brown dog runs along a wide beach at 3.5 metres from the sea.";
        assert_eq!(said(&format!("{whole} In the ba"), true), Ok(Sound { text: whole.into(), cut: true }));
        assert!(said("A brown dog runs along a wide beach and then over the d", true).is_err());
        assert!(
            said("Dog. A brown dog runs along a wide beach and then over", true)
                .is_err_and(|it| it.contains("cut off"))
        );
    }

    #[test]
    fn a_text_without_end_is_stopped_while_it_comes() {
        let mut reply = Reply::default();
        let stopped = (0..10_000).find(|at| reply.push(&format!("{at} things. ")).is_err());
        assert!(stopped.is_some_and(|at| at < 6_000));
        let mut reply = Reply::default();
        let stopped = (0..10_000).find(|_| reply.push("a dog and ").is_err());
        assert!(stopped.is_some_and(|at| at < 60), "{stopped:?}");
    }
}
