//! Finds the metadata in a still picture and reads from them what they say of its origin. Reads the places
//! where metadata are and no pixels, so it works without a decoder.

use std::io;
use std::ops::Range;

use super::boxes;
use super::bytes::{be16, be32, le16, le32};
use super::exif;
use super::format::Format;
#[cfg(feature = "heic")]
use super::heif;
use super::iptc;
use super::origin::{Origin, Origins};
use super::source::Source;
use super::text::decoded;
use super::xmp;

/// Largest block of metadata that is read, in bytes.
const MAX_BLOCK_BYTES: usize = 4 << 20;
/// Most segments, chunks or entries of a file that are looked at.
const MAX_PARTS: usize = 4096;
/// Length of the name of a second XMP document.
const GUID_BYTES: usize = 32;

/// The blocks of metadata in a file.
#[derive(Default)]
struct Blocks {
    exif: Option<Vec<u8>>,
    xmp: Option<Vec<u8>>,
    /// Parts of further XMP documents: name, offset and bytes.
    extensions: Vec<(Vec<u8>, u32, Vec<u8>)>,
    /// Data sets of IPTC.
    captions: Option<Vec<u8>>,
    /// Resources of Photoshop.
    resources: Vec<u8>,
}

/// Reads what the metadata of a picture say of its origin. Metadata that make no sense are left out.
pub(super) fn origins(source: &mut Source<'_>, format: Format) -> io::Result<Origins> {
    let mut blocks = Blocks::default();
    match format {
        Format::Jpeg => blocks.jpeg(source)?,
        Format::Png => blocks.png(source)?,
        Format::Webp => blocks.webp(source)?,
        Format::Tiff | Format::Raw => blocks.tiff(source)?,
        Format::Jxl => blocks.jxl(source)?,
        #[cfg(feature = "heic")]
        Format::Heic => {
            let places = heif::metadata(source)?;
            let mut read = |place: Option<Range<u64>>| match place {
                Some(place) => block(source, place),
                None => Ok(None),
            };
            // The number of bytes before the TIFF header comes first.
            blocks.exif = read(places.exif)?.and_then(|it| {
                let skip = usize::try_from(be32(&it, 0)?).ok()?.checked_add(4)?;
                Some(it.get(skip..)?.to_vec())
            });
            blocks.xmp = read(places.xmp)?;
        }
        // These have none, or their own readers.
        _ => {}
    }
    Ok(blocks.origins())
}

/// A part of a file, unless it is empty, too large or beyond the end.
fn block(source: &mut Source<'_>, place: Range<u64>) -> io::Result<Option<Vec<u8>>> {
    let length = place.end.min(source.len()).saturating_sub(place.start);
    let Some(length) = usize::try_from(length).ok().filter(|it| (1..=MAX_BLOCK_BYTES).contains(it)) else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    source.append(place.start, length, &mut bytes)?;
    Ok(Some(bytes))
}

impl Blocks {
    /// The segments of a JPEG up to its first scan.
    fn jpeg(&mut self, source: &mut Source<'_>) -> io::Result<()> {
        const EXIF: &[u8] = b"Exif\0";
        const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
        const EXTENSION: &[u8] = b"http://ns.adobe.com/xmp/extension/\0";
        const RESOURCES: &[u8] = b"Photoshop 3.0\0";
        let mut at = 2;
        for _ in 0..MAX_PARTS {
            let Some([ff, marker, high, low]) = source.exactly::<4>(at)? else { break };
            let length = u64::from(u16::from_be_bytes([high, low]));
            match (ff, marker) {
                (0xff, 0xff) | (0..0xff, _) => {
                    at += 1;
                    continue;
                }
                (0xff, 0xd8 | 0x01 | 0xd0..=0xd7) => {
                    at += 2;
                    continue;
                }
                (0xff, 0xd9 | 0xda) => break,
                _ if length < 2 => break,
                (0xff, 0xe1 | 0xed) => {
                    let body = block(source, at + 4..at + 2 + length)?.unwrap_or_default();
                    if let Some(exif) = body.strip_prefix(EXIF) {
                        // A zero for an even length follows.
                        self.exif.get_or_insert_with(|| exif.get(1..).unwrap_or_default().to_vec());
                    } else if let Some(xmp) = body.strip_prefix(XMP) {
                        self.xmp.get_or_insert_with(|| xmp.to_vec());
                    } else if let Some(part) = body.strip_prefix(EXTENSION) {
                        self.extension(part);
                    } else if let Some(resources) = body.strip_prefix(RESOURCES) {
                        // Long resources continue in the next segment.
                        self.resources.extend_from_slice(resources);
                    }
                }
                _ => {}
            }
            at += 2 + length;
        }
        Ok(())
    }

    /// A part of a second XMP document: its name, the length of the whole, the offset, and bytes.
    fn extension(&mut self, part: &[u8]) {
        let total: usize = self.extensions.iter().map(|(_, _, bytes)| bytes.len()).sum();
        if let (Some(name), Some(offset), Some(bytes)) =
            (part.get(..GUID_BYTES), be32(part, GUID_BYTES + 4), part.get(GUID_BYTES + 8..))
            && total + bytes.len() <= MAX_BLOCK_BYTES
        {
            self.extensions.push((name.to_vec(), offset, bytes.to_vec()));
        }
    }

    /// The chunks of a PNG. XMP is before or after the picture, in plain text or compressed.
    fn png(&mut self, source: &mut Source<'_>) -> io::Result<()> {
        let mut at = 8;
        for _ in 0..MAX_PARTS {
            let Some(head) = source.exactly::<8>(at)? else { break };
            let [a, b, c, d, kind @ ..] = head;
            let body = at + 8..at + 8 + u64::from(u32::from_be_bytes([a, b, c, d]));
            at = body.end + 4;
            match &kind {
                b"eXIf" if self.exif.is_none() => self.exif = block(source, body)?,
                b"iTXt" if self.xmp.is_none() => {
                    self.xmp = block(source, body)?.and_then(|it| international_text(&it));
                }
                b"IEND" => break,
                _ => {}
            }
        }
        Ok(())
    }

    /// The chunks of a WebP.
    fn webp(&mut self, source: &mut Source<'_>) -> io::Result<()> {
        let mut at = 12;
        for _ in 0..MAX_PARTS {
            let Some([name @ .., a, b, c, d]) = source.exactly::<8>(at)? else { break };
            let size = u64::from(u32::from_le_bytes([a, b, c, d]));
            let body = at + 8..at + 8 + size;
            at = body.end + size % 2;
            match &name {
                b"EXIF" if self.exif.is_none() => self.exif = block(source, body)?,
                b"XMP " if self.xmp.is_none() => self.xmp = block(source, body)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The boxes of a JPEG XL. Its EXIF data may be compressed, so the decoder's are used.
    fn jxl(&mut self, source: &mut Source<'_>) -> io::Result<()> {
        let all = 0..source.len();
        let boxes: Vec<_> = boxes::in_file(source, all, MAX_PARTS).collect::<io::Result<_>>()?;
        if let Some((_, body)) = boxes.into_iter().find(|(kind, _)| kind == b"xml ") {
            self.xmp = block(source, body)?;
        }
        Ok(())
    }

    /// The first directory of a TIFF, or of a raw file that is built like one. Its EXIF data are anywhere in the file, so the decoder's are used.
    fn tiff(&mut self, source: &mut Source<'_>) -> io::Result<()> {
        let Some(start) = source.exactly::<8>(0)? else { return Ok(()) };
        let little = match &start[..2] {
            b"II" => true,
            b"MM" => false,
            _ => return Ok(()),
        };
        let u16 = |bytes: &[u8], at| if little { le16(bytes, at) } else { be16(bytes, at) };
        let u32 = |bytes: &[u8], at| if little { le32(bytes, at) } else { be32(bytes, at) };
        let directory = u64::from(u32(&start, 4).unwrap_or(0));
        let (count, _) = source.at::<2>(directory)?;
        let entries = directory + 2;
        for number in 0..u64::from(u16(&count, 0).unwrap_or(0)).min(MAX_PARTS as u64) {
            let Some(entry) = source.exactly::<12>(entries + 12 * number)? else { break };
            let (Some(tag), Some(kind), Some(count), Some(offset)) =
                (u16(&entry, 0), u16(&entry, 2), u32(&entry, 4), u32(&entry, 8))
            else {
                break;
            };
            // Captions are also declared as words.
            let unit = if matches!(kind, 4 | 9 | 13) { 4 } else { 1 };
            let place = u64::from(offset)..u64::from(offset) + u64::from(count) * unit;
            if place.end - place.start <= 4 {
                continue;
            }
            match tag {
                0x02bc if self.xmp.is_none() => self.xmp = block(source, place)?,
                0x83bb if self.captions.is_none() => self.captions = block(source, place)?,
                0x8649 => self.resources = block(source, place)?.unwrap_or_default(),
                _ => {}
            }
        }
        Ok(())
    }

    fn origins(self) -> Origins {
        let exif = self.exif.as_deref().map(exif::read_block).unwrap_or_default().origins();
        let main = self.xmp.as_deref().and_then(document);
        let extension = main.as_ref().and_then(xmp::extension_of).and_then(|name| self.assembled(&name));
        let xmp = [main, extension].into_iter().flatten().map(|it| xmp::origin(&it));
        let xmp = xmp.reduce(Origin::or).unwrap_or_default();
        let captions = self.captions.as_deref().map(iptc::read);
        let captions = captions.or_else(|| iptc::in_resources(&self.resources)).unwrap_or_default();
        Origins { embedded: exif.embedded.or(xmp).or(captions), changed: exif.changed }
    }

    /// The XMP document of a name, if all of its parts are there.
    fn assembled(&self, name: &str) -> Option<xmp::Document> {
        let mut parts: Vec<_> = self.extensions.iter().filter(|it| it.0 == name.as_bytes()).collect();
        parts.sort_by_key(|(_, offset, _)| *offset);
        let mut bytes = Vec::new();
        for (_, offset, part) in parts {
            if *offset as usize != bytes.len() {
                return None;
            }
            bytes.extend_from_slice(part);
        }
        document(&bytes)
    }
}

/// A document of XMP. Programs of old wrote Latin-1.
pub(super) fn document(bytes: &[u8]) -> Option<xmp::Document> {
    let document = xmp::Document::read(bytes).or_else(|error| match std::str::from_utf8(bytes) {
        Ok(_) => Err(error),
        Err(_) => xmp::Document::read(decoded(bytes).as_bytes()),
    });
    document.ok()
}

/// The XMP of a chunk of international text, if it is one.
fn international_text(chunk: &[u8]) -> Option<Vec<u8>> {
    let rest = chunk.strip_prefix(b"XML:com.adobe.xmp\0")?;
    let (&[compressed, method], rest) = rest.split_first_chunk()?;
    // A language and a translated keyword, which are usually empty.
    let mut parts = rest.splitn(3, |&byte| byte == 0);
    let text = parts.nth(2)?;
    match (compressed, method) {
        (0, _) => Some(text.to_vec()),
        (_, 0) => miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(text, MAX_BLOCK_BYTES).ok(),
        _ => None,
    }
}
