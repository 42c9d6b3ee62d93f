//! The colours of decoded frames, and the form in which `ffmpeg` hands them over.
//!
//! `ffmpeg` scales and converts to red, green, blue by the matrix that is named here; the rest is done by
//! `colour_space`, so that it does not depend on the filters with which `ffmpeg` was built. HDR comes with
//! sixteen bits a channel, transparent frames with alpha.
//!
//! The container is believed at first. The decoder may know better, and its log says so; the frames are then
//! decoded once more.

use crate::media::colour_space::{CodePoints, Coded};
use crate::media::pixels::on_white;

/// Frames that are larger than those of standard definition and name no matrix have that of BT.709.
const STANDARD_DEFINITION: (u32, u32) = (1279, 576);

/// The colours of frames, by their numbers in H.273; 2 is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameColours {
    pub(super) points: CodePoints,
    pub(super) matrix: u8,
    pub(super) alpha: bool,
}

impl Default for FrameColours {
    fn default() -> Self {
        Self { points: CodePoints { primaries: 2, transfer: 2 }, matrix: 2, alpha: false }
    }
}

impl FrameColours {
    /// Colours by `ffmpeg`'s names of primaries, transfer curve, matrix and format of pixels.
    pub(super) fn named(primaries: &str, transfer: &str, matrix: &str, format: &str) -> Self {
        let number = |names: &[(&str, u8)], name: &str| {
            names.iter().find(|(it, _)| *it == name).map_or(2, |(_, number)| *number)
        };
        let points =
            CodePoints { primaries: number(&PRIMARIES, primaries), transfer: number(&TRANSFERS, transfer) };
        let alpha = ["yuva", "rgba", "argb", "bgra", "abgr", "gbrap", "ya8", "ya16", "ayuv", "vuya", "pal8"]
            .iter()
            .any(|prefix| format.starts_with(prefix));
        Self { points, matrix: number(&MATRICES, matrix), alpha }
    }

    /// The colours of the first frame, from the log of the filter `showinfo`.
    pub(super) fn logged(log: &str) -> Option<Self> {
        let lines = || log.lines().filter(|line| line.contains("showinfo"));
        let value = |line: &str, name: &str| {
            let rest = line.split_once(name)?.1;
            rest.split([' ', ',']).next().map(str::to_owned)
        };
        let format = lines().find(|line| line.contains(" pts:")).and_then(|line| value(line, " fmt:"))?;
        let colours = lines().find(|line| line.contains("color_range:"))?;
        let of = |name| value(colours, name).unwrap_or_default();
        Some(Self::named(&of("color_primaries:"), &of("color_trc:"), &of("color_space:"), &format))
    }
}

const PRIMARIES: [(&str, u8); 11] = [
    ("bt709", 1),
    ("bt470m", 4),
    ("bt470bg", 5),
    ("smpte170m", 6),
    ("smpte240m", 7),
    ("film", 8),
    ("bt2020", 9),
    ("smpte428", 10),
    ("smpte431", 11),
    ("smpte432", 12),
    ("ebu3213", 22),
];
const TRANSFERS: [(&str, u8); 5] =
    [("bt470m", 4), ("gamma22", 4), ("linear", 8), ("smpte2084", 16), ("arib-std-b67", 18)];
const MATRICES: [(&str, u8); 8] = [
    ("bt709", 1),
    ("fcc", 4),
    ("bt470bg", 5),
    ("smpte170m", 6),
    ("smpte240m", 7),
    ("bt2020nc", 9),
    ("bt2020c", 10),
    ("gbr", 0),
];

/// The form of the frames that `ffmpeg` hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    points: CodePoints,
    /// The matrix by the name of the filter `scale`.
    matrix: &'static str,
    alpha: bool,
}

impl Default for Form {
    fn default() -> Self {
        Self::of(FrameColours::default(), (0, 0))
    }
}

impl Form {
    /// The form for frames with known colours and a size in pixels.
    pub(super) fn of(colours: FrameColours, (width, height): (u32, u32)) -> Self {
        let large = width > STANDARD_DEFINITION.0 || height > STANDARD_DEFINITION.1;
        let matrix = match colours.matrix {
            1 => "bt709",
            4 => "fcc",
            5 | 6 => "bt601",
            7 => "smpte240m",
            9 | 10 => "bt2020",
            _ if colours.points.is_hdr() => "bt2020",
            _ if large => "bt709",
            _ => "bt601",
        };
        Self { points: colours.points, matrix, alpha: colours.alpha }
    }

    /// HDR with alpha is rare, and eight bits must do for it.
    fn deep(&self) -> bool {
        self.points.is_hdr() && !self.alpha
    }

    /// The filters that scale to a size and convert to this form.
    pub(super) fn filters(&self, (width, height): (u32, u32)) -> String {
        let pixels = match (self.deep(), self.alpha) {
            (true, _) => "rgb48le",
            (false, true) => "rgba",
            (false, false) => "rgb24",
        };
        let matrix = self.matrix;
        format!("scale={width}:{height}:flags=bicubic:in_color_matrix={matrix},setsar=1,format={pixels}")
    }

    /// Bytes of a pixel.
    pub(super) fn pixel_bytes(&self) -> usize {
        match (self.deep(), self.alpha) {
            (true, _) => 6,
            (false, true) => 4,
            (false, false) => 3,
        }
    }

    /// The conversion of such frames to sRGB.
    pub(super) fn conversion(self) -> Conversion {
        Conversion { form: self, coded: self.points.coded() }
    }
}

/// Converts frames to sRGB on white.
pub(super) struct Conversion {
    form: Form,
    coded: Option<Coded>,
}

impl Conversion {
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Converts a frame to red, green, blue.
    pub(super) fn apply(&self, mut data: Vec<u8>) -> Vec<u8> {
        match &self.coded {
            Some(coded) if self.form.deep() => {
                let pixels = data.as_chunks::<6>().0;
                let mut converted = Vec::with_capacity(pixels.len() * 3);
                for &[r, rr, g, gg, b, bb] in pixels {
                    let words = [[r, rr], [g, gg], [b, bb]].map(u16::from_le_bytes);
                    converted.extend(coded.srgb_of_words(words));
                }
                converted
            }
            coded if self.form.alpha => {
                let pixels = data.as_chunks::<4>().0;
                let mut converted = Vec::with_capacity(pixels.len() * 3);
                for &[r, g, b, alpha] in pixels {
                    let colour = coded.as_ref().map_or([r, g, b], |coded| coded.srgb([r, g, b]));
                    converted.extend(colour.map(|value| on_white(value, alpha)));
                }
                converted
            }
            Some(coded) => {
                coded.convert(&mut data);
                data
            }
            None => data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_read_from_what_showinfo_says() {
        let log = "Input #0, mov, from 'pipe:0':\n\
            [Parsed_showinfo_1 @ 0x55] config in time_base: 1/25, frame_rate: 25/1\n\
            [Parsed_showinfo_1 @ 0x55] n:   0 pts:      3 pts_time:0.12    pos:  900 fmt:yuv420p10le sar:0/1\n\
            [Parsed_showinfo_1 @ 0x55] color_range:tv color_space:bt2020nc color_primaries:bt2020 \
            color_trc:arib-std-b67\n";
        let expected =
            FrameColours { points: CodePoints { primaries: 9, transfer: 18 }, matrix: 9, alpha: false };
        assert_eq!(FrameColours::logged(log), Some(expected));
        assert_eq!(FrameColours::logged("nothing"), None);
    }

    #[test]
    fn the_matrix_is_that_of_the_frame_or_follows_from_its_size() {
        let matrix = |name, size| Form::of(FrameColours::named("", "", name, "yuv420p"), size).matrix;
        assert_eq!(matrix("unknown", (1280, 720)), "bt709");
        assert_eq!(matrix("unknown", (720, 1280)), "bt709");
        assert_eq!(matrix("unknown", (720, 576)), "bt601");
        assert_eq!(matrix("smpte170m", (1920, 1080)), "bt601");
        assert_eq!(matrix("bt709", (64, 48)), "bt709");
        assert_eq!(matrix("bt2020nc", (64, 48)), "bt2020");
    }
}
