//! What is around every value: a version, and a checksum that finds damage where it is.
//!
//! ```text
//! 'T'  version  number of further pieces (2 bytes)  CRC-32 (4 bytes)  content …
//! ```
//!
//! A large content goes on in numbered pieces, since sled 0.34 moves large pages to files that it
//! never syncs. The checksum covers the key, the header and the whole content.

use std::borrow::Cow;

use ::sled::IVec;

use super::keys;
use crate::error::{Error, ErrorKind, Result};

const MAGIC: u8 = b'T';
const VERSION: u8 = 1;
const HEADER: usize = 8;

/// The most content bytes of one value of the tree.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// A value with room for what is around it. The content is to be written behind that.
pub(super) fn room() -> Vec<u8> {
    let mut value = Vec::with_capacity(512);
    value.resize(HEADER, 0);
    value
}

/// Completes a value that [`room`] began, and gives the pieces that do not fit into it: the first
/// is number 1.
///
/// # Errors
/// `too_large` if there were more than 65,535 pieces.
pub(super) fn seal(key: &[u8], value: &mut Vec<u8>) -> Result<Vec<Vec<u8>>> {
    let content = value.get(HEADER..).unwrap_or_default();
    let (_, rest) = content.split_at(content.len().min(PIECE_BYTES));
    let pieces = u16::try_from(rest.len().div_ceil(PIECE_BYTES)).map_err(|_| {
        Error::new(
            ErrorKind::TooLarge,
            "a record of the store has at most 4 GiB",
        )
    })?;
    let crc = checksum(key, pieces, content);
    let rest = rest.chunks(PIECE_BYTES).map(<[u8]>::to_vec).collect();
    value.truncate(HEADER + PIECE_BYTES);
    let [high, low] = pieces.to_be_bytes();
    let [a, b, c, d] = crc.to_le_bytes();
    for (at, byte) in value
        .iter_mut()
        .zip([MAGIC, VERSION, high, low, a, b, c, d])
    {
        *at = byte;
    }
    Ok(rest)
}

/// The content that [`seal`] got, from `value` and the pieces.
///
/// # Errors
/// `data_corrupt` if it is damaged or of another version; errors of `piece`.
pub(super) fn open<'a>(
    key: &[u8],
    value: &'a [u8],
    piece: impl Fn(&[u8]) -> Result<Option<IVec>>,
) -> Result<Cow<'a, [u8]>> {
    let (Some(header), Some(first)) = (value.first_chunk::<HEADER>(), value.get(HEADER..)) else {
        return Err(damaged(key));
    };
    let [magic, version, high, low, crc @ ..] = *header;
    if magic != MAGIC {
        return Err(damaged(key));
    }
    if version != VERSION {
        return Err(Error::new(
            ErrorKind::DataCorrupt,
            "a record of the store has a version that this program does not know: use a newer one",
        )
        .with_context("record", key.escape_ascii())
        .with_context("version", version));
    }
    let pieces = u16::from_be_bytes([high, low]);
    let mut content = Cow::Borrowed(first);
    for n in 1..=pieces {
        let part = piece(&keys::piece(key, n))?.ok_or_else(|| damaged(key))?;
        content.to_mut().extend_from_slice(&part);
    }
    if u32::from_le_bytes(crc) != checksum(key, pieces, &content) {
        return Err(damaged(key));
    }
    Ok(content)
}

/// How many pieces belong to `value`, as far as its header can be read.
pub(super) fn piece_count(value: &[u8]) -> u16 {
    match value {
        [MAGIC, _, high, low, ..] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    }
}

/// The error for a record that is missing or cannot be understood.
pub(super) fn damaged(key: &[u8]) -> Error {
    Error::new(
        ErrorKind::DataCorrupt,
        "a record of the store is damaged: restore a backup, or delete what it belongs to",
    )
    .with_context("record", key.escape_ascii())
}

fn checksum(key: &[u8], pieces: u16, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[VERSION]);
    hasher.update(&pieces.to_be_bytes());
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(content);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// What is stored of a content under a key.
    fn stored(key: &[u8], content: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut value = room();
        value.extend_from_slice(content);
        let pieces = seal(key, &mut value).unwrap().into_iter().zip(1..);
        let mut all: BTreeMap<_, _> = pieces
            .map(|(piece, n)| (keys::piece(key, n), piece))
            .collect();
        all.insert(key.to_vec(), value);
        all
    }

    /// The value that is stored of a small content.
    fn small(key: &[u8], content: &[u8]) -> Vec<u8> {
        stored(key, content).remove(key).unwrap()
    }

    fn reopen(key: &[u8], stored: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Vec<u8>> {
        let piece = |key: &[u8]| Ok(stored.get(key).map(|value| IVec::from(value.as_slice())));
        open(key, stored.get(key).map_or(&[], Vec::as_slice), piece).map(Cow::into_owned)
    }

    #[test]
    fn contents_of_any_size_come_back_and_no_value_is_large() {
        for size in [
            0,
            1,
            PIECE_BYTES - 1,
            PIECE_BYTES,
            PIECE_BYTES + 1,
            3 * PIECE_BYTES,
            1_000_000,
        ] {
            let content: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            let sealed = stored(b"key", &content);
            assert_eq!(reopen(b"key", &sealed).unwrap(), content);
            assert!(
                sealed
                    .values()
                    .all(|value| value.len() <= PIECE_BYTES + HEADER)
            );
            assert_eq!(
                usize::from(piece_count(&sealed[b"key".as_slice()])),
                sealed.len() - 1
            );
        }
    }

    #[test]
    fn a_value_under_another_key_is_damage() {
        let moved = BTreeMap::from([(b"other".to_vec(), small(b"key", b"content"))]);
        let error = reopen(b"other", &moved).unwrap_err();
        assert_eq!(
            (error.kind(), error.context_value("record")),
            (ErrorKind::DataCorrupt, Some("other"))
        );
    }

    #[test]
    fn a_missing_piece_is_damage() {
        let mut sealed = stored(b"k", &[7; 200_000]);
        sealed.remove(&keys::piece(b"k", 2));
        assert_eq!(
            reopen(b"k", &sealed).unwrap_err().kind(),
            ErrorKind::DataCorrupt
        );
    }

    #[test]
    fn another_version_is_named() {
        let mut value = small(b"k", b"content");
        value[1] = 9;
        let error = reopen(b"k", &BTreeMap::from([(b"k".to_vec(), value)])).unwrap_err();
        assert_eq!(
            (error.kind(), error.context_value("version")),
            (ErrorKind::DataCorrupt, Some("9"))
        );
    }

    proptest! {
        #[test]
        fn one_flipped_bit_is_found(
            content in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), bit in 0..8,
        ) {
            let mut value = small(b"k", &content);
            let at = at.index(value.len());
            value[at] ^= 1_u8 << bit;
            let error = reopen(b"k", &BTreeMap::from([(b"k".to_vec(), value)])).unwrap_err();
            prop_assert_eq!(error.kind(), ErrorKind::DataCorrupt);
        }

        #[test]
        fn bytes_that_are_no_value_are_found(value in prop::collection::vec(any::<u8>(), 0..40)) {
            let error = reopen(b"k", &BTreeMap::from([(b"k".to_vec(), value)])).unwrap_err();
            prop_assert_eq!(error.kind(), ErrorKind::DataCorrupt);
        }
    }
}
