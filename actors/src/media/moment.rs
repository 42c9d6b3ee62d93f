//! When something was taken, as files write it: with or without time, fractions and an offset.

use std::fmt;

use jiff::civil::{Date, Time};

/// A date with as much as the file knows. It prints as ISO 8601: `2026-05-04`, `2026-05-04T10:11:12`,
/// `2026-05-04T10:11:12+02:00`, `2026-05-04T08:11:12Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    date: Date,
    time: Option<Time>,
    offset: Option<Offset>,
}

/// The relation of a time to universal time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offset {
    /// It is universal time; the local time is not known.
    Universal,
    /// Minutes by which the local time is ahead of universal time.
    Ahead(i16),
}

impl Moment {
    /// Reads a date in the forms of EXIF, XMP, IPTC and ISO 8601, and those that makers write instead:
    /// `2026/05/04`, `20260504`, hours up to 24, blank times. Parts that nobody knows are left out.
    ///
    /// Returns `None` for anything else, for a date that does not exist, and for a clock that was never set
    /// (zeros, or 1970 to the second).
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut rest = Digits(text.trim_matches(|c: char| c.is_whitespace() || c == '\0'));
        let year = rest.number(4, 4)?;
        let separated = rest.one_of(&[':', '-', '/', '.', ' ']);
        let least = if separated { 1 } else { 2 };
        let month = rest.number(least, 2)?;
        if separated && !rest.one_of(&[':', '-', '/', '.', ' ']) {
            return None;
        }
        let day = rest.number(least, 2)?;
        let date = Date::new(i16::try_from(year).ok()?, month as i8, day as i8).ok()?;
        let mut moment = Self { date, time: None, offset: None };
        // More digits would mean that the first ones were no date.
        if rest.0.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        moment.read_time(rest)?;
        let unset =
            moment.date == Date::constant(1970, 1, 1) && moment.time.is_none_or(|it| it == Time::midnight());
        (year >= 1826 && !unset).then_some(moment)
    }

    /// Reads the part after the date. Returns `None` for an hour or a minute that does not exist.
    fn read_time(&mut self, mut rest: Digits<'_>) -> Option<()> {
        rest.0 = rest.0.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, 'T' | 't' | ':' | '_'));
        let separated = rest.0.get(1..3).is_some_and(|it| it.contains([':', '.', 'h']));
        let Some(hour) = rest.number(if separated { 1 } else { 2 }, 2) else { return Some(()) };
        rest.one_of(&[':', '.', 'h']);
        let minute = rest.number(2, 2)?;
        rest.one_of(&[':', '.', 'm']);
        let second = rest.number(2, 2).unwrap_or(0);
        if rest.one_of(&['.', ',']) {
            rest.0 = rest.0.trim_start_matches(|c: char| c.is_ascii_digit());
        }
        rest.0 = rest.0.trim_start();
        let hour = match (hour, rest.0.get(..2).map(str::to_ascii_lowercase).as_deref()) {
            (12, Some("am")) => 0,
            (1..12, Some("pm")) => hour + 12,
            _ => hour,
        };
        let hour = match (hour, minute, second) {
            // By ISO 8601 the end of the day.
            (24, 0, 0) => {
                self.date = self.date.tomorrow().ok()?;
                0
            }
            // Some phones count the hours of the day from 1 to 24.
            (24, ..) => 0,
            _ => hour,
        };
        // A leap second.
        let time =
            Time::new(hour as i8, minute as i8, second.min(59) as i8, 0).ok().filter(|_| second <= 60)?;
        self.time = Some(time);
        self.offset = Offset::read(rest.0);
        Some(())
    }

    /// Seconds since 1970, by a clock of universal time. Returns `None` for a clock that was never set.
    pub(super) fn from_unix(seconds: i64) -> Option<Self> {
        let moment = jiff::Timestamp::from_second(seconds).ok().filter(|_| seconds > 0)?;
        let civil = jiff::tz::Offset::UTC.to_datetime(moment);
        Some(Self { date: civil.date(), time: Some(civil.time()), offset: Some(Offset::Universal) })
    }

    /// Adds an offset that is written apart from the time, unless the time has one or there is none.
    pub(super) fn with_offset(self, text: Option<&str>) -> Self {
        let offset = self.offset.or_else(|| Offset::read(text?.trim()));
        Self { offset: offset.filter(|_| self.time.is_some()), ..self }
    }

    /// Returns `true` if the relation to universal time is known.
    pub(super) fn has_offset(self) -> bool {
        self.offset.is_some()
    }
}

impl Offset {
    /// Reads `Z`, `UTC`, `+02:00`, `+0200`, `-3`. Anything else, and what no place on earth has, is `None`.
    fn read(text: &str) -> Option<Self> {
        if ["Z", "z", "UTC", "GMT"].iter().any(|it| text.starts_with(it)) {
            return Some(Self::Universal);
        }
        let sign = match text.chars().next()? {
            '+' => 1,
            '-' | '\u{2212}' => -1,
            _ => return None,
        };
        let mut rest = Digits(text.trim_start_matches(['+', '-', '\u{2212}']));
        let hours = rest.number(2, 2).or_else(|| rest.number(1, 1))?;
        rest.one_of(&[':']);
        let minutes = rest.number(2, 2).unwrap_or(0);
        (hours <= 14 && minutes < 60).then(|| Self::Ahead(sign * (hours * 60 + minutes) as i16))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.date.strftime("%Y-%m-%d"))?;
        let Some(time) = self.time else { return Ok(()) };
        write!(f, "T{}", time.strftime("%H:%M:%S"))?;
        match self.offset {
            None => Ok(()),
            Some(Offset::Universal) => f.write_str("Z"),
            Some(Offset::Ahead(minutes)) => {
                let sign = if minutes < 0 { '-' } else { '+' };
                let minutes = minutes.unsigned_abs();
                write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
        }
    }
}

/// The part of a text that is not read yet.
struct Digits<'a>(&'a str);

impl Digits<'_> {
    /// A number of `least` to `most` digits.
    fn number(&mut self, least: usize, most: usize) -> Option<u16> {
        let length = self.0.bytes().take(most).take_while(u8::is_ascii_digit).count();
        let digits = self.0.get(..length).filter(|_| length >= least)?;
        self.0 = &self.0[length..];
        digits.parse().ok()
    }

    /// Takes one of these characters.
    fn one_of(&mut self, wanted: &[char]) -> bool {
        let rest = self.0.strip_prefix(wanted);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        Moment::read(text).map(|it| it.to_string())
    }

    #[test]
    fn dates_are_read_as_makers_write_them() {
        for (text, expected) in [
            ("2026:05:04 10:11:12", "2026-05-04T10:11:12"),
            ("2019/05/04 10:11:12", "2019-05-04T10:11:12"),
            ("2019/05/04", "2019-05-04"),
            ("2019-05-04T10:11:12", "2019-05-04T10:11:12"),
            ("2019-05-04T10:11", "2019-05-04T10:11:00"),
            ("2019:05:04 10:11:12.345", "2019-05-04T10:11:12"),
            ("2019-05-04T10:11:12.345678+02:00", "2019-05-04T10:11:12+02:00"),
            ("2019:05:04 10:11:12+0200", "2019-05-04T10:11:12+02:00"),
            ("2019-05-04T10:11:12-0330", "2019-05-04T10:11:12-03:30"),
            ("2019-05-04T08:11:12Z", "2019-05-04T08:11:12Z"),
            ("2019-05-04 08:11:12 UTC", "2019-05-04T08:11:12Z"),
            ("20190504", "2019-05-04"),
            ("20190504T101112+0200", "2019-05-04T10:11:12+02:00"),
            ("20190504_101112", "2019-05-04T10:11:12"),
            ("2019:5:4 9:01:02", "2019-05-04T09:01:02"),
            ("2019:05:04 09:01:02 PM", "2019-05-04T21:01:02"),
            ("2019.05.04 12:01:02 am", "2019-05-04T00:01:02"),
            // The end of the day, and hours from 1 to 24.
            ("2019:12:31 24:00:00", "2020-01-01T00:00:00"),
            ("2019:05:04 24:11:12", "2019-05-04T00:11:12"),
            ("2016:12:31 23:59:60", "2016-12-31T23:59:59"),
            // A time that nobody knows, and an offset that does not exist.
            ("2019:05:04   :  :  ", "2019-05-04"),
            ("2019:05:04 10:11:12+99:00", "2019-05-04T10:11:12"),
            ("2019:05:04 10:11:12\0\0", "2019-05-04T10:11:12"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_and_clocks_that_were_never_set_are_no_dates() {
        for text in [
            "0000:00:00 00:00:00",
            "1970:01:01 00:00:00",
            "1970-01-01",
            "2026:13:04 10:11:12",
            "2026:02:30 10:11:12",
            "2026:05:04 25:11:12",
            "2026:05:04 10:61:12",
            "    :  :     :  :  ",
            "aaaa:bb:cc dd:ee:ff",
            "04/05/2019",
            "2019",
            "2019-05",
            "1556964672",
            "201905041",
            "1066:10:14 09:00:00",
            "\u{661}\u{662}",
            "",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn an_offset_from_elsewhere_is_added_to_a_time_alone() {
        let with = |text: &str, offset| Moment::read(text).map(|it| it.with_offset(offset).to_string());
        assert_eq!(with("2019:05:04 10:11:12", Some("+02:00")).as_deref(), Some("2019-05-04T10:11:12+02:00"));
        assert_eq!(with("2019:05:04 10:11:12Z", Some("+02:00")).as_deref(), Some("2019-05-04T10:11:12Z"));
        assert_eq!(with("2019:05:04 10:11:12", Some("   :  ")).as_deref(), Some("2019-05-04T10:11:12"));
        assert_eq!(with("2019:05:04", Some("+02:00")).as_deref(), Some("2019-05-04"));
    }

    #[test]
    fn seconds_since_1970_are_universal_time() {
        assert_eq!(
            Moment::from_unix(1_556_964_672).map(|it| it.to_string()).as_deref(),
            Some("2019-05-04T10:11:12Z")
        );
        for never in [0, -2_082_844_800, i64::MAX, i64::MIN] {
            assert_eq!(Moment::from_unix(never), None);
        }
    }
}
