//! The formats that are known, and how the first bytes of a file tell them apart.

use serde::{Deserialize, Serialize};

use super::bytes::{be32, le16, le32};

/// Number of bytes at the start of a file that [`Format::sniff`] looks at.
pub const SNIFF_BYTES: usize = 1024;

/// A still picture or a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A still picture, or the first frame of an animation.
    Image,
    /// A video.
    Video,
}

/// Defines [`Format`] by a table with a row for each format: kind, name, media type and file extensions, the
/// usual one first.
macro_rules! formats {
    ($($(#[$doc:meta])* $format:ident: $kind:ident, $name:literal, $mime:literal, [$($extension:literal),*];)*) => {
        /// The format of a file, recognised by its bytes and never by its name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Format {
            $($(#[$doc])* $format,)*
        }

        impl Format {
            /// All known formats, decodable or not.
            pub const ALL: [Format; [$(Format::$format),*].len()] = [$(Format::$format),*];

            /// Whether it is a still picture or a video.
            pub fn kind(self) -> Kind {
                match self {
                    $(Format::$format => Kind::$kind,)*
                }
            }

            /// The name as people write it: `JPEG`, `WebP`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Format::$format => $name,)*
                }
            }

            /// The registered media type, for `Content-Type`.
            pub fn mime(self) -> &'static str {
                match self {
                    $(Format::$format => $mime,)*
                }
            }

            /// The usual file extensions in lower case and without the dot, the most usual one first.
            pub fn extensions(self) -> &'static [&'static str] {
                match self {
                    $(Format::$format => &[$($extension),*],)*
                }
            }
        }
    };
}

formats! {
    /// JPEG, baseline or progressive.
    Jpeg: Image, "JPEG", "image/jpeg", ["jpg", "jpeg", "jpe", "jfif"];
    /// PNG.
    Png: Image, "PNG", "image/png", ["png", "apng"];
    /// WebP, still or animated.
    Webp: Image, "WebP", "image/webp", ["webp"];
    /// GIF. Of an animation the first frame is used.
    Gif: Image, "GIF", "image/gif", ["gif"];
    /// HEIC or HEIF.
    Heic: Image, "HEIC", "image/heic", ["heic", "heif", "hif"];
    /// AVIF.
    Avif: Image, "AVIF", "image/avif", ["avif"];
    /// TIFF.
    Tiff: Image, "TIFF", "image/tiff", ["tiff", "tif"];
    /// Windows bitmap.
    Bmp: Image, "BMP", "image/bmp", ["bmp", "dib"];
    /// JPEG XL.
    Jxl: Image, "JPEG XL", "image/jxl", ["jxl"];
    /// The raw file of a camera, of which the largest JPEG inside is used.
    Raw: Image, "RAW", "image/x-dcraw", ["dng", "cr2", "cr3", "nef", "nrw", "arw", "sr2", "orf", "rw2", "rwl", "raf", "pef", "srw", "3fr", "erf"];
    /// MPEG-4 video.
    Mp4: Video, "MP4", "video/mp4", ["mp4", "m4v", "3gp", "3g2"];
    /// QuickTime video.
    Mov: Video, "QuickTime", "video/quicktime", ["mov", "qt"];
    /// AVI video.
    Avi: Video, "AVI", "video/x-msvideo", ["avi"];
    /// WebM video.
    Webm: Video, "WebM", "video/webm", ["webm"];
    /// MPEG program, transport or elementary stream.
    Mpeg: Video, "MPEG", "video/mpeg", ["mpg", "mpeg", "m2v", "ts", "mts", "m2ts", "vob"];
    /// Flash video.
    Flv: Video, "FLV", "video/x-flv", ["flv"];
    /// Matroska video.
    Mkv: Video, "Matroska", "video/x-matroska", ["mkv"];
    /// Windows Media video, in ASF.
    Wmv: Video, "Windows Media", "video/x-ms-wmv", ["wmv", "asf"];
    /// Ogg video.
    Ogv: Video, "Ogg", "video/ogg", ["ogv", "ogg"];
    /// DV as camcorders record it on tape.
    Dv: Video, "DV", "video/x-dv", ["dv", "dif"];
    /// MXF video.
    Mxf: Video, "MXF", "application/mxf", ["mxf"];
    /// RealMedia video.
    Rm: Video, "RealMedia", "application/vnd.rn-realmedia", ["rm", "rmvb"];
}

impl Format {
    /// The usual file extension, without the dot.
    pub fn extension(self) -> &'static str {
        self.extensions().first().copied().unwrap_or_default()
    }

    /// The format that files with this extension claim to have, in upper or lower case.
    pub fn by_extension(extension: &str) -> Option<Format> {
        let claims =
            |format: &Format| format.extensions().iter().any(|it| it.eq_ignore_ascii_case(extension));
        Format::ALL.into_iter().find(claims)
    }

    /// Tells the format from the first [`SNIFF_BYTES`] bytes, or fewer if the file is shorter.
    ///
    /// Returns `None` for everything else: text, SVG, HTML, audio, archives. Raw files of cameras that call
    /// themselves TIFF are [`Format::Tiff`] here; [`inspect`](super::inspect) looks further into them.
    ///
    /// ```
    /// use mediamill_actors::media::Format;
    /// assert_eq!(Format::sniff(b"GIF89a\x01\x00\x01\x00"), Some(Format::Gif));
    /// assert_eq!(Format::sniff(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), None);
    /// ```
    pub fn sniff(head: &[u8]) -> Option<Format> {
        let head = head.get(..SNIFF_BYTES).unwrap_or(head);
        let whole = Format::ALL.into_iter().find(|format| format.starts(head));
        whole.or_else(|| is_cut_transport_stream(head).then_some(Format::Mpeg))
    }

    /// Returns `true` if a file of this format can start with these bytes, [`SNIFF_BYTES`] of them or all of
    /// the file.
    pub fn fits(self, head: &[u8]) -> bool {
        let sniffed = Format::sniff(head);
        sniffed == Some(self) || self == Format::Raw && sniffed == Some(Format::Tiff)
    }

    /// Returns `true` if a file of this format can start with these bytes. No bytes belong to two formats.
    fn starts(self, head: &[u8]) -> bool {
        let riff = |name: &[u8]| head.starts_with(b"RIFF") && head.get(8..12) == Some(name);
        match self {
            Format::Jpeg => head.starts_with(b"\xff\xd8\xff"),
            Format::Png => head.starts_with(b"\x89PNG\r\n\x1a\n"),
            Format::Webp => riff(b"WEBP"),
            Format::Gif => head.starts_with(b"GIF87a") || head.starts_with(b"GIF89a"),
            Format::Tiff => {
                matches!(head, [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..])
            }
            Format::Bmp => is_bmp(head),
            Format::Avi => riff(b"AVI "),
            Format::Mpeg => {
                matches!(head, [0, 0, 1, 0xba | 0xb3, ..])
                    || iso_kind(head).is_none() && is_transport_stream(head)
            }
            Format::Flv => head.starts_with(b"FLV\x01"),
            Format::Jxl => head.starts_with(b"\xff\x0a") || head.starts_with(b"\0\0\0\x0cJXL \r\n\x87\n"),
            Format::Raw => is_raw(head),
            Format::Wmv => head.starts_with(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c"),
            Format::Ogv => head.starts_with(b"OggS\0\x02"),
            Format::Dv => head.starts_with(b"\x1f\x07\0") && head.get(80..83) == Some(b"\x3f\x07\0"),
            Format::Mxf => head.starts_with(b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02"),
            Format::Rm => head.starts_with(b".RMF\0\0\0"),
            Format::Webm | Format::Mkv => matroska(head) == Some(self),
            Format::Heic | Format::Avif | Format::Mp4 | Format::Mov => match iso_kind(head) {
                Some(b"ftyp") => by_brand(head) == Some(self),
                // QuickTime files from before the file type box.
                Some(_) => self == Format::Mov,
                None => false,
            },
        }
    }
}

/// Returns `true` for the raw file of a camera that does not call itself TIFF: of Canon, Fujifilm, Panasonic
/// or Olympus.
fn is_raw(head: &[u8]) -> bool {
    let starts: [&[u8]; 5] = [b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO", b"IIRS", b"MMOR"];
    head.get(4..12) == Some(b"ftypcrx ") || starts.iter().any(|it| head.starts_with(it))
}

/// Returns `true` for a raw file that is not opened here: of Sigma or Minolta.
pub(super) fn is_other_raw(head: &[u8]) -> bool {
    head.starts_with(b"FOVb") || head.starts_with(b"\0MRM")
}

/// The kind of the first box, if a file of the MPEG-4 family can begin with it.
fn iso_kind(head: &[u8]) -> Option<&[u8]> {
    let kinds: [&[u8]; 5] = [b"ftyp", b"moov", b"mdat", b"wide", b"pnot"];
    head.get(4..8).filter(|kind| kinds.contains(kind))
}

/// MPEG packets have 188 bytes and begin with a `G`; camcorders put a time of four bytes before each.
fn is_transport_stream(head: &[u8]) -> bool {
    let begins = |first: usize, step: usize| (0..3).all(|n| head.get(first + n * step) == Some(&0x47));
    begins(0, 188) || begins(4, 192)
}

/// A transport stream that was cut out of a longer one may begin in mid-packet. More packets than usual must
/// follow each other, since any byte may be a `G`.
fn is_cut_transport_stream(head: &[u8]) -> bool {
    let packets = |first: usize, step: usize| (0..5).all(|n| head.get(first + n * step) == Some(&0x47));
    [188, 192, 204].iter().any(|&step| (1..step).any(|first| packets(first, step)))
}

/// Many texts start with `BM` too, so the header after it must make sense.
fn is_bmp(head: &[u8]) -> bool {
    let planes = match le32(head, 14) {
        Some(12) => le16(head, 22),
        Some(16 | 40 | 52 | 56 | 64 | 108 | 124) => le16(head, 26),
        _ => None,
    };
    head.starts_with(b"BM") && planes == Some(1)
}

/// Matroska and WebM share one container; the document type in its header tells them apart.
fn matroska(head: &[u8]) -> Option<Format> {
    let head = head.strip_prefix(b"\x1a\x45\xdf\xa3")?;
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

/// Brands tell pictures and videos of the MPEG-4 family apart: the main brand, else the first known
/// compatible one.
fn by_brand(head: &[u8]) -> Option<Format> {
    let end = be32(head, 0).and_then(|size| usize::try_from(size).ok())?.min(head.len());
    let brands: Vec<&[u8]> = head.get(8..end)?.chunks_exact(4).collect();
    let (main, rest) = brands.split_first()?;
    // The second entry is a version number, not a brand.
    let compatible = rest.get(1..).unwrap_or_default();
    match brand(main) {
        Brand::Foreign => None,
        // A generic picture brand does not name the codec inside.
        Brand::Of(Format::Heic) if matches!(*main, b"mif1" | b"msf1") => {
            let codecs = compatible.iter().filter(|it| !matches!(**it, b"mif1" | b"msf1"));
            let known = codecs.filter_map(|it| brand(it).format());
            known.into_iter().find(|format| format.kind() == Kind::Image).or(Some(Format::Heic))
        }
        Brand::Of(format) => Some(format),
        Brand::Unknown => compatible.iter().find_map(|it| brand(it).format()),
    }
}

/// The meaning of a brand.
enum Brand {
    Of(Format),
    /// It is neither a picture that is known here nor a video.
    Foreign,
    Unknown,
}

impl Brand {
    fn format(self) -> Option<Format> {
        match self {
            Self::Of(format) => Some(format),
            Self::Foreign | Self::Unknown => None,
        }
    }
}

fn brand(brand: &[u8]) -> Brand {
    match brand {
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"hevm" | b"hevs" | b"mif1" | b"msf1" => {
            Brand::Of(Format::Heic)
        }
        b"avif" | b"avis" => Brand::Of(Format::Avif),
        b"qt  " => Brand::Of(Format::Mov),
        b"M4A " | b"M4B " | b"M4P " | b"crx " | b"jp2 " | b"jpx " | b"jxl " => Brand::Foreign,
        b"isom" | b"avc1" | b"dash" | b"mmp4" | b"MSNV" | b"f4v " | b"F4V " | b"XAVC" => {
            Brand::Of(Format::Mp4)
        }
        [b'i', b's', b'o', _]
        | [b'm', b'p', b'4', _]
        | [b'M', b'4', b'V', _]
        | [b'3', b'g', _, _]
        | [b'N', b'D', _, _] => Brand::Of(Format::Mp4),
        _ => Brand::Unknown,
    }
}
