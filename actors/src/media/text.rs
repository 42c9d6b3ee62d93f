//! Text from files: in any coding that makers use, without characters that only steer a display.

/// Decodes UTF-8, which may be cut in its last character, or otherwise Latin-1.
pub(super) fn decoded(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => {
            String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned()
        }
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    }
}

/// One line of at most `most` characters, without control and formatting characters. Returns `None` if
/// nothing is left.
pub(super) fn line(text: &str, most: usize) -> Option<String> {
    let shown = |c: char| {
        // Invisible characters that turn the direction of a text, or mark its coding.
        let formats = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffd}');
        if c.is_control() || formats { ' ' } else { c }
    };
    let text: String = text.chars().map(shown).collect();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > most * 4 {
            break;
        }
    }
    let line: String = line.chars().take(most).collect();
    let line = line.trim_end();
    (!line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_decoded_whatever_its_coding() {
        assert_eq!(decoded("Bühler €".as_bytes()), "Bühler €");
        assert_eq!(decoded(b"B\xfchler"), "Bühler");
        assert_eq!(decoded(&"Bühler".as_bytes()[..2]), "B", "cut in a character");
        assert_eq!(decoded(b""), "");
    }

    #[test]
    fn a_line_has_nothing_that_steers_a_display() {
        assert_eq!(line(" a\u{202e}b\r\n\u{1b}[2Jc\0 ", 50).as_deref(), Some("a b [2Jc"));
        assert_eq!(line(&"ж".repeat(90_000), 200).map(|it| it.chars().count()), Some(200));
        assert_eq!(line("\u{feff}\0\n", 50), None);
    }
}
