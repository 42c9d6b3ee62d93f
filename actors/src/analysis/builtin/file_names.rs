//! Words in the names of a file and its folders that a person chose: `beach party.jpg` has some,
//! `IMG_1234.JPG` and `3f9a1c….png` have none.

/// Most words of a file's and its folders' names together.
const MAX_WORDS: usize = 6;
/// Most characters of a word. A longer one was not typed by a person.
const MAX_CHARACTERS: usize = 24;

/// Words of cameras, phones, programs and file systems, which say nothing about the picture.
const EMPTY: &str = "\
    album android archive attachment attachments avi backup bak bilder bmp burst camera capture copy crop \
    cropped data dcim default desktop dji doc documents download downloads drive dropbox dsc dscf dscn \
    edit edited export exported fb file files final folder foto fotos frame full gallery gif gopr gopro \
    hdr heic home image images img import internal jpeg jpg kopie large media medium mkv mnt mov movie mp4 \
    mvi new original output pano photo photos pic pics pict picture pictures png preview pxl raw received \
    resized roll scan screen sent shared small storage telegram temp thumb thumbnail tiff tmp unnamed \
    untitled upload uploads user users vid video videos webp whatsapp";

/// Short words that join others and mean nothing alone.
const GLUE: &str = "\
    a an and at by das de der die for from in la le my of on our the to und with";

/// The meaningful words in the names of a file and its folders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileNames {
    /// Words of the file's name, as they were written; `None` if no word has a meaning.
    pub file: Option<String>,
    /// Words of each folder's name, from the inside out, without names that have no meaning.
    pub folders: Vec<String>,
}

impl FileNames {
    /// Reads the names of a file (first) and its folders.
    pub fn parse(names: &[String]) -> Self {
        let mut left = MAX_WORDS;
        let mut found = names.iter().enumerate().map(|(at, name)| {
            let stem = if at == 0 { without_extension(name) } else { name };
            let words = meaningful(stem, left);
            left -= words.len();
            words.join(" ")
        });
        let file = found.next().filter(|words| !words.is_empty());
        let mut folders = Vec::new();
        for words in found {
            let said = file.iter().chain(&folders).any(|before: &String| before.eq_ignore_ascii_case(&words));
            if !words.is_empty() && !said {
                folders.push(words);
            }
        }
        Self { file, folders }
    }
}

fn without_extension(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() && extension.len() <= 5 && !extension.contains(' ') => {
            stem
        }
        _ => name,
    }
}

/// The words that a person chose, at most `limit`.
fn meaningful(name: &str, limit: usize) -> Vec<String> {
    if is_identifier(name) {
        return Vec::new();
    }
    let mut words: Vec<String> = Vec::new();
    let mut skipped = false;
    for piece in name.split(|c: char| !c.is_alphanumeric() && !is_mark(c) && !is_apostrophe(c)) {
        let piece = piece.trim_matches(is_apostrophe);
        if piece.is_empty() {
            continue;
        }
        let parts = camel(piece);
        let torn = parts.len() > 1 && parts.iter().any(|part| part.chars().count() < 3);
        // A word with a digit is a number, a size or an id: `dsc01234`, `12mp`, `a3f9`.
        if piece.chars().any(char::is_numeric) || is_empty(piece) || torn {
            skipped = true;
            continue;
        }
        for part in parts {
            // A joining word at the beginning lost the word before it.
            let loose = words.is_empty() && skipped && is_glue(&part);
            if is_word(&part) && !loose && words.len() < limit && words.last() != Some(&part) {
                words.push(part);
            }
        }
    }
    // A joining word at the end joins nothing.
    while words.last().is_some_and(|word| is_glue(word)) {
        words.pop();
    }
    words
}

fn is_glue(word: &str) -> bool {
    among(GLUE, word)
}

fn among(list: &str, word: &str) -> bool {
    let lower = word.to_lowercase();
    list.split_whitespace().any(|other| other == lower)
}

fn is_empty(word: &str) -> bool {
    among(EMPTY, word)
}

fn is_word(word: &str) -> bool {
    if is_glue(word) {
        return true;
    }
    let lower = word.to_lowercase().replace(is_apostrophe, "");
    let characters = lower.chars().count();
    let latin = lower.is_ascii();
    let voiced = !latin || lower.contains(['a', 'e', 'i', 'o', 'u', 'y']);
    let hexadecimal = characters >= 8 && lower.chars().all(|c| c.is_ascii_hexdigit());
    (if latin { 3 } else { 1 }..=MAX_CHARACTERS).contains(&characters)
        && voiced
        && !hexadecimal
        && !is_empty(word)
}

/// Whether a name is a UUID, a checksum or random: only separators and at least twelve hexadecimal digits,
/// one of them a decimal digit.
fn is_identifier(name: &str) -> bool {
    let digits = name.chars().filter(char::is_ascii_hexdigit).count();
    digits >= 12
        && name.chars().any(|c| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, '-' | '_' | '{' | '}'))
}

/// Whether a character is a combining mark: some systems store `é` as two characters.
fn is_mark(character: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&character)
}

fn is_apostrophe(character: char) -> bool {
    matches!(character, '\'' | '’')
}

/// Splits `BeachParty` into two words.
fn camel(piece: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut after_lower = false;
    for character in piece.chars() {
        match parts.last_mut() {
            Some(part) if !(after_lower && character.is_uppercase()) => part.push(character),
            _ => parts.push(character.into()),
        }
        after_lower = character.is_lowercase();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> Option<String> {
        FileNames::parse(&[name.to_owned()]).file
    }

    #[test]
    fn names_that_a_person_chose_are_kept() {
        for (name, words) in [
            ("beach party.jpg", "beach party"),
            ("BeachParty_02.JPG", "Beach Party"),
            ("2019-07-14 Anna's birthday.heic", "Anna's birthday"),
            ("'Côte d’Azur'.jpg", "Côte d’Azur"),
            ("Picture_1A_by_freespace.jpg", "freespace"),
            ("in the garden.jpg", "in the garden"),
            ("mountains_12mp.jpg", "mountains"),
            ("Screenshot 2026-05-04 at 10.11.12.png", "Screenshot"),
            ("the cat on the sofa.jpeg", "the cat on the sofa"),
            ("Зима в лесу.png", "Зима в лесу"),
            ("富士山.jpg", "富士山"),
            ("cafe\u{301} noir.png", "cafe\u{301} noir"),
            ("facade.jpg", "facade"),
            ("a very long name that somebody wrote with great care.jpg", "a very long name that somebody"),
        ] {
            assert_eq!(file(name).as_deref(), Some(words), "{name}");
        }
    }

    #[test]
    fn names_that_a_machine_chose_are_dropped() {
        for name in [
            "IMG_1234.JPG",
            "DSC01234.jpg",
            "DSCF0001.RAF",
            "PXL_20260504_101112345.jpg",
            "20260504_101112.jpg",
            "IMG-20260504-WA0012.jpg",
            "WhatsApp Image 2026-05-04 at 10.11.12.jpeg",
            "3f9a1c0b-77de-4c1a-9f00-aabbccddeeff.png",
            "deadbeefcafe0123.png",
            "abcdefab.png",
            "aGkjhLKJq.jpg",
            "image (3).png",
            "photo.jpg",
            "untitled.png",
            "0001.png",
            ".jpg",
            "",
            "....",
            "qwrtpsdf.jpg",
            "'''.jpg",
            "photo of the 12th.jpg",
            "\u{0}\u{1}\u{7f}",
        ] {
            assert_eq!(file(name), None, "{name}");
        }
    }

    #[test]
    fn folders_are_read_from_the_inside_out_without_repetition() {
        let names =
            |list: &[&str]| FileNames::parse(&list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            names(&["IMG_1.jpg", "Day 1", "Summer in Norway"]),
            FileNames { file: None, folders: vec!["Day".into(), "Summer in Norway".into()] }
        );
        assert_eq!(
            names(&["norway.jpg", "Norway", "DCIM"]),
            FileNames { file: Some("norway".into()), folders: vec![] }
        );
        let many = names(&["one two three four five.jpg", "ten eleven twelve", "red"]);
        assert_eq!(
            many,
            FileNames { file: Some("one two three four five".into()), folders: vec!["ten".into()] }
        );
        assert_eq!(names(&[]), FileNames::default());
    }
}
