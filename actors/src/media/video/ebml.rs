//! The elements of Matroska files: an identifier, a length, and contents, which may be elements again.

/// The head of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) id: u32,
    /// Bytes of the head itself.
    pub(super) length: u64,
    /// Bytes of the contents; `None` if the writer did not know it.
    pub(super) size: Option<u64>,
}

/// Reads the head of an element from its first bytes, at most twelve. Returns `None` if they make no sense.
pub(super) fn head(bytes: &[u8]) -> Option<Head> {
    let width = bytes.first()?.leading_zeros() as usize + 1;
    if width > 4 {
        return None;
    }
    let id = uint(bytes.get(..width)?) as u32;
    let (size, length) = number(bytes.get(width..)?)?;
    Some(Head { id, length: (width + length) as u64, size })
}

/// A number of variable length and its length. The number is `None` if all its bits are one, which means that
/// it is unknown.
pub(super) fn number(bytes: &[u8]) -> Option<(Option<u64>, usize)> {
    let length = bytes.first()?.leading_zeros() as usize + 1;
    if length > 8 {
        return None;
    }
    let unknown = u64::MAX >> (64 - 7 * length);
    let value = uint(bytes.get(..length)?) & unknown;
    Some(((value != unknown).then_some(value), length))
}

/// The consecutive elements, up to the first that makes no sense.
pub(super) fn elements(bytes: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let head = head(rest)?;
        let start = head.length as usize;
        let contents = rest.get(start..start.checked_add(usize::try_from(head.size?).ok()?)?)?;
        rest = &rest[start + contents.len()..];
        Some((head.id, contents))
    })
}

/// The contents of the first element with an identifier.
pub(super) fn find(bytes: &[u8], id: u32) -> Option<&[u8]> {
    elements(bytes).find(|it| it.0 == id).map(|it| it.1)
}

/// An unsigned number of up to eight bytes.
pub(super) fn uint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| (number << 8) | u64::from(byte))
}

/// A floating point number of four or eight bytes.
pub(super) fn float(bytes: &[u8]) -> Option<f64> {
    match bytes.len() {
        4 => Some(f32::from_bits(uint(bytes) as u32).into()),
        8 => Some(f64::from_bits(uint(bytes))),
        _ => None,
    }
}

/// Writes an element.
pub(super) fn element(id: u32, parts: &[&[u8]]) -> Vec<u8> {
    let size = parts.iter().map(|part| part.len() as u64).sum::<u64>();
    let id = id.to_be_bytes();
    let skip = id.iter().take_while(|&&byte| byte == 0).count();
    let mut all = id[skip..].to_vec();
    // A length of eight bytes.
    all.extend((size | 1 << 56).to_be_bytes());
    parts.iter().for_each(|part| all.extend_from_slice(part));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_contains_its_length() {
        let head = |bytes: &[u8]| head(bytes).map(|it| (it.id, it.length, it.size));
        assert_eq!(head(&[0xa3, 0x81]), Some((0xa3, 2, Some(1))));
        assert_eq!(head(&[0x1f, 0x43, 0xb6, 0x75, 0x40, 0x80]), Some((0x1f43_b675, 6, Some(128))));
        assert_eq!(head(&[0xa3, 0xff]), Some((0xa3, 2, None)));
        assert_eq!(head(&[0xa3, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Some((0xa3, 9, None)));
        for none in [&b""[..], &[0xa3], &[0xa3, 0], &[0x08, 0, 0, 0, 0, 0x81], &[0xa3, 0x40]] {
            assert_eq!(head(none), None, "{none:?}");
        }
    }

    #[test]
    fn written_elements_can_be_read_and_truncated_ones_are_left_out() {
        let bytes = [element(0xec, &[]), element(0x4489, &[&1.5_f64.to_be_bytes()])].concat();
        let read: Vec<_> = elements(&bytes).collect();
        assert_eq!(read, [(0xec, &[][..]), (0x4489, &1.5_f64.to_be_bytes())]);
        assert_eq!(find(&bytes, 0x4489).and_then(float), Some(1.5));
        assert_eq!(elements(&bytes[..bytes.len() - 1]).count(), 1);
    }
}
