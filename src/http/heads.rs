//! The heads of the parts of a multipart body, as UTF-8.
//!
//! Clients write the names of files in the coding of their machine. The parser of the body takes UTF-8 only,
//! and would refuse the whole request for one other name, so this rewrites the heads before it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{error::PayloadError, web::Bytes};
use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use futures_util::Stream;

/// Most bytes of the head of a part, and of the text before the first part.
pub(super) const MAX_BYTES: usize = 1 << 16;

/// A multipart body whose heads are UTF-8. It fails with [`io::ErrorKind::InvalidData`] if a head, or the text
/// before the first part, has more than [`MAX_BYTES`]; that text is left out.
pub(super) struct Heads<S> {
    body: S,
    /// The line end and the text between two parts.
    delimiter: Vec<u8>,
    place: Place,
    /// Bytes that may be the beginning of a delimiter, or of a head.
    held: Vec<u8>,
    ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first part; so many bytes were left out.
    Before(usize),
    Head,
    Content,
    /// After the last part.
    After,
}

impl<S> Heads<S> {
    pub(super) fn new(body: S, boundary: &str) -> Self {
        let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
        // The first delimiter may stand at the very beginning, where its line end is missing.
        Self { body, delimiter, place: Place::Before(0), held: b"\r\n".to_vec(), ended: false }
    }

    /// Reads the held bytes as far as possible, and gives those that can go on.
    fn advance(&mut self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        loop {
            match self.place {
                Place::After => {
                    out.append(&mut self.held);
                    return Ok(out);
                }
                Place::Head => {
                    if self.held.starts_with(b"--") {
                        self.place = Place::After;
                    } else if let Some(at) = find(&self.held, b"\r\n\r\n").filter(|at| *at <= MAX_BYTES) {
                        let head = self.held.drain(..at + 4).collect::<Vec<u8>>();
                        out.extend_from_slice(text(&head).as_bytes());
                        self.place = Place::Content;
                    } else if self.held.len() > MAX_BYTES + 4 {
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            format!(
                                "the head of a part has more than {MAX_BYTES} bytes; shorten the name of the file"
                            ),
                        ));
                    } else {
                        return Ok(out);
                    }
                }
                Place::Before(left_out) => {
                    let (passed, found) = self.pass();
                    let left_out = left_out + passed.len();
                    if left_out > MAX_BYTES {
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            format!(
                                "the first {MAX_BYTES} bytes of the body have no part; check the boundary in \
                                 Content-Type"
                            ),
                        ));
                    }
                    if !found {
                        self.place = Place::Before(left_out);
                        return Ok(out);
                    }
                    // The parser expects the first delimiter at the beginning.
                    out.extend_from_slice(self.delimiter.get(2..).unwrap_or_default());
                    self.place = Place::Head;
                }
                Place::Content => {
                    let (passed, found) = self.pass();
                    out.extend(passed);
                    if !found {
                        return Ok(out);
                    }
                    out.extend_from_slice(&self.delimiter);
                    self.place = Place::Head;
                }
            }
        }
    }

    /// Takes the bytes before the next delimiter and the delimiter itself, or all but those that may begin one.
    fn pass(&mut self) -> (Vec<u8>, bool) {
        if let Some(at) = find(&self.held, &self.delimiter) {
            let passed = self.held.drain(..at).collect();
            self.held.drain(..self.delimiter.len());
            return (passed, true);
        }
        let longest = self.held.len().min(self.delimiter.len() - 1);
        let begins = |kept: &usize| self.held.ends_with(self.delimiter.get(..*kept).unwrap_or_default());
        let kept = (1..=longest).rev().find(begins).unwrap_or(0);
        (self.held.drain(..self.held.len() - kept).collect(), false)
    }
}

impl<S> Stream for Heads<S>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        while !this.ended {
            match Pin::new(&mut this.body).poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(bytes))) => {
                    this.held.extend_from_slice(&bytes);
                    match this.advance() {
                        Ok(out) if out.is_empty() => {}
                        Ok(out) => return Poll::Ready(Some(Ok(out.into()))),
                        Err(error) => {
                            this.ended = true;
                            return Poll::Ready(Some(Err(PayloadError::Io(error))));
                        }
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => this.ended = true,
            }
        }
        // A body that is cut off ends here as it is; the parser says so.
        let rest = std::mem::take(&mut this.held);
        Poll::Ready((!rest.is_empty() && this.place == Place::Content).then(|| Ok(rest.into())))
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    let first = *pattern.first()?;
    let mut from = 0;
    loop {
        let rest = bytes.get(from..)?;
        from += memchr::memchr(first, rest)?;
        if bytes.get(from..)?.starts_with(pattern) {
            return Some(from);
        }
        from += 1;
    }
}

/// Text in an unknown coding: UTF-8 if it is valid, otherwise the most likely one. Bytes without a meaning
/// become replacement characters.
pub(super) fn text(bytes: &[u8]) -> String {
    let escapes = bytes.contains(&0x1b);
    if let Ok(text) = std::str::from_utf8(bytes)
        && !escapes
    {
        return text.to_owned();
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(bytes, true);
    let coding = detector.guess(None, Utf8Detection::Allow);
    let (text, _) = coding.decode_without_bom_handling(bytes);
    // A control character in a head is refused by the parser.
    text.chars().filter(|it| !it.is_control() || matches!(it, '\r' | '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use encoding_rs::{EUC_JP, EUC_KR, GBK, ISO_2022_JP, SHIFT_JIS, WINDOWS_1251, WINDOWS_1252};
    use futures_util::{StreamExt as _, stream};

    use super::*;

    /// The rewritten body, when `body` arrives in pieces of `size` bytes.
    async fn rewritten(body: &[u8], size: usize) -> Result<Vec<u8>, PayloadError> {
        let pieces: Vec<_> = body.chunks(size).map(|it| Ok(Bytes::copy_from_slice(it))).collect();
        let mut heads = Heads::new(stream::iter(pieces), "x");
        let mut out = Vec::new();
        while let Some(bytes) = heads.next().await {
            out.extend_from_slice(&bytes?);
        }
        Ok(out)
    }

    fn body(name: &[u8], content: &[u8]) -> Vec<u8> {
        let head = b"--x\r\nContent-Disposition: form-data; name=\"files\"; filename=\"";
        [head.as_slice(), name, b"\"\r\n\r\n", content, b"\r\n--x--\r\n"].concat()
    }

    #[actix_rt::test]
    async fn only_heads_change_however_the_body_is_cut() {
        let content = b"\xe4\r\n--\xf6\r\n--y\r\n-\r\r\n\r\n";
        let given = body("Gr\u{fc}n.jpg".as_bytes(), content);
        let latin = body(b"Gr\xfcn.jpg", content);
        let two = [b"--x\r\nA: b\r\n\r\n\r\n".as_slice(), &given].concat();
        for size in [1, 2, 3, 5, 7, 1000] {
            assert_eq!(rewritten(&given, size).await.expect("UTF-8"), given, "{size}");
            assert_eq!(rewritten(&latin, size).await.expect("Latin-1"), given, "{size}");
            assert_eq!(rewritten(&two, size).await.expect("two parts"), two, "{size}");
            let before = [b"text\r\n".as_slice(), &latin].concat();
            assert_eq!(rewritten(&before, size).await.expect("text before"), given, "{size}");
        }
    }

    #[test]
    fn names_in_every_coding_are_read() {
        let cases = [
            (WINDOWS_1252, "Fähre nach Öland.jpg"),
            (WINDOWS_1252, "Été à Besançon.jpg"),
            (SHIFT_JIS, "表示ソフトの写真.jpg"),
            (EUC_JP, "東京の夏休みの写真.jpg"),
            (ISO_2022_JP, "東京の夏休みの写真.jpg"),
            (GBK, "北京的照片和视频.jpg"),
            (EUC_KR, "서울 여행 사진.jpg"),
            (WINDOWS_1251, "Летний отпуск в Москве.jpg"),
        ];
        for (coding, name) in cases {
            let (bytes, _, lossy) = coding.encode(name);
            assert!(!lossy, "{name}");
            let head =
                [b"Content-Disposition: form-data; name=\"files\"; filename=\"".as_slice(), &bytes, b"\""];
            let read = text(&head.concat());
            assert!(read.ends_with(&format!("filename=\"{name}\"")), "{}: {read}", coding.name());
        }
    }

    #[actix_rt::test]
    async fn a_head_or_a_beginning_without_end_is_refused() {
        for endless in [body(&vec![b'a'; MAX_BYTES + 1], b""), vec![b'a'; 2 * MAX_BYTES]] {
            let refused = rewritten(&endless, 1000).await.expect_err("too long");
            let invalid = matches!(&refused, PayloadError::Io(it) if it.kind() == io::ErrorKind::InvalidData);
            assert!(invalid, "{refused:?}");
        }
    }
}
