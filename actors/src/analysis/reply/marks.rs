//! Marks that models and chat templates leave around an answer: reasoning, channels, boxes and end tokens. The
//! families were collected from the chat templates of Qwen, DeepSeek, Kimi, GLM, Mistral, gpt-oss, Gemma,
//! MedGemma, Command A, Seed and Llama.

/// Begin and end of reasoning, in lower case.
const REASONING: [(&str, &str); 13] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<thoughts>", "</thoughts>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
    ("[think]", "[/think]"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|start_thinking|>", "<|end_thinking|>"),
    ("<unused94>", "<unused95>"),
    ("<|channel>thought", "<channel|>"),
];

/// Begin and end of the answer itself, in lower case.
const ANSWER: [(&str, &str); 5] = [
    ("<|begin_of_box|>", "<|end_of_box|>"),
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
    ("<|start_response|>", "<|end_response|>"),
    ("<answer>", "</answer>"),
    ("<description>", "</description>"),
];

/// Tokens before an answer, in lower case.
const BEGIN: [&str; 9] = [
    "<|im_start|>assistant",
    "<|start_header_id|>assistant<|end_header_id|>",
    "<start_of_turn>model",
    "<|start|>assistant",
    "<|assistant|>",
    "<|begin_of_text|>",
    "<|im_start|>",
    "<bos>",
    "<s>",
];

/// Tokens after an answer, in lower case. Text behind the first of them belongs to another turn.
const END: [&str; 19] = [
    "<end_of_turn>",
    "<start_of_turn>",
    "<|im_end|>",
    "<|im_start|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|return|>",
    "<|user|>",
    "<|observation|>",
    "<|end_of_turn_token|>",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
    "<eos>",
    "</s>",
    "[/inst]",
    "[inst]",
];

/// An answer without its marks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unmarked<'a> {
    pub(super) text: &'a str,
    /// Whether the model wrote reasoning.
    pub(super) reasoned: bool,
}

/// Removes reasoning, channels, boxes and end tokens. The text that is left may be empty.
pub(super) fn unmark(text: &str) -> Unmarked<'_> {
    let (text, mut reasoned) = final_channel(text);
    let text = without_begin(text.trim());
    let (text, found) = without_reasoning(text);
    reasoned |= found;
    let text = boxed(without_begin(text));
    Unmarked { text: before_end(text).trim(), reasoned }
}

/// The final channel of gpt-oss; `true` if there are others.
fn final_channel(text: &str) -> (&str, bool) {
    const MARK: &str = "<|channel|>";
    let Some(first) = find(text, MARK) else { return (text, false) };
    let Some(at) = rfind(text, "<|channel|>final") else { return (&text[..first], true) };
    let after = &text[at..];
    let answer = find(after, "<|message|>").map_or("", |mark| &after[mark + "<|message|>".len()..]);
    (answer, first < at)
}

/// The text behind the last reasoning; `true` if there is any. A chat template that opens the reasoning itself
/// leaves only its end in the text.
fn without_reasoning(text: &str) -> (&str, bool) {
    let end = REASONING.iter().filter_map(|(_, close)| Some(rfind(text, close)? + close.len())).max();
    let (rest, mut reasoned) = end.map_or((text, false), |end| (&text[end..], true));
    // Reasoning that has no end lasts to the end of the text.
    let open = REASONING.iter().filter_map(|(open, _)| find(rest, open)).min();
    reasoned |= open.is_some();
    (open.map_or(rest, |open| &rest[..open]).trim(), reasoned)
}

/// The inside of the first box, otherwise the whole text.
fn boxed(text: &str) -> &str {
    let Some((at, open, close)) =
        ANSWER.iter().filter_map(|(open, close)| Some((find(text, open)?, open, close))).min()
    else {
        return text;
    };
    let inside = &text[at + open.len()..];
    find(inside, close).map_or(inside, |end| &inside[..end]).trim()
}

fn without_begin(text: &str) -> &str {
    let mut text = text;
    while let Some(mark) = BEGIN.iter().find(|mark| find(text, mark) == Some(0)) {
        text = text[mark.len()..].trim_start();
    }
    text
}

fn before_end(text: &str) -> &str {
    END.iter().filter_map(|mark| find(text, mark)).min().map_or(text, |end| &text[..end])
}

/// Position of a mark, whatever its case. The mark is in lower case.
fn find(text: &str, mark: &str) -> Option<usize> {
    positions(text, mark).next()
}

fn rfind(text: &str, mark: &str) -> Option<usize> {
    positions(text, mark).next_back()
}

fn positions<'a>(text: &'a str, mark: &'a str) -> impl DoubleEndedIterator<Item = usize> + 'a {
    let starts = move |at: &usize| {
        text.as_bytes()[*at..].get(..mark.len()).is_some_and(|it| it.eq_ignore_ascii_case(mark.as_bytes()))
    };
    // Every mark begins with a character of its own, so the other positions need no comparison.
    let first = mark.as_bytes().first().copied().unwrap_or_default();
    let begins = move |(at, byte): (usize, &u8)| (*byte == first).then_some(at);
    text.as_bytes().iter().enumerate().filter_map(begins).filter(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOG: &str = "A brown dog runs along a wide beach. A sign says “<no> dogs”.";

    fn reasoned(text: &str) -> Unmarked<'_> {
        Unmarked { text, reasoned: true }
    }

    #[test]
    fn reasoning_of_every_family_is_removed() {
        for (open, close) in REASONING {
            for text in [
                format!("{open}Is it a dog?{close}\n\n{DOG}"),
                format!("Is it a dog?{close}{DOG}"),
                format!("{}Is it?{}{DOG}", open.to_uppercase(), close.to_uppercase()),
                format!("{open}Is it?{close} Hm. {open}It is.{close}{DOG}"),
                format!("{DOG}{open}Is it a dog?"),
            ] {
                assert_eq!(unmark(&text), reasoned(DOG), "{text}");
            }
            assert_eq!(unmark(&format!("{open}Is it a dog?")), reasoned(""));
            assert_eq!(unmark(&format!("{open}Is it a dog?{close}")), reasoned(""));
        }
    }

    #[test]
    fn only_the_final_channel_is_an_answer() {
        let analysis = "<|channel|>analysis<|message|>The user wants a description.<|end|>";
        let last = format!("<|start|>assistant<|channel|>final<|message|>{DOG}");
        assert_eq!(unmark(&format!("{analysis}{last}")), reasoned(DOG));
        assert_eq!(unmark(&format!("{analysis}{last}<|return|>")), reasoned(DOG));
        assert_eq!(unmark(&last), Unmarked { text: DOG, reasoned: false });
        assert_eq!(unmark(analysis), reasoned(""));
        assert_eq!(unmark("<|channel|>final"), Unmarked { text: "", reasoned: false });
    }

    #[test]
    fn boxes_and_tokens_of_turns_are_removed() {
        let answer = Unmarked { text: DOG, reasoned: false };
        for (open, close) in ANSWER {
            assert_eq!(unmark(&format!("Here it is: {open}{DOG}{close}")), answer);
            assert_eq!(unmark(&format!("{open}{DOG}")), answer);
        }
        for begin in BEGIN {
            assert_eq!(unmark(&format!("{begin}\n{DOG}")), answer, "{begin}");
        }
        for end in END {
            assert_eq!(unmark(&format!("{DOG}{end}\nuser: What else?")), answer, "{end}");
        }
        assert_eq!(unmark(DOG), answer);
        assert_eq!(unmark(""), Unmarked { text: "", reasoned: false });
    }
}
