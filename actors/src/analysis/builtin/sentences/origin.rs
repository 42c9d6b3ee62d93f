//! The sentence about date, place, camera and file names of a picture.

use jiff::civil::Date;

use super::english::list;
use crate::{
    analysis::builtin::{file_names::FileNames, labels::article},
    media::Facts,
};

/// `It was taken on 4 May 2026 with a NIKON D90, and the name of its file says “beach”.`; `None` if nothing
/// is known.
pub(super) fn sentence(facts: &Facts, names: &FileNames) -> Option<String> {
    let date = facts.taken_at.as_deref().and_then(date).map(|date| format!("on {date}"));
    let camera = facts.camera.as_deref().and_then(camera);
    let camera = camera.map(|camera| format!("with {} {camera}", article(&camera)));
    let place = facts.coordinates.and_then(place).map(|place| format!("at {place}"));
    let taken: Vec<String> = [date, camera, place].into_iter().flatten().collect();
    let taken = (!taken.is_empty()).then(|| format!("It was taken {}", taken.join(" ")));
    match (taken, called(names)) {
        (Some(taken), Some(called)) => Some(format!("{taken}, and the {called}.")),
        (Some(taken), None) => Some(format!("{taken}.")),
        (None, Some(called)) => Some(format!("The {called}.")),
        (None, None) => None,
    }
}

/// `4 May 2026`, from the day of [`Facts::taken_at`]. A camera without a clock writes zeros, which are not a date.
fn date(taken_at: &str) -> Option<String> {
    let day = taken_at.split_once('T').map_or(taken_at, |(day, _)| day);
    let date = day.parse::<Date>().ok()?;
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let month = MONTHS.get(usize::try_from(date.month()).ok()?.checked_sub(1)?)?;
    (date.year() >= 1826).then(|| format!("{} {month} {}", date.day(), date.year()))
}

/// Maker and model without redundant words, and without characters that end a sentence.
fn camera(name: &str) -> Option<String> {
    const FIRMS: [&str; 9] =
        ["corporation", "corp", "co", "ltd", "inc", "company", "electronics", "camera", "gmbh"];
    let clean: String = name
        .chars()
        .map(|c| if c.is_alphanumeric() || matches!(c, '-' | '/' | '(' | ')' | '+' | '&') { c } else { ' ' })
        .take(100)
        .collect();
    let mut words: Vec<&str> = Vec::new();
    for word in clean.split_whitespace().filter(|word| !FIRMS.contains(&word.to_lowercase().as_str())).take(6)
    {
        if !words.iter().any(|before| before.eq_ignore_ascii_case(word)) {
            words.push(word);
        }
    }
    words.iter().any(|word| word.chars().any(char::is_alphabetic)).then(|| words.join(" "))
}

/// `59.32° N, 18.07° E`: to about a kilometre. A receiver without a fix writes zero for both.
fn place((north, east): (f64, f64)) -> Option<String> {
    let known = north.abs() <= 90.0 && east.abs() <= 180.0 && (north != 0.0 || east != 0.0);
    known.then(|| {
        format!(
            "{:.2}° {}, {:.2}° {}",
            north.abs(),
            if north < 0.0 { 'S' } else { 'N' },
            east.abs(),
            if east < 0.0 { 'W' } else { 'E' }
        )
    })
}

/// `names of its file and folder say “anna birthday” and “Spain”`.
fn called(names: &FileNames) -> Option<String> {
    let words: Vec<String> =
        names.file.iter().chain(&names.folders).map(|words| format!("“{words}”")).collect();
    let of = match (&names.file, names.folders.len()) {
        (None, 0) => return None,
        (Some(_), 0) => "file",
        (Some(_), 1) => "file and folder",
        (Some(_), _) => "file and folders",
        (None, 1) => "folder",
        (None, _) => "folders",
    };
    let (names, say) = if words.len() == 1 { ("name", "says") } else { ("names", "say") };
    Some(format!("{names} of its {of} {say} {}", list(&words)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_dates_and_places_are_omitted() {
        for (taken_at, expected) in [
            ("2026-05-04T10:11:12", Some("4 May 2026")),
            ("2024-02-29T00:00:00", Some("29 February 2024")),
            ("2026-05-04T10:11:12+02:00", Some("4 May 2026")),
            ("2026-05-04T10:11:12Z", Some("4 May 2026")),
            ("2026-05-04", Some("4 May 2026")),
            ("0000-00-00T00:00:00", None),
            ("2023-02-29T00:00:00", None),
            ("1600-01-01T00:00:00", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(date(taken_at).as_deref(), expected, "{taken_at}");
        }
        for (place_, expected) in [
            ((59.32, 18.07), Some("59.32° N, 18.07° E")),
            ((-33.859, -151.2), Some("33.86° S, 151.20° W")),
            ((0.0, 0.0), None),
            ((91.0, 0.0), None),
            ((f64::NAN, 1.0), None),
        ] {
            assert_eq!(place(place_).as_deref(), expected);
        }
        for (name, expected) in [
            ("Canon Canon EOS 5D", Some("Canon EOS 5D")),
            ("SAMSUNG TECHWIN Co., Ltd. Digimax", Some("SAMSUNG TECHWIN Digimax")),
            ("  <|x|>. Evil! ", Some("x Evil")),
            ("...", None),
            ("", None),
        ] {
            assert_eq!(camera(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn what_is_known_of_the_origin_is_one_sentence() {
        let names = |file: Option<&str>, folders: &[&str]| FileNames {
            file: file.map(str::to_owned),
            folders: folders.iter().map(|folder| (*folder).to_owned()).collect(),
        };
        for (names, expected) in [
            (names(Some("anna"), &[]), "The name of its file says “anna”."),
            (names(Some("anna"), &["Spain"]), "The names of its file and folder say “anna” and “Spain”."),
            (
                names(Some("anna"), &["Spain", "Summer"]),
                "The names of its file and folders say “anna”, “Spain” and “Summer”.",
            ),
            (names(None, &["Spain"]), "The name of its folder says “Spain”."),
            (names(None, &["Spain", "Summer"]), "The names of its folders say “Spain” and “Summer”."),
        ] {
            assert_eq!(sentence(&Facts::default(), &names).as_deref(), Some(expected));
        }
        let taken = Facts { coordinates: Some((1.0, 2.0)), ..Facts::default() };
        let sentence = |facts| sentence(facts, &FileNames::default());
        assert_eq!(sentence(&taken).as_deref(), Some("It was taken at 1.00° N, 2.00° E."));
        assert_eq!(sentence(&Facts::default()), None);
    }
}
