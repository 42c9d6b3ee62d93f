//! The door: what a file's header says, and whether the file may come in. Nothing is decoded here.

use std::io::{self, BufRead, Seek};

use image::ImageDecoder;

use super::bytes::{be32, le16, le32};
use super::index::Index;
use super::jpeg::{self, Trouble};
use super::source::{Input, Source};
use super::{Error, ErrorKind, Format, Inspected, Kind, Limits, SNIFF_BYTES, VisionSpec};
use super::{capability, exif, format, heic, heif, layout, mp4, video, webp};

/// What a decode and the encodes after it need beside the pictures, in bytes.
const SLACK: u64 = 3 << 20;

/// What a header says, and what its decode holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Header {
    pub(super) format: Format,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Bytes that the decoder holds at most at one time, the pixels that come out of it included.
    decoder_bytes: u64,
    pub(super) detail: Detail,
}

/// What only one format has.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Detail {
    Jpeg(jpeg::Frame),
    Webp(webp::Layout),
    Heic(Box<heif::Layout>),
    Mp4(Box<Index>),
    Other,
}

/// Looks at a file before it is taken in: tells its format from the bytes, reads its header, and holds it against the
/// limits. Reads a few hundred bytes here and there, and decodes nothing.
///
/// `len` is the length of the file in bytes; `vision` is what will be made of it, which is part of the memory needed.
///
/// # Errors
/// [`ErrorKind::Empty`], [`ErrorKind::NotMedia`], [`ErrorKind::Unsupported`] for what
/// [`capabilities`](super::capabilities) lacks and for rare codings of known formats, [`ErrorKind::TooLarge`] for more
/// bytes, pixels, a longer side or more memory than the limits allow, and [`ErrorKind::Undecodable`] for a header that
/// is cut short or makes no sense, or a file that cannot be read.
pub fn inspect<R: BufRead + Seek>(
    reader: &mut R,
    len: u64,
    limits: &Limits,
    vision: &VisionSpec,
) -> Result<Inspected, Error> {
    let header = header(reader, len, limits)?;
    admit(&header, len, limits, vision)
}

/// Reads the header and refuses what is no media, not decodable here, or too many bytes.
pub(super) fn header(reader: &mut dyn Input, len: u64, limits: &Limits) -> Result<Header, Error> {
    let source = &mut Source::new(reader, len);
    if len == 0 {
        return Err(Error::new(ErrorKind::Empty, "the file is empty"));
    }
    let (head, got) = source.at::<SNIFF_BYTES>(0).map_err(unreadable)?;
    let format = Format::sniff(&head[..got]).ok_or_else(|| {
        if format::is_raw(&head[..got]) {
            return raw();
        }
        Error::new(ErrorKind::NotMedia, "the file is no picture or video of a known format")
    })?;
    capability::check(format)?;
    let (most, key) = match format.kind() {
        Kind::Image => (limits.max_image_bytes, "an image"),
        Kind::Video => (limits.max_video_bytes, "a video"),
    };
    if len > most {
        let message = format!("the file has {}, at most {} are allowed for {key}", mib(len), mib(most));
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    let head = &head[..got];
    match format {
        Format::Jpeg => jpeg_header(source),
        Format::Png => png_header(head),
        Format::Webp => webp_header(source),
        Format::Gif => gif_header(head),
        Format::Bmp => bmp_header(head),
        Format::Tiff => tiff_header(source),
        Format::Heic => heic_header(source, limits),
        Format::Mp4 | Format::Mov => mp4_header(source, format, limits),
        // Neither size nor length is known before a child process is asked.
        Format::Avi | Format::Webm | Format::Mpeg | Format::Flv | Format::Mkv => Ok(Header {
            format,
            width: 0,
            height: 0,
            decoder_bytes: limits.video_memory,
            detail: Detail::Other,
        }),
        // Refused above; a decoder for it reads its header here.
        Format::Avif => Err(broken(format)),
    }
}

/// Holds a header against the limits on pixels, sides and memory.
pub(super) fn admit(
    header: &Header,
    len: u64,
    limits: &Limits,
    vision: &VisionSpec,
) -> Result<Inspected, Error> {
    let (width, height) = (header.width, header.height);
    fits((width, height), limits)?;
    let decode_bytes = match header.format.kind() {
        Kind::Image => len.saturating_add(header.decoder_bytes).saturating_add(resize_bytes(header, vision)),
        // Each frame twice while it is turned and padded; the file stays where it is.
        Kind::Video => {
            let pixels = match u64::from(width) * u64::from(height) {
                0 => vision.max_pixels,
                pixels => pixels.min(vision.max_pixels),
            };
            let frames = pixels.saturating_mul(6 * video::MAX_FRAMES as u64);
            header.decoder_bytes.saturating_add(frames).min(limits.video_memory)
        }
    };
    if decode_bytes > limits.decode_memory {
        let needs = decode_bytes.div_ceil(1 << 20);
        let most = limits.decode_memory >> 20;
        let message = format!("needs {needs} MiB, limits.decode_memory_mb is {most}");
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    Ok(Inspected { format: header.format, width, height, decode_bytes })
}

/// Holds a size against the limits on sides and pixels.
pub(super) fn fits((width, height): (u32, u32), limits: &Limits) -> Result<(), Error> {
    let refuse = |message| Err(Error::new(ErrorKind::TooLarge, message));
    if width.max(height) > limits.max_side_px {
        let most = limits.max_side_px;
        return refuse(format!("the picture is {width} x {height} pixels, a side may have {most} at most"));
    }
    let pixels = u64::from(width) * u64::from(height);
    if pixels > limits.max_pixels {
        let most = limits.max_pixels;
        return refuse(format!(
            "the picture has {pixels} pixels ({width} x {height}), limits.max_pixels is {most}"
        ));
    }
    Ok(())
}

/// What is held beside the decoded pixels while they are resized: the picture shrunk in width only, then the result.
fn resize_bytes(header: &Header, vision: &VisionSpec) -> u64 {
    let (w, h) = (header.width, header.height);
    // Whether the picture will be turned is not known yet.
    let (lying, standing) = (layout::vision(w, h, vision), layout::vision(h, w, vision));
    let across = u64::from(lying.content.0.max(standing.content.1));
    let padded = lying.pixels().max(standing.pixels());
    3 * across * u64::from(h) + 3 * padded + SLACK
}

fn jpeg_header(source: &mut Source<'_>) -> Result<Header, Error> {
    let frame = match jpeg::frame(source).map_err(unreadable)? {
        Ok(frame) => frame,
        Err(Trouble::NoFrame) => return Err(broken(Format::Jpeg)),
        Err(Trouble::Coding(coding)) => {
            let message =
                format!("cannot decode {coding}, this build has no decoder for it: save it as a common JPEG");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
    };
    let pixels = u64::from(frame.width) * u64::from(frame.height);
    let decoded = pixels * if frame.components == 1 { 1 } else { 3 };
    // A progressive picture is held as coefficients of two bytes until its last scan.
    let coefficients = if frame.progressive { frame.blocks * 128 } else { 0 };
    let decoder_bytes = decoded + coefficients + frame.metadata;
    let (width, height) = (frame.width, frame.height);
    Ok(Header { format: Format::Jpeg, width, height, decoder_bytes, detail: Detail::Jpeg(frame) })
}

fn png_header(head: &[u8]) -> Result<Header, Error> {
    let format = Format::Png;
    let (Some(b"IHDR"), Some(width), Some(height), Some(colour)) =
        (head.get(12..16), be32(head, 16), be32(head, 20), head.get(25))
    else {
        return Err(broken(format));
    };
    // Decoded to 8 bits a channel, palettes expanded; transparency may turn up later in the file.
    let channels = match colour {
        0 | 4 => 2,
        2 | 3 | 6 => 4,
        _ => return Err(broken(format)),
    };
    sized(format, width, height, channels)
}

fn webp_header(source: &mut Source<'_>) -> Result<Header, Error> {
    let layout = webp::layout(source).map_err(unreadable)?.ok_or_else(|| broken(Format::Webp))?;
    let pixels = u64::from(layout.width) * u64::from(layout.height);
    // In half bytes a pixel: what comes out, YUV planes, alpha with its own lossless picture, the canvas.
    let halves = match (&layout.animation, layout.lossless, layout.alpha) {
        (Some(_), _, _) => 16,
        (None, true, false) => 16,
        (None, true, true) => 10,
        (None, false, false) => 9,
        (None, false, true) => 22,
    };
    let decoder_bytes = (pixels * halves + layout.frame_pixels * 22) / 2;
    let (width, height) = (layout.width, layout.height);
    Ok(Header { format: Format::Webp, width, height, decoder_bytes, detail: Detail::Webp(layout) })
}

fn heic_header(source: &mut Source<'_>, limits: &Limits) -> Result<Header, Error> {
    let layout = heif::layout(source).map_err(unreadable)?.map_err(|trouble| match trouble {
        heif::Trouble::Broken => broken(Format::Heic),
        heif::Trouble::EndsEarly => {
            Error::new(ErrorKind::Undecodable, "the HEIC file ends before its picture does")
        }
        heif::Trouble::Coding(coding) => {
            let message =
                format!("cannot decode {coding}, this build has no decoder for it: convert it to JPEG");
            Error::new(ErrorKind::Unsupported, message)
        }
    })?;
    // What is cropped away is decoded all the same.
    fits(layout.canvas, limits)?;
    let (_, _, width, height) = layout.crop;
    let mut header = sized(Format::Heic, width, height, 0)?;
    header.decoder_bytes = heic::decoder_bytes(&layout);
    header.detail = Detail::Heic(Box::new(layout));
    Ok(header)
}

fn mp4_header(source: &mut Source<'_>, format: Format, limits: &Limits) -> Result<Header, Error> {
    let refuse = |kind, message: &str| Err(Error::new(kind, message));
    let mut header =
        Header { format, width: 0, height: 0, decoder_bytes: limits.video_memory, detail: Detail::Other };
    match mp4::read(source).map_err(unreadable)? {
        mp4::Reading::Index(index) => {
            (header.width, header.height) = index.track.coded;
            fits(index.track.coded, limits)?;
            // A decoder holds some twenty frames of three bytes a pixel at most, and the excerpt is held by both sides.
            let pixels = u64::from(header.width) * u64::from(header.height);
            header.decoder_bytes = (64 << 20) + pixels * 60;
            header.detail = Detail::Mp4(index);
            Ok(header)
        }
        mp4::Reading::Other => Ok(header),
        mp4::Reading::Unfinished => {
            refuse(ErrorKind::Undecodable, "the video has no index: it is cut short or was never finished")
        }
        mp4::Reading::NoVideo => refuse(ErrorKind::Undecodable, "there is no video in the file, only sound"),
        mp4::Reading::Encrypted => {
            refuse(ErrorKind::Unsupported, "the video is encrypted and can only be shown by its seller")
        }
    }
}

fn gif_header(head: &[u8]) -> Result<Header, Error> {
    let (Some(width), Some(height)) = (le16(head, 6), le16(head, 8)) else { return Err(broken(Format::Gif)) };
    // The screen and one frame, which may lie anywhere on it, both with alpha.
    sized(Format::Gif, width.into(), height.into(), 8)
}

fn bmp_header(head: &[u8]) -> Result<Header, Error> {
    let (width, height) = match le32(head, 14) {
        Some(12) => (le16(head, 18).map(u32::from), le16(head, 20).map(u32::from)),
        // Signed; a negative height means that the rows run from the top.
        _ => (le32(head, 18), le32(head, 22).map(|h| (h as i32).unsigned_abs())),
    };
    let (Some(width), Some(height)) = (width, height) else { return Err(broken(Format::Bmp)) };
    sized(Format::Bmp, width, height, 4)
}

fn tiff_header(source: &mut Source<'_>) -> Result<Header, Error> {
    if is_raw(source).map_err(unreadable)? {
        return Err(raw());
    }
    let len = source.len();
    let reader = source.rewound().map_err(unreadable)?;
    let decoder = image::codecs::tiff::TiffDecoder::new(reader).map_err(|error| match error {
        image::ImageError::Unsupported(_) => Error::new(
            ErrorKind::Unsupported,
            "cannot decode this kind of TIFF, its colours are stored in a rare way: save it as RGB",
        ),
        image::ImageError::Decoding(_)
        | image::ImageError::Encoding(_)
        | image::ImageError::Parameter(_)
        | image::ImageError::Limits(_)
        | image::ImageError::IoError(_) => broken(Format::Tiff),
    })?;
    let (width, height) = decoder.dimensions();
    // The decoder fills a buffer of its own, with four channels where the file has CMYK, and copies it; compressed
    // strips are read whole.
    let pixels = u64::from(width) * u64::from(height);
    let channels = u64::from(decoder.color_type().bytes_per_pixel());
    let inner = channels.max(u64::from(decoder.original_color_type().bits_per_pixel().div_ceil(8)));
    let mut header = sized(Format::Tiff, width, height, 0)?;
    header.decoder_bytes = pixels.saturating_mul(channels + inner).saturating_add(len);
    Ok(header)
}

fn raw() -> Error {
    let message = "cannot decode a camera's raw file, this build has no decoder for it: convert it to JPEG";
    Error::new(ErrorKind::Unsupported, message)
}

/// Raw files of many cameras are TIFFs whose first picture is a small preview.
fn is_raw(source: &mut Source<'_>) -> io::Result<bool> {
    let Some(start) = source.exactly::<8>(0)? else { return Ok(false) };
    let little = start[0] == b'I';
    let offset = if little { le32(&start, 4) } else { be32(&start, 4) };
    let (directory, got) = source.at::<4096>(u64::from(offset.unwrap_or(0)))?;
    // The first directory alone, moved to where its values need no other part of the file.
    let moved = if little { 8_u32.to_le_bytes() } else { 8_u32.to_be_bytes() };
    let alone = [&start[..4], &moved[..], &directory[..got]].concat();
    Ok(exif::read(&alone).raw)
}

fn sized(format: Format, width: u32, height: u32, bytes_per_pixel: u64) -> Result<Header, Error> {
    if width == 0 || height == 0 {
        return Err(broken(format));
    }
    let pixels = u64::from(width) * u64::from(height);
    let decoder_bytes = pixels.saturating_mul(bytes_per_pixel);
    Ok(Header { format, width, height, decoder_bytes, detail: Detail::Other })
}

fn broken(format: Format) -> Error {
    Error::new(ErrorKind::Undecodable, format!("the {} header is cut short or makes no sense", format.name()))
}

fn unreadable(error: io::Error) -> Error {
    Error::new(ErrorKind::Undecodable, format!("the file cannot be read: {error}"))
}

/// A size as people read it.
fn mib(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{bytes} bytes"),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
