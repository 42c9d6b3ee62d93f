//! Wrapping that models put around an answer: fences, JSON, an announcement before it, an offer behind it.

use std::borrow::Cow;

use serde_json::Value;

/// Names under which models put a description into JSON, the best first.
const NAMES: [&str; 12] = [
    "description",
    "detailed_description",
    "image_description",
    "caption",
    "answer",
    "response",
    "text",
    "content",
    "output",
    "result",
    "summary",
    "alt_text",
];

/// Words that are an announcement by themselves, in lower case: "Sure!".
const INTERJECTIONS: [&str; 17] = [
    "sure",
    "certainly",
    "of course",
    "absolutely",
    "okay",
    "ok",
    "great",
    "alright",
    "yes",
    "natürlich",
    "gerne",
    "selbstverständlich",
    "bien sûr",
    "certainement",
    "claro",
    "por supuesto",
    "certamente",
];

/// First words of an announcement that a colon ends, in lower case.
const ANNOUNCING: [&str; 29] = [
    "here is",
    "here it is",
    "here's",
    "here’s",
    "here are",
    "below is",
    "the following is",
    "this is a description",
    "description",
    "image description",
    "detailed description",
    "photo description",
    "caption",
    "answer",
    "final answer",
    "output",
    "hier ist",
    "hier eine",
    "beschreibung",
    "bildbeschreibung",
    "voici",
    "aquí tienes",
    "aquí está",
    "a continuación",
    "descripción",
    "ecco",
    "descrizione",
    "aqui está",
    "descrição",
];

/// First words of a paragraph that speaks to the user after the description, in lower case.
const CLOSING: [&str; 34] = [
    "let me know",
    "please let me know",
    "i hope this",
    "i hope that",
    "hope this helps",
    "feel free",
    "if you would like",
    "if you'd like",
    "if you’d like",
    "if you want",
    "if you need",
    "if you have any",
    "would you like",
    "do you want me",
    "is there anything",
    "shall i",
    "should you need",
    "do you need",
    "lassen sie mich wissen",
    "lass mich wissen",
    "ich hoffe",
    "möchten sie",
    "möchtest du",
    "wenn du möchtest",
    "wenn sie möchten",
    "n'hésitez pas",
    "n’hésitez pas",
    "j'espère",
    "souhaitez-vous",
    "espero que",
    "¿te gustaría",
    "¿quieres que",
    "¿necesitas",
    "avísame",
];

/// Most characters of an announcement.
const MAX_ANNOUNCEMENT: usize = 120;

/// Removes the wrapping. A text that is nothing else stays as it is.
pub(super) fn unwrap(text: &str) -> Cow<'_, str> {
    let text = without_announcement(text.trim());
    let text = match unfenced(text) {
        Some(inside) => inside,
        None => text,
    };
    if let Some(inside) = from_json(text) {
        return Cow::Owned(unwrap_prose(&inside).to_owned());
    }
    Cow::Borrowed(unwrap_prose(text))
}

fn unwrap_prose(text: &str) -> &str {
    without_closing(without_quotes(without_announcement(text.trim())))
}

/// The inside of the first fence, if it comes first or holds JSON.
fn unfenced(text: &str) -> Option<&str> {
    let at = text.find("```")?;
    let after = &text[at + 3..];
    let (language, inside) = after.split_once('\n').unwrap_or(("", after));
    let inside = if language.trim().chars().all(|c| c.is_ascii_alphanumeric()) { inside } else { after };
    let inside = inside.split("```").next().unwrap_or_default().trim();
    (at == 0 || inside.starts_with('{')).then_some(inside).filter(|it| !it.is_empty())
}

/// The description in a JSON value, also in one that was cut. `None` if the text is not JSON, or if the value
/// has no text.
fn from_json(text: &str) -> Option<String> {
    let first = text.chars().next().filter(|c| matches!(c, '{' | '['))?;
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    match values.next() {
        Some(Ok(value)) => described_in(&value),
        // Cut or invalid JSON.
        Some(Err(_)) if first == '{' => NAMES.iter().find_map(|name| string_after(text, name)),
        Some(Err(_)) | None => None,
    }
}

fn described_in(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|it| !it.trim().is_empty()),
        Value::Array(values) => values.iter().find_map(described_in),
        Value::Object(fields) => {
            // A schema describes answers, and no picture.
            if fields.contains_key("properties") || fields.contains_key("$schema") {
                return None;
            }
            let named = |name: &&str| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            let named = NAMES.iter().find_map(|name| described_in(named(name)?.1));
            let longest = || {
                let texts = fields.values().filter_map(Value::as_str);
                texts.max_by_key(|it| it.len()).filter(|it| it.contains(' ')).map(str::to_owned)
            };
            named
                .or_else(longest)
                .or_else(|| fields.values().filter(|it| it.is_object()).find_map(described_in))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// The string behind a key in invalid JSON, up to its end or to the end of the text.
fn string_after(text: &str, name: &str) -> Option<String> {
    let key = format!("\"{name}\"");
    let after = text[text.find(&key)? + key.len()..].trim_start().strip_prefix(':')?.trim_start();
    let raw = after.strip_prefix('"')?;
    let mut escaped = false;
    let end = raw.char_indices().find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    let raw = end.map_or(raw, |(end, _)| &raw[..end]);
    let whole = raw.trim_end_matches('\\').replace('\n', "\\n");
    let text: String = serde_json::from_str(&format!("\"{whole}\"")).unwrap_or_else(|_| raw.to_owned());
    Some(text).filter(|it| !it.trim().is_empty())
}

/// The text behind "Sure! Here is a description of the image:" and the like.
fn without_announcement(text: &str) -> &str {
    let mut text = text;
    // "Sure!", "Here is the description:", "**Description:**" may follow one another.
    for _ in 0..3 {
        let bare = text.trim_start_matches(['*', '#', '_', '>', ' ']);
        let Some(end) = announcement_end(bare) else { return text };
        let rest = bare[end..].trim_start_matches(['*', '_', ' ', '\n', '\r', '\t']);
        if rest.is_empty() {
            return text;
        }
        text = rest;
    }
    text
}

/// The end of an announcement that begins a text.
fn announcement_end(text: &str) -> Option<usize> {
    let head: String = text.chars().take(MAX_ANNOUNCEMENT).collect();
    let lower = head.to_lowercase();
    let begins = INTERJECTIONS.iter().chain(&ANNOUNCING).filter(|it| begins_with_words(&lower, it));
    let begin = begins.max_by_key(|it| it.len())?;
    // A colon ends it, within the first line. "Sure!" alone is one too.
    let line = head.lines().next().unwrap_or_default();
    let colon = line.find(':').map(|at| at + 1);
    let marks = ["!", ".", ","];
    let exclaimed = marks.iter().find(|mark| lower[begin.len()..].starts_with(**mark));
    match (exclaimed, colon) {
        // Lower case may have another length, so the end is taken from the text itself.
        (Some(_), _) if INTERJECTIONS.contains(begin) => text.find(['!', '.', ',']).map(|at| at + 1),
        (_, Some(colon)) => Some(colon),
        // A heading of its own line: "## Description".
        (None, None) if line.len() < head.len() && line.trim_end_matches(['*', ' ']).len() == begin.len() => {
            Some(line.len())
        }
        _ => None,
    }
}

fn begins_with_words(text: &str, words: &str) -> bool {
    text.strip_prefix(words).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
}

/// The text without a last paragraph that speaks to the user.
fn without_closing(text: &str) -> &str {
    let mut text = text.trim();
    while let Some((before, last)) = text.rsplit_once('\n') {
        let lower = last.trim_start_matches(['*', '_', '-', ' ']).to_lowercase();
        let speaks = CLOSING.iter().any(|it| begins_with_words(&lower, it)) || last.trim() == "---";
        if !speaks || before.trim().is_empty() {
            return text;
        }
        text = before.trim_end();
    }
    text
}

/// The inside of quotation marks around a whole text.
fn without_quotes(text: &str) -> &str {
    [('"', '"'), ('“', '”'), ('„', '“'), ('«', '»')]
        .into_iter()
        .find_map(|(open, close)| text.strip_prefix(open)?.strip_suffix(close))
        .filter(|it| !it.contains(['"', '“', '”', '„', '«', '»']))
        .map_or(text, str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOG: &str = "A brown dog runs along a wide beach. A sign says: “No dogs”.";

    #[test]
    fn fences_and_json_are_removed() {
        let json = serde_json::json!({ "title": "Dog", "description": DOG, "tags": ["dog"] });
        let list = serde_json::json!([{ "Caption": DOG }]);
        let nested = serde_json::json!({ "picture": { "text": DOG } });
        for text in [
            format!("```json\n{json}\n```"),
            format!("```\n{DOG}\n```"),
            format!("Here is the JSON:\n```json\n{json}\n```\nLet me know if it helps."),
            json.to_string(),
            list.to_string(),
            nested.to_string(),
            format!("{json}\nI hope this helps!"),
            format!("\"{}\"", "A brown dog runs along a wide beach."),
        ] {
            let unwrapped = unwrap(&text);
            assert!(DOG.starts_with(&*unwrapped) && unwrapped.len() > 30, "{text}: {unwrapped}");
        }
    }

    #[test]
    fn cut_json_gives_the_text_so_far() {
        assert_eq!(
            unwrap(r#"{"title": "Dog", "description": "A brown dog runs\nalong a \"wide\" be"#),
            "A brown dog runs\nalong a \"wide\" be"
        );
        assert_eq!(unwrap(r#"{"description": "A brown dog.", "tags": ["do"#), "A brown dog.");
        assert_eq!(unwrap(r#"{"description": "A brown dog\"#), "A brown dog");
    }

    #[test]
    fn json_without_a_text_stays() {
        for text in [
            r#"{"tags": []}"#,
            "[1, 2]",
            "[]",
            "{",
            "[A dog] runs.",
            r#"{"type": "object", "properties": {"description": {"type": "string"}}}"#,
        ] {
            assert_eq!(unwrap(text), text);
        }
    }

    #[test]
    fn announcements_and_offers_are_removed() {
        for before in [
            "Sure! Here is a detailed description of the image:\n\n",
            "Here's a description of the photo: ",
            "Certainly. ",
            "**Description:** ",
            "## Description\n",
            "Sure, here is the caption:\n\n**Caption:**\n",
            "Natürlich! Hier ist eine Beschreibung des Bildes:\n\n",
            "Voici une description de l'image :\n\n",
            "Aquí tienes una descripción: ",
        ] {
            for after in [
                "",
                "\n\nLet me know if you would like me to change anything!",
                "\n\n---\n\nWould you like a shorter one?",
                "\nIch hoffe, das hilft!",
            ] {
                assert_eq!(unwrap(&format!("{before}{DOG}{after}")), DOG, "{before}{after}");
            }
        }
    }

    #[test]
    fn a_description_with_such_words_stays() {
        for text in [
            DOG,
            "Here a dog lies on a sofa: it is asleep.",
            "Great waves break on a beach.",
            "Description cards hang on a wall.",
            "A letter on a table begins: Sure! Here is the key.",
            "A brown dog.\n\nA second dog lies beside it.",
            "OK is written on a sign.",
            "“Open” and “Closed” are written on two signs.",
            "Sure",
            "Here is a description:",
            "",
        ] {
            assert_eq!(unwrap(text), text);
        }
    }
}
