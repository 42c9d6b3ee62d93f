//! Text for people at a terminal: widths, times, and names that are not trusted.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{Timestamp, tz::TimeZone};

pub(super) use mediamill_actors::text::one_line;

/// A path on one line, without control characters.
pub(super) fn shown(path: &Path) -> String {
    one_line(&path.to_string_lossy()).into_owned()
}

/// A path on one line, shorter: relative to the root that holds it, or with `~` for the home folder.
pub(super) fn short(path: &Path, roots: &[PathBuf]) -> String {
    let below = roots.iter().find_map(|root| path.strip_prefix(root).ok());
    match below {
        Some(rest) if !rest.as_os_str().is_empty() => shown(rest),
        Some(_) => shown(Path::new(path.file_name().unwrap_or(path.as_os_str()))),
        None => from_home(path),
    }
}

/// A path with `~` for the home folder, if it is below it.
pub(super) fn from_home(path: &Path) -> String {
    let home = etcetera::home_dir().ok().filter(|home| home.parent().is_some());
    match home.as_deref().and_then(|home| path.strip_prefix(home).ok()) {
        Some(rest) if rest.as_os_str().is_empty() => "~".to_owned(),
        Some(rest) => format!("~/{}", shown(rest)),
        None => shown(path),
    }
}

/// A reason on one line, without the name of its file before it: the name is shown already.
pub(super) fn without_name(reason: &str, path: &Path) -> String {
    let reason = one_line(reason);
    let names = [Some(path.as_os_str()), path.file_name()].into_iter().flatten();
    let rest = names.map(|name| shown(Path::new(name))).find_map(|name| {
        // A sentence that begins with the name keeps it.
        reason.strip_prefix(&format!("{name}: ")).map(str::to_owned)
    });
    rest.unwrap_or_else(|| reason.into_owned())
}

/// Text in lines of a number of columns, cut after the last line that it may have.
pub(super) fn wrapped(text: &str, columns: usize, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let count = lines.len();
        match lines.last_mut() {
            Some(line)
                if console::measure_text_width(line) + 1 + console::measure_text_width(word) <= columns =>
            {
                line.push(' ');
                line.push_str(word);
            }
            Some(line) if count == most => {
                line.push_str(" …");
                break;
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| cut(line, columns).into_owned()).collect()
}

/// A name about whose width all terminals agree: they do not about characters that are joined into one. The
/// bars are padded to the width of the terminal, so a line that is wider or narrower than it seems would
/// break them.
pub(super) fn of_certain_width(name: &str) -> String {
    let joins = |it: char| matches!(it, '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}');
    let name: String = name.chars().filter(|it| !joins(*it)).collect();
    let alone = |it: char| console::measure_text_width(it.encode_utf8(&mut [0; 4]));
    if console::measure_text_width(&name) == name.chars().map(alone).sum::<usize>() {
        return name;
    }
    name.chars().map(|it| if it.is_ascii() { it } else { '?' }).collect()
}

/// Text cut to a number of columns, with an ellipsis.
pub(super) fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    console::truncate_str(text, columns, "…")
}

/// A name cut in its middle, so that its beginning and its ending are left.
pub(super) fn cut_middle(name: &str, columns: usize) -> Cow<'_, str> {
    if console::measure_text_width(name) <= columns {
        return Cow::Borrowed(name);
    }
    let (front, back) = (columns.div_ceil(2), columns / 2);
    let mut tail = String::new();
    for it in name.chars().rev() {
        let longer = format!("{it}{tail}");
        if console::measure_text_width(&longer) > back {
            break;
        }
        tail = longer;
    }
    Cow::Owned(format!("{}{tail}", cut(name, front)))
}

/// Columns of standard output, if it is a terminal.
pub(super) fn columns() -> Option<usize> {
    let terminal = console::Term::stdout();
    terminal.features().is_attended().then(|| terminal.size().1.into())
}

/// A duration in words: `0.8 s`, `42 s`, `4 min 12 s`, `2 h 5 min`.
pub(super) fn took(time: Duration) -> String {
    let whole = time.as_secs();
    match whole {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

/// An estimate in words, without precision that it does not have.
pub(super) fn about(time: Duration) -> String {
    let minutes = time.as_secs().div_ceil(60);
    match minutes {
        0 | 1 => "less than a minute".to_owned(),
        2..60 => format!("about {minutes} min"),
        60..2880 => format!("about {} h {} min", minutes / 60, minutes % 60),
        _ => format!("about {} days", minutes / 1440),
    }
}

/// A moment in local time: `02:01`, with the day before it if that is not today.
pub(super) fn moment(at: Timestamp) -> String {
    moment_in(at, Timestamp::now(), TimeZone::system())
}

fn moment_in(at: Timestamp, now: Timestamp, zone: TimeZone) -> String {
    let (at, now) = (at.to_zoned_datetime(zone.clone()), now.to_zoned_datetime(zone));
    let format = if at.date() == now.date() {
        "%H:%M"
    } else if at.year() == now.year() {
        "%b %-d %H:%M"
    } else {
        "%Y-%m-%d %H:%M"
    };
    at.strftime(format).to_string()
}

/// A whole number with commas between thousands.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A word after its number: `1 file`, `1,204 files`.
pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{} {}", number(count as u64), if count == 1 { one } else { many })
}

/// A word for a shell.
pub(super) fn quoted(word: &str) -> String {
    let plain = |it: char| it.is_alphanumeric() || "/._-~+,:@%=".contains(it);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_as_a_shell_needs_it() {
        assert_eq!(quoted("/home/ann/写真"), "/home/ann/写真");
        assert_eq!(quoted("My Photos"), "'My Photos'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn times_are_as_precise_as_a_person_needs() {
        let seconds = Duration::from_secs_f64;
        let cases = [(0.84, "0.8 s"), (42.9, "42 s"), (252.0, "4 min 12 s"), (7500.0, "2 h 5 min")];
        for (time, words) in cases {
            assert_eq!(took(seconds(time)), words);
        }
        for (time, words) in
            [(20.0, "less than a minute"), (200.0, "about 4 min"), (5000.0, "about 1 h 24 min")]
        {
            assert_eq!(about(seconds(time)), words);
        }
    }

    #[test]
    fn a_moment_is_local_and_names_another_day() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let now: Timestamp = "2026-11-29T10:00:00Z".parse().expect("a time");
        for (at, words) in [
            ("2026-11-29T00:01:40.775Z", "02:01"),
            ("2026-11-28T10:00:00Z", "Nov 28 12:00"),
            ("2025-01-02T03:04:05Z", "2025-01-02 05:04"),
        ] {
            assert_eq!(moment_in(at.parse().expect("a time"), now, zone.clone()), words);
        }
    }

    #[test]
    fn text_is_cut_by_columns_and_not_by_characters() {
        assert_eq!(cut("写真旅行.jpg", 7), "写真旅…");
        assert_eq!(cut("cat.jpg", 7), "cat.jpg");
        assert_eq!(cut_middle("写真旅行の思い出.jpg", 13), "写真旅…出.jpg");
        assert_eq!(cut_middle("cat.jpg", 7), "cat.jpg");
    }

    #[test]
    fn text_is_wrapped_at_words_and_cut_after_its_last_line() {
        assert_eq!(wrapped("a cat sits on a sofa", 9, 2), ["a cat", "sits on …"]);
        assert_eq!(wrapped("a cat", 9, 2), ["a cat"]);
        assert_eq!(wrapped("写真旅行の思い出", 7, 1), ["写真旅…"]);
    }

    #[test]
    fn a_reason_does_not_repeat_the_name_before_it() {
        let path = Path::new("/photos/a.jpg");
        for (reason, shown) in [
            ("a.jpg: cannot decode it", "cannot decode it"),
            ("/photos/a.jpg: it is away", "it is away"),
            ("the file is empty", "the file is empty"),
        ] {
            assert_eq!(without_name(reason, path), shown);
        }
    }

    #[test]
    fn the_width_of_a_name_is_that_of_its_characters() {
        for (name, shown) in [
            ("cat.jpg", "cat.jpg"),
            ("写真.jpg", "写真.jpg"),
            ("🏖\u{fe0f} beach", "🏖 beach"),
            ("👩\u{200d}👧", "👩👧"),
            ("e\u{301}", "e\u{301}"),
            ("\u{644}\u{627} a", "?? a"),
        ] {
            assert_eq!(of_certain_width(name), shown);
        }
    }

    #[test]
    fn numbers_have_commas() {
        assert_eq!([7, 999, 1_000, 1_234_567].map(number), ["7", "999", "1,000", "1,234,567"]);
        assert_eq!(counted(1, "file", "files"), "1 file");
    }
}
