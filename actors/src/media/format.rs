//! What a file is, told from its first bytes.

use super::bytes::{be32, le16, le32};
use super::{Format, Kind};

/// As many of the first bytes of a file as [`Format::sniff`] ever looks at.
pub const SNIFF_BYTES: usize = 512;

impl Format {
    /// Every format that is known, decodable or not.
    pub const ALL: [Format; 15] = [
        Format::Jpeg,
        Format::Png,
        Format::Webp,
        Format::Gif,
        Format::Heic,
        Format::Avif,
        Format::Tiff,
        Format::Bmp,
        Format::Mp4,
        Format::Mov,
        Format::Avi,
        Format::Webm,
        Format::Mpeg,
        Format::Flv,
        Format::Mkv,
    ];

    /// Tells the format from the first [`SNIFF_BYTES`] bytes; fewer are enough if the file has no more.
    ///
    /// `None` is everything else: text, SVG, HTML, audio, archives, and the raw formats of cameras that do not call
    /// themselves TIFF.
    ///
    /// ```
    /// use mediamill_actors::media::Format;
    /// assert_eq!(Format::sniff(b"GIF89a\x01\x00\x01\x00"), Some(Format::Gif));
    /// assert_eq!(Format::sniff(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), None);
    /// ```
    pub fn sniff(head: &[u8]) -> Option<Format> {
        let head = head.get(..SNIFF_BYTES).unwrap_or(head);
        match head {
            [0xff, 0xd8, 0xff, ..] => Some(Format::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Format::Png),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Format::Gif),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Format::Webp),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' ', ..] => Some(Format::Avi),
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Format::Tiff),
            [b'B', b'M', ..] if is_bmp(head) => Some(Format::Bmp),
            [0x1a, 0x45, 0xdf, 0xa3, ..] => matroska(head),
            [0, 0, 1, 0xba | 0xb3, ..] => Some(Format::Mpeg),
            [b'F', b'L', b'V', 1, ..] => Some(Format::Flv),
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => iso_media(head),
            // QuickTime files from before the file type box.
            [_, _, _, _, b'm', b'o', b'o', b'v', ..]
            | [_, _, _, _, b'm', b'd', b'a', b't', ..]
            | [_, _, _, _, b'w', b'i', b'd', b'e', ..]
            | [_, _, _, _, b'p', b'n', b'o', b't', ..] => Some(Format::Mov),
            _ if is_transport_stream(head) => Some(Format::Mpeg),
            _ => None,
        }
    }

    /// The registered media type, for `Content-Type`.
    pub fn mime(self) -> &'static str {
        match self {
            Format::Jpeg => "image/jpeg",
            Format::Png => "image/png",
            Format::Webp => "image/webp",
            Format::Gif => "image/gif",
            Format::Heic => "image/heic",
            Format::Avif => "image/avif",
            Format::Tiff => "image/tiff",
            Format::Bmp => "image/bmp",
            Format::Mp4 => "video/mp4",
            Format::Mov => "video/quicktime",
            Format::Avi => "video/x-msvideo",
            Format::Webm => "video/webm",
            Format::Mpeg => "video/mpeg",
            Format::Flv => "video/x-flv",
            Format::Mkv => "video/x-matroska",
        }
    }

    /// Whether it is a still picture or a video.
    pub fn kind(self) -> Kind {
        match self {
            Format::Jpeg
            | Format::Png
            | Format::Webp
            | Format::Gif
            | Format::Heic
            | Format::Avif
            | Format::Tiff
            | Format::Bmp => Kind::Image,
            Format::Mp4
            | Format::Mov
            | Format::Avi
            | Format::Webm
            | Format::Mpeg
            | Format::Flv
            | Format::Mkv => Kind::Video,
        }
    }

    /// The name as people write it: `JPEG`, `WebP`.
    pub fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "JPEG",
            Format::Png => "PNG",
            Format::Webp => "WebP",
            Format::Gif => "GIF",
            Format::Heic => "HEIC",
            Format::Avif => "AVIF",
            Format::Tiff => "TIFF",
            Format::Bmp => "BMP",
            Format::Mp4 => "MP4",
            Format::Mov => "QuickTime",
            Format::Avi => "AVI",
            Format::Webm => "WebM",
            Format::Mpeg => "MPEG",
            Format::Flv => "FLV",
            Format::Mkv => "Matroska",
        }
    }

    /// The usual file extension, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Jpeg => "jpg",
            Format::Png => "png",
            Format::Webp => "webp",
            Format::Gif => "gif",
            Format::Heic => "heic",
            Format::Avif => "avif",
            Format::Tiff => "tiff",
            Format::Bmp => "bmp",
            Format::Mp4 => "mp4",
            Format::Mov => "mov",
            Format::Avi => "avi",
            Format::Webm => "webm",
            Format::Mpeg => "mpg",
            Format::Flv => "flv",
            Format::Mkv => "mkv",
        }
    }
}

/// Whether it is a camera's raw file that does not call itself TIFF: of Canon, Fujifilm, Panasonic, Olympus or Sigma.
pub(super) fn is_raw(head: &[u8]) -> bool {
    let starts: [&[u8]; 6] = [b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"FOVb"];
    head.get(4..12) == Some(b"ftypcrx ") || starts.iter().any(|it| head.starts_with(it))
}

/// MPEG's packets of 188 bytes, which begin with a `G`; camcorders put four bytes of time before each.
fn is_transport_stream(head: &[u8]) -> bool {
    let begins = |first: usize, step: usize| (0..3).all(|n| head.get(first + n * step) == Some(&0x47));
    begins(0, 188) || begins(4, 192)
}

/// `BM` alone is also the start of many a text, so the header behind it must make sense.
fn is_bmp(head: &[u8]) -> bool {
    let planes = match le32(head, 14) {
        Some(12) => le16(head, 22),
        Some(16 | 40 | 52 | 56 | 64 | 108 | 124) => le16(head, 26),
        _ => None,
    };
    planes == Some(1)
}

/// Matroska and WebM are one container; the document type in its header tells which.
fn matroska(head: &[u8]) -> Option<Format> {
    let at = head.windows(2).position(|id| id == [0x42, 0x82])?;
    let name = head.get(at + 3..)?;
    if name.starts_with(b"webm") {
        Some(Format::Webm)
    } else if name.starts_with(b"matroska") {
        Some(Format::Mkv)
    } else {
        None
    }
}

/// Pictures and videos of the MPEG-4 family are told apart by brand: the main one, else the first compatible one known.
fn iso_media(head: &[u8]) -> Option<Format> {
    let end = be32(head, 0).and_then(|size| usize::try_from(size).ok())?.min(head.len());
    let brands: Vec<&[u8]> = head.get(8..end)?.chunks_exact(4).collect();
    let (main, rest) = brands.split_first()?;
    // The second entry is a version number, not a brand.
    let compatible = rest.get(1..).unwrap_or_default();
    match brand(main)? {
        // A generic picture brand says nothing of the codec inside.
        Some(Format::Heic) if matches!(*main, b"mif1" | b"msf1") => {
            let codec = compatible.iter().filter(|b| !matches!(**b, b"mif1" | b"msf1"));
            codec.filter_map(|b| brand(b).flatten()).find(|f| f.kind() == Kind::Image).or(Some(Format::Heic))
        }
        Some(format) => Some(format),
        None => compatible.iter().find_map(|b| brand(b).flatten()),
    }
}

/// The format of a brand: outer `None` for what is certainly neither picture nor video, inner for an unknown brand.
fn brand(brand: &[u8]) -> Option<Option<Format>> {
    match brand {
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"hevm" | b"hevs" | b"mif1" | b"msf1" => {
            Some(Some(Format::Heic))
        }
        b"avif" | b"avis" => Some(Some(Format::Avif)),
        b"qt  " => Some(Some(Format::Mov)),
        b"M4A " | b"M4B " | b"M4P " | b"crx " | b"jp2 " | b"jpx " | b"jxl " => None,
        b"isom" | b"avc1" | b"dash" | b"mmp4" | b"MSNV" | b"f4v " | b"F4V " | b"XAVC" => {
            Some(Some(Format::Mp4))
        }
        [b'i', b's', b'o', _]
        | [b'm', b'p', b'4', _]
        | [b'M', b'4', b'V', _]
        | [b'3', b'g', _, _]
        | [b'N', b'D', _, _] => Some(Some(Format::Mp4)),
        _ => Some(None),
    }
}
