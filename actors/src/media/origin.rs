//! When, where and by which camera a picture was taken: the values as makers write them, made uniform.

/// Longest camera name that is kept, in characters.
const MAX_CAMERA_CHARS: usize = 64;

/// Converts `2026:05:04 10:11:12` to ISO 8601. Returns `None` for an invalid date and for a clock that was
/// never set.
pub(super) fn taken_at(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text.get(..19)?).ok()?;
    let mut parts = text.split([':', ' ', '-', 'T', '.']).map(|part| part.parse::<i16>().ok());
    let mut next = || parts.next().flatten();
    let (year, month, day) = (next()?, i8::try_from(next()?).ok()?, i8::try_from(next()?).ok()?);
    let (hour, minute, second) =
        (i8::try_from(next()?).ok()?, i8::try_from(next()?).ok()?, i8::try_from(next()?).ok()?);
    let moment = jiff::civil::DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    let unset = moment == jiff::civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    (year >= 1826 && !unset).then(|| moment.strftime("%Y-%m-%dT%H:%M:%S").to_string())
}

/// Joins maker and model to one name, with the maker named once.
pub(super) fn camera(maker: Option<&[u8]>, model: Option<&[u8]>) -> Option<String> {
    let maker = words(maker.unwrap_or_default());
    let model = words(model.unwrap_or_default());
    let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
    let legal = ["corporation", "corp.", "corp", "co.", "co.,ltd.", "ltd.", "ltd", "inc.", "inc", "company"];
    let maker: Vec<&String> = maker.iter().filter(|word| !legal.iter().any(|l| same(l, word))).collect();
    let repeated = model.first().is_some_and(|first| maker.iter().any(|word| same(word, first)));
    let name: Vec<&str> = if repeated {
        model.iter().map(String::as_str).collect()
    } else {
        maker.into_iter().chain(&model).map(String::as_str).collect()
    };
    let name: String = name.join(" ").chars().take(MAX_CAMERA_CHARS).collect();
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// The words of a text without control, formatting and replacement characters.
fn words(text: &[u8]) -> Vec<String> {
    let text: String = String::from_utf8_lossy(text)
        .chars()
        .map(|c| if c.is_alphanumeric() || c.is_ascii_graphic() { c } else { ' ' })
        .collect();
    text.split_whitespace().map(str::to_owned).collect()
}

/// A place on earth, in degrees north and east, rounded to a tenth of a metre. Returns `None` if a value is
/// out of range, and for 0, 0, which receivers without a fix write.
pub(super) fn coordinates(latitude: f64, longitude: f64) -> Option<(f64, f64)> {
    let round = |degrees: f64| (degrees * 1e6).round() / 1e6;
    let (latitude, longitude) = (round(latitude), round(longitude));
    let sound = latitude.abs() <= 90.0 && longitude.abs() <= 180.0 && (latitude, longitude) != (0.0, 0.0);
    sound.then_some((latitude, longitude))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_names_its_maker_once() {
        let name = |maker: &str, model: &str| camera(Some(maker.as_bytes()), Some(model.as_bytes()));
        assert_eq!(name("Canon", "Canon EOS 5D").as_deref(), Some("Canon EOS 5D"));
        assert_eq!(name("NIKON CORPORATION", "NIKON D70").as_deref(), Some("NIKON D70"));
        assert_eq!(name("Apple", "iPhone 12").as_deref(), Some("Apple iPhone 12"));
        assert_eq!(name("  SONY \n", "DSC-\u{7}RX100\0").as_deref(), Some("SONY DSC- RX100"));
        assert_eq!(name("x", &"y".repeat(9000)).map(|n| n.len()), Some(MAX_CAMERA_CHARS));
        assert_eq!(name("", " \u{202e} "), None);
    }

    #[test]
    fn an_invalid_date_is_left_out() {
        assert_eq!(taken_at(b"2026:05:04 10:11:12").as_deref(), Some("2026-05-04T10:11:12"));
        for nonsense in [
            "0000:00:00 00:00:00",
            "1970:01:01 00:00:00",
            "2026:13:04 10:11:12",
            "2026:02:30 10:11:12",
            "    :  :     :  :  ",
            "2026:05:04",
            "aaaa:bb:cc dd:ee:ff",
        ] {
            assert_eq!(taken_at(nonsense.as_bytes()), None, "{nonsense}");
        }
    }
}
