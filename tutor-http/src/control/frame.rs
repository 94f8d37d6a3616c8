//! Frames: a letter, a length, and that many bytes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest frame, in bytes.
pub(super) const MAX_FRAME_BYTES: usize = 1 << 20;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A request, as JSON.
    Request = b'R',
    /// A part of an export.
    Data = b'D',
    /// How far it is, as JSON.
    Progress = b'P',
    /// The last one: it is done. What was done, as JSON.
    Done = b'O',
    /// The last one: it was not done. Why, as JSON.
    Refused = b'E',
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        let all = [
            Self::Request,
            Self::Data,
            Self::Progress,
            Self::Done,
            Self::Refused,
        ];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Writes bytes as one frame, or as several if they are many.
pub(super) async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    kind: Kind,
    bytes: &[u8],
) -> io::Result<()> {
    let mut rest = bytes;
    loop {
        let (part, more) = rest.split_at(rest.len().min(MAX_FRAME_BYTES));
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        let mut frame = Vec::with_capacity(part.len() + 5);
        frame.push(kind as u8);
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(part);
        stream.write_all(&frame).await?;
        if more.is_empty() {
            return Ok(());
        }
        rest = more;
    }
}

/// Reads one frame.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(Kind, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).await?;
    let [kind, length @ ..] = head;
    let kind = Kind::of(kind).ok_or(io::ErrorKind::InvalidData)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_FRAME_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok((kind, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_as_they_were_written_and_long_ones_in_parts() {
        let long = vec![7; MAX_FRAME_BYTES + 3];
        let mut bytes = Vec::new();
        write(&mut bytes, Kind::Data, &long).await.unwrap();
        write(&mut bytes, Kind::Done, b"").await.unwrap();
        let mut stream = bytes.as_slice();
        let (_, first) = read(&mut stream).await.unwrap();
        let (kind, second) = read(&mut stream).await.unwrap();
        assert!(kind == Kind::Data && [first, second].concat() == long);
        assert_eq!(read(&mut stream).await.unwrap(), (Kind::Done, vec![]));
        assert!(read(&mut stream).await.is_err());
    }

    #[tokio::test]
    async fn what_is_no_frame_is_refused() {
        for bytes in [&b"X\0\0\0\0"[..], b"D\xff\xff\xff\xff", b"D\0\0\0\x05ab"] {
            assert!(read(&mut { bytes }).await.is_err());
        }
    }
}
