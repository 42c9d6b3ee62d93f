//! The door: reads the header of a file and decides whether the file is accepted. Decodes nothing.

use std::io::{BufRead, Seek};

use super::capability;
use super::error::{Error, ErrorKind};
use super::format::{self, Format, Kind, SNIFF_BYTES};
#[cfg(feature = "heic")]
use super::heif::{self, Composition, CompositionError};
use super::layout::{self, VisionSpec};
use super::limits::Limits;
use super::raw::{self, Raw};
use super::source::{Input, Source};
use super::still::{Extent, bmp, gif, jpeg, jxl, png, tiff, webp};
use super::video::{Index, MAX_FRAMES, mp4};

/// Bytes that a decode and the encodes after it need besides the pictures.
const SLACK: u64 = 3 << 20;
/// Bytes at the start of a file in which the streams of ASF and Ogg are announced.
const HEADER_BYTES: usize = 64 << 10;

/// A file with more bytes than this is not held in memory, if its format can be decoded while it is read.
pub const STREAMED_BYTES: u64 = 16 << 20;

/// What is known of a file that may be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// The format.
    pub format: Format,
    /// Width in pixels as stored, before any EXIF orientation. 0 for a video whose index is not read at the
    /// door.
    pub width: u32,
    /// Height in pixels as stored.
    pub height: u32,
    /// Most memory that decoding takes, in bytes, the file itself included.
    pub decode_bytes: u64,
}

/// The header of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    pub(super) format: Format,
    /// Width in pixels as stored; 0 for a video whose index is not read at the door.
    pub(super) width: u32,
    pub(super) height: u32,
    /// Most bytes that the decoder holds at one time, its output included; 0 for the formats that are decoded
    /// while they are read, of which this depends on the picture that is made.
    decoder_bytes: u64,
    pub(super) detail: Detail,
}

/// The part of a header that depends on the format.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Detail {
    Picture(Still),
    /// MP4 or QuickTime with an index that is read here.
    Mp4(Box<Index>),
    /// Matroska or WebM, whose frames are looked for when they are needed.
    Matroska,
    /// A video that `ffmpeg` opens itself.
    OtherVideo,
}

/// The header of a still picture.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Still {
    Jpeg(jpeg::Frame),
    Png(png::Header),
    Webp(webp::Chunks),
    Gif,
    Bmp,
    Tiff(tiff::Tiff),
    Jxl(Box<jxl::Jxl>),
    Raw(Box<Raw>),
    #[cfg(feature = "heic")]
    Heic(Box<Composition>),
}

/// Inspects a file before it is accepted: tells its format by its bytes, reads its header, and checks it
/// against the limits. Reads a few hundred bytes here and there, and decodes nothing.
///
/// `len` is the length of the file in bytes. `vision` is the picture that will be made of it, which needs
/// memory too.
///
/// # Errors
/// [`ErrorKind::Empty`], [`ErrorKind::NotMedia`], [`ErrorKind::Unsupported`] for the formats that
/// [`capabilities`](super::capabilities) lists as missing and for rare codings of known formats,
/// [`ErrorKind::TooLarge`] if a limit on bytes, pixels, the length of a side or memory is exceeded, and
/// [`ErrorKind::Undecodable`] for a header that is cut short or makes no sense, and
/// [`ErrorKind::Unreadable`].
pub fn inspect<R: BufRead + Seek>(
    reader: &mut R,
    len: u64,
    limits: &Limits,
    vision: &VisionSpec,
) -> Result<Inspected, Error> {
    let header = header(reader, len, limits)?;
    admit(&header, len, limits, vision)
}

/// Reads the header. Refuses files that are not media, cannot be decoded here, or have too many bytes.
pub(super) fn header(reader: &mut dyn Input, len: u64, limits: &Limits) -> Result<Header, Error> {
    let source = &mut Source::new(reader, len);
    if len == 0 {
        return Err(Error::new(ErrorKind::Empty, "the file is empty"));
    }
    let (head, got) = source.at::<SNIFF_BYTES>(0).map_err(Error::unreadable)?;
    let head = &head[..got];
    let mut format = Format::sniff(head).ok_or_else(|| {
        if format::is_other_raw(head) {
            return Error::no_decoder("this maker's raw files", "develop the photo and save it as JPEG");
        }
        let message = match head.iter().all(|&byte| byte == 0) {
            true => "the file begins with zeros, as after a copy that failed: take it from another copy",
            false => "the file is no picture or video of a known format",
        };
        Error::new(ErrorKind::NotMedia, message)
    })?;
    let raw = match format {
        Format::Raw | Format::Tiff => raw::find(source).map_err(Error::unreadable)?,
        _ => None,
    };
    if raw.is_some() {
        format = Format::Raw;
    }
    capability::check(format)?;
    let (most, key) = match format.kind() {
        Kind::Image => (limits.max_image_bytes, "limits.max_file_bytes"),
        Kind::Video => (limits.max_video_bytes, "limits.max_video_bytes"),
    };
    if len > most {
        let message = format!("the file has {}, {key} is {most} ({})", mib(len), mib(most));
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    let (extent, still) = match format {
        Format::Jpeg => {
            let frame = jpeg_frame(source)?;
            (Extent::new(frame.width, frame.height, 0), Still::Jpeg(frame))
        }
        Format::Png => {
            let header = png::header(head).ok_or_else(|| broken(format))?;
            (Extent::new(header.width, header.height, 0), Still::Png(header))
        }
        Format::Webp => {
            let chunks = webp::chunks(source).map_err(Error::unreadable)?.ok_or_else(|| broken(format))?;
            (Some(chunks.extent()), Still::Webp(chunks))
        }
        Format::Gif => (gif::extent(head), Still::Gif),
        Format::Bmp => (bmp::extent(head), Still::Bmp),
        Format::Tiff => {
            let tiff = tiff::header(source)?.ok_or_else(|| broken(format))?;
            (Some(tiff.extent()), Still::Tiff(tiff))
        }
        Format::Jxl => {
            let jxl =
                jxl::header(source, limits).map_err(Error::unreadable)?.ok_or_else(|| broken(format))?;
            (Some(jxl.extent()), Still::Jxl(Box::new(jxl)))
        }
        Format::Raw => {
            let raw = raw.ok_or_else(|| broken(format))??;
            (Some(raw.extent()), Still::Raw(Box::new(raw)))
        }
        #[cfg(feature = "heic")]
        Format::Heic => {
            let composition = heic_composition(source, limits)?;
            let (_, _, width, height) = composition.crop;
            let decoder_bytes = heif::decoder_bytes(&composition);
            let extent = Extent::new(width, height, 0).map(|it| Extent { decoder_bytes, ..it });
            (extent, Still::Heic(Box::new(composition)))
        }
        #[cfg(not(feature = "heic"))]
        Format::Heic => return Err(broken(format)),
        // Refused above; with a decoder its header would be read here.
        Format::Avif => return Err(broken(format)),
        Format::Mp4 | Format::Mov => {
            let Some(index) = mp4_index(source)? else {
                return Ok(video(format, Detail::OtherVideo, limits));
            };
            let (width, height) = index.track.coded;
            limits.check_size((width, height))?;
            // A decoder holds about twenty frames of three bytes a pixel at most, and both sides hold the
            // excerpt.
            let decoder_bytes = (64 << 20) + u64::from(width) * u64::from(height) * 60;
            return Ok(Header { format, width, height, decoder_bytes, detail: Detail::Mp4(index) });
        }
        Format::Webm | Format::Mkv => return Ok(video(format, Detail::Matroska, limits)),
        Format::Wmv | Format::Ogv if !has_pictures(format, source)? => {
            return Err(Error::new(ErrorKind::NotMedia, "the file has no video, only sound"));
        }
        Format::Avi
        | Format::Mpeg
        | Format::Flv
        | Format::Wmv
        | Format::Ogv
        | Format::Dv
        | Format::Mxf
        | Format::Rm => return Ok(video(format, Detail::OtherVideo, limits)),
    };
    let Extent { width, height, decoder_bytes } = extent.ok_or_else(|| broken(format))?;
    Ok(Header { format, width, height, decoder_bytes, detail: Detail::Picture(still) })
}

/// Checks a header against the limits on pixels, sides and memory.
pub(super) fn admit(
    header: &Header,
    len: u64,
    limits: &Limits,
    vision: &VisionSpec,
) -> Result<Inspected, Error> {
    let (width, height) = (header.width, header.height);
    limits.check_size((width, height))?;
    let decode_bytes = match header.format.kind() {
        Kind::Image => picture_bytes(header, len, vision),
        // Each frame twice while it is turned and padded; the file itself is not held.
        Kind::Video => {
            let pixels = match u64::from(width) * u64::from(height) {
                0 => vision.max_pixels,
                pixels => pixels.min(vision.max_pixels),
            };
            let frames = pixels.saturating_mul(6 * MAX_FRAMES as u64);
            header.decoder_bytes.saturating_add(frames).min(limits.video_memory)
        }
    };
    if decode_bytes > limits.decode_memory {
        let needs = decode_bytes.div_ceil(1 << 20);
        let most = limits.decode_memory >> 20;
        let message = format!("decoding needs {needs} MiB, limits.decode_memory_mb is {most}");
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    Ok(Inspected { format: header.format, width, height, decode_bytes })
}

/// Most bytes that are held while a picture is decoded and resized.
fn picture_bytes(header: &Header, len: u64, vision: &VisionSpec) -> u64 {
    let least = layout::least(header.width, header.height, vision);
    let size = (header.width, header.height);
    let small = if len <= STREAMED_BYTES { len } else { 0 };
    let (held, (_, height)) = match &header.detail {
        Detail::Picture(Still::Jpeg(frame)) => {
            let scale = frame.scale(least);
            let file = if frame.is_streamed(scale) { small } else { len };
            (frame.decoder_bytes(scale).saturating_add(file), scale.of(size))
        }
        Detail::Picture(Still::Png(header)) => {
            (header.decoder_bytes(least).saturating_add(small), header.decoded(least))
        }
        _ => (len.saturating_add(header.decoder_bytes), size),
    };
    held.saturating_add(resize_bytes(size, height, least, vision))
}

/// Bytes that are held besides the decoded pixels during a resize: the picture shrunk in width only, then the
/// result. `decoded` is the height of the decoded pixels.
fn resize_bytes((w, h): (u32, u32), decoded: u32, least: (u32, u32), vision: &VisionSpec) -> u64 {
    // It is not known yet whether the picture will be turned.
    let (lying, upright) = (layout::vision(w, h, vision), layout::vision(h, w, vision));
    let across = u64::from(least.0);
    let content = across * u64::from(least.1);
    let padded = lying.pixels().max(upright.pixels());
    3 * across * u64::from(decoded) + 3 * padded.max(content) + SLACK
}

/// The header of a video whose size is not known at the door.
fn video(format: Format, detail: Detail, limits: &Limits) -> Header {
    Header { format, width: 0, height: 0, decoder_bytes: limits.video_memory, detail }
}

/// Returns `true` if the header of an ASF or Ogg file announces a video. Music has the same containers.
fn has_pictures(format: Format, source: &mut Source<'_>) -> Result<bool, Error> {
    let streams: &[&[u8]] = match format {
        Format::Wmv => &[b"\xc0\xef\x19\xbc\x4d\x5b\xcf\x11\xa8\xfd\0\x80\x5f\x5c\x44\x2b"],
        _ => &[b"\x80theora", b"OVP80", b"BBCD\0", b"\x01video\0"],
    };
    let mut head = Vec::new();
    source.append(0, HEADER_BYTES, &mut head).map_err(Error::unreadable)?;
    Ok(streams.iter().any(|stream| head.windows(stream.len()).any(|it| it == *stream)))
}

fn jpeg_frame(source: &mut Source<'_>) -> Result<jpeg::Frame, Error> {
    jpeg::frame(source).map_err(Error::unreadable)?.map_err(|error| match error {
        jpeg::FrameError::NoFrame => broken(Format::Jpeg),
        jpeg::FrameError::NoDecoder(coding) => Error::no_decoder(coding, "save it as a common JPEG"),
    })
}

#[cfg(feature = "heic")]
fn heic_composition(source: &mut Source<'_>, limits: &Limits) -> Result<Composition, Error> {
    let composition = heif::composition(source).map_err(Error::unreadable)?;
    let composition = composition.map_err(|error| match error {
        CompositionError::Broken => broken(Format::Heic),
        CompositionError::EndsEarly => Error::undecodable("the HEIC file ends before its picture does"),
        CompositionError::NoDecoder(coding) => Error::no_decoder(coding, "convert it to JPEG"),
    })?;
    // The parts that are cropped away are decoded too.
    limits.check_size(composition.canvas)?;
    Ok(composition)
}

/// The index of a video, unless its layout is not read here.
fn mp4_index(source: &mut Source<'_>) -> Result<Option<Box<Index>>, Error> {
    match mp4::read(source).map_err(Error::unreadable)? {
        mp4::Reading::Index(index) => Ok(Some(index)),
        mp4::Reading::Other => Ok(None),
        mp4::Reading::Unfinished => {
            Err(Error::undecodable("the video has no index: it is cut short or was never finished"))
        }
        mp4::Reading::NoVideo => Err(Error::undecodable("there is no video in the file, only sound")),
        mp4::Reading::Encrypted => Err(Error::new(
            ErrorKind::Unsupported,
            "the video is encrypted and can only be shown by its seller",
        )),
    }
}

fn broken(format: Format) -> Error {
    Error::undecodable(format!("the {} header is cut short or makes no sense", format.name()))
}

/// A size as people read it.
fn mib(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{bytes} bytes"),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
