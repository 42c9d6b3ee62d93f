//! Times and durations in a video.

use super::english::number;

/// Seconds from which a time is written as on a clock.
const MINUTE: f64 = 60.0;

/// When an object is visible: `throughout`, `from the start to about second 3`, `from about second 4`.
///
/// `found` has the frames that show it, in order, and `seconds` the times of all frames. `None` for less than
/// two frames. "From" and "to" are used if at least two of three frames between them show the object.
pub(super) fn when(found: &[usize], seconds: &[f64]) -> Option<String> {
    let (first, last) = (*found.first()?, *found.last()?);
    let end = seconds.len().checked_sub(1).filter(|end| *end > 0 && last <= *end)?;
    let moment = |frame: usize| match frame {
        0 => "the start".to_owned(),
        _ if frame == end => "the end".to_owned(),
        _ => format!("about {}", moment(*seconds.get(frame).unwrap_or(&0.0))),
    };
    let at = |frame: usize| {
        if frame == end { "towards the end".to_owned() } else { format!("at {}", moment(frame)) }
    };
    let steady = found.len() * 3 >= (last - first + 1) * 2;
    Some(match found.len() {
        all if all > end => "throughout".to_owned(),
        1 => at(first),
        _ if steady && (first, last) == (0, end) => "nearly throughout".to_owned(),
        _ if steady && last == end => format!("from {}", moment(first)),
        _ if steady => format!("from {} to {}", moment(first), moment(last)),
        2 => format!("{} and {}", at(first), at(last)),
        _ => format!("now and then from {} to {}", moment(first), moment(last)),
    })
}

/// `second 4`; from one minute on, `1:04` or `1:02:03`.
fn moment(seconds: f64) -> String {
    // `as` saturates, and turns NaN into 0.
    let whole = seconds.round() as u64;
    let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{rest:02}")
    } else if seconds.round() >= MINUTE {
        format!("{minutes}:{rest:02}")
    } else {
        format!("second {whole}")
    }
}

/// `about 12 seconds`, `about three minutes and five seconds`, `about two hours and one minute`, `less than a
/// second`.
pub(super) fn length(duration_ms: u64) -> String {
    let unit = |n: u64, word: &str| format!("{} {word}{}", number(n), if n == 1 { "" } else { "s" });
    let seconds = duration_ms.saturating_add(500) / 1000;
    let (large, small) = match seconds {
        0 => return "less than a second".to_owned(),
        1..60 => (unit(seconds, "second"), None),
        60..3600 => (unit(seconds / 60, "minute"), Some((seconds % 60, "second"))),
        _ => (unit(seconds / 3600, "hour"), Some((seconds / 60 % 60, "minute"))),
    };
    match small {
        Some((n, word)) if n > 0 => format!("about {large} and {}", unit(n, word)),
        _ => format!("about {large}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_follow_from_the_frames_that_show_the_object() {
        let seconds: Vec<f64> = (0..10).map(f64::from).collect();
        for (found, expected) in [
            (&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9][..], "throughout"),
            (&[0, 1, 2, 4, 5, 6, 8, 9], "nearly throughout"),
            (&[4, 5, 6, 7, 8, 9], "from about second 4"),
            (&[4, 6, 7, 8, 9], "from about second 4"),
            (&[0, 1, 2, 3], "from the start to about second 3"),
            (&[3, 4, 5], "from about second 3 to about second 5"),
            (&[0], "at the start"),
            (&[7], "at about second 7"),
            (&[9], "towards the end"),
            (&[0, 7], "at the start and at about second 7"),
            (&[0, 9], "at the start and towards the end"),
            (&[0, 4, 9], "now and then from the start to the end"),
            (&[1, 4, 8], "now and then from about second 1 to about second 8"),
        ] {
            assert_eq!(when(found, &seconds).as_deref(), Some(expected), "{found:?}");
        }
    }

    #[test]
    fn long_videos_have_times_as_on_a_clock() {
        let seconds = [0.0, 59.4, 59.6, 754.0, 4000.0, f64::NAN, 9000.0];
        for (found, expected) in [
            (1, "at about second 59"),
            (2, "at about 1:00"),
            (3, "at about 12:34"),
            (4, "at about 1:06:40"),
            (5, "at about second 0"),
        ] {
            assert_eq!(when(&[found], &seconds).as_deref(), Some(expected));
        }
    }

    #[test]
    fn less_than_two_frames_have_no_times() {
        for (found, seconds) in [(&[0][..], &[][..]), (&[0], &[0.0]), (&[], &[0.0, 1.0]), (&[2], &[0.0, 1.0])]
        {
            assert_eq!(when(found, seconds), None);
        }
    }

    #[test]
    fn durations_have_two_units() {
        for (ms, expected) in [
            (0, "less than a second"),
            (1_000, "about one second"),
            (59_400, "about 59 seconds"),
            (60_000, "about one minute"),
            (185_000, "about three minutes and five seconds"),
            (7_260_000, "about two hours and one minute"),
        ] {
            assert_eq!(length(ms), expected);
        }
        assert_eq!(length(u64::MAX).split(' ').count(), 6);
    }
}
