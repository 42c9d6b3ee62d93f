//! Text of files, models and dumps, made harmless for people's screens: a terminal obeys control characters.

use std::borrow::Cow;

/// Returns `true` for characters that a terminal obeys, or that turn the direction in which text is shown.
fn is_obeyed(it: char) -> bool {
    it.is_control() || matches!(it, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text on one line without control characters, to be printed: names, descriptions, sentences about them.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let shown = |it: char| match it {
        '\n' | '\r' | '\t' => ' ',
        it if is_obeyed(it) => char::REPLACEMENT_CHARACTER,
        it => it,
    };
    Cow::Owned(text.chars().map(shown).collect())
}

/// Text without control characters other than line breaks, to be stored.
pub fn plain(text: String) -> String {
    if !text.contains(|it| is_obeyed(it) && it != '\n') {
        return text;
    }
    let text = text.replace("\r\n", "\n").replace('\r', "\n").replace('\t', " ");
    text.chars().filter(|it| *it == '\n' || !is_obeyed(*it)).collect()
}

/// Lines of JSON in which the control characters that JSON allows in strings are escaped, too.
pub fn json_line(line: String) -> String {
    let is_obeyed = |it: char| it != '\n' && is_obeyed(it);
    if !line.contains(is_obeyed) {
        return line;
    }
    let mut escaped = String::with_capacity(line.len() + 16);
    for it in line.chars() {
        if is_obeyed(it) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(it)));
        } else {
            escaped.push(it);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}]0;title\u{7}b\r\nc\u{9b}31m\td\u{202e}e\u{7f}";

    #[test]
    fn no_control_character_is_left() {
        let printed = one_line(HOSTILE);
        assert_eq!(printed, "a\u{fffd}]0;title\u{fffd}b  c\u{fffd}31m d\u{fffd}e\u{fffd}");
        assert_eq!(plain(HOSTILE.to_owned()), "a]0;titleb\nc31m de");
        assert!(matches!(one_line("Grüße, 写真 👋"), Cow::Borrowed(_)));
        assert_eq!(plain("two\nlines".to_owned()), "two\nlines");
    }

    #[test]
    fn an_escaped_line_of_json_means_the_same() {
        let line = serde_json::to_string(HOSTILE).expect("JSON");
        let escaped = json_line(line.clone());
        assert!(line.contains('\u{9b}') && !escaped.contains(is_obeyed), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).expect("JSON"), HOSTILE);
    }
}
