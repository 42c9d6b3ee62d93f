//! The prompts. A change of one of them needs a higher [`VERSION`], which marks the descriptions that were
//! made with it.

/// Version of the prompts.
pub(super) const VERSION: u32 = 1;

const RULES: &str = "Say only what can be seen; leave out what you would have to guess, such as names, \
                     feelings and what happened before. If there is writing, quote the words that matter. \
                     Use whole, plain sentences without headings, lists or markup, and begin with what is \
                     shown instead of announcing it.";

/// Asks what a photo shows.
pub(super) fn picture(language: &str, variation: u32) -> String {
    format!(
        "Someone will look for this photo months from now by typing a few words. Write the description \
         that lets them find it: who or what is in it and how many, what they do, where it is, the main \
         colours, the light and the weather where it shows, and the kind of picture (photo, screenshot, \
         drawing, document). {RULES}{}",
        last_words(language, variation)
    )
}

/// Asks what one frame of a video shows.
pub(super) fn frame(language: &str, variation: u32, number: usize, frames: usize, second: f64) -> String {
    format!(
        "This is frame {number} of {frames} from a video, {} after its start. Describe in two to four \
         sentences who or what is in it, what they do, and where it is. {RULES}{}",
        clock(second),
        last_words(language, variation)
    )
}

/// Asks for one description of a video, from the descriptions of its frames.
pub(super) fn video(language: &str, variation: u32, frames: &[(f64, String)]) -> String {
    let notes: String =
        frames.iter().map(|(second, text)| format!("\n[{}] {text}", clock(*second))).collect();
    format!(
        "These notes describe single frames of one video, each with its time from the \
         start.{notes}\n\nWrite one description of the whole video for somebody who will look for it by \
         typing a few words: what it shows, what happens in which order, who or what appears, and where. \
         Say each thing once, even if several notes have it, add nothing that no note has, and do not \
         speak of frames or notes. Use whole, plain sentences without headings, lists or markup.{}",
        last_words(language, variation)
    )
}

/// The prompts without their variable parts: the text that an echo of a question repeats.
pub(super) fn fixed_texts() -> [String; 3] {
    [picture("", 0), frame("", 0, 1, 1, 0.0), video("", 0, &[])]
}

/// The end of a prompt. A repeated question differs in it, for servers that ignore the sampling.
fn last_words(language: &str, variation: u32) -> String {
    let brief = match variation {
        0 => "",
        1 => " Be brief: three to six sentences.",
        _ => " Be very brief: two or three sentences.",
    };
    format!("{brief} Write in {language}.")
}

fn clock(second: f64) -> String {
    let seconds = second.max(0.0) as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_repetition_of_a_question_is_worded_differently() {
        let asked: Vec<String> = (0..3).map(|variation| picture("English", variation)).collect();
        assert!(asked[0] != asked[1] && asked[1] != asked[2]);
    }

    #[test]
    fn a_prompt_has_the_language_and_the_time_of_a_frame() {
        let text = video("German", 0, &[(0.0, "A dog.".into()), (61.5, "A cat.".into())]);
        assert!(
            text.contains("[0:00] A dog.")
                && text.contains("[1:01] A cat.")
                && text.ends_with("Write in German.")
        );
        assert!(frame("French", 0, 2, 10, 3.0).contains("frame 2 of 10 from a video, 0:03 after"));
    }
}
