//! Frames of a stream: u32 little-endian length, then the envelope.

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of the length before a frame.
pub const PREFIX_BYTES: usize = 4;

/// Why no further frame can be read from a stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The length announced is above the limit; not one byte of the body was read.
    #[error("frame of {bytes} bytes, the limit is {bytes_max}")]
    Oversize { bytes: usize, bytes_max: usize },
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Reads one frame, or `None` where the stream ends between frames.
pub(crate) async fn read_frame<R>(reader: &mut R, bytes_max: usize) -> Result<Option<Bytes>, FrameError>
where
    R: AsyncRead + Unpin,
{
    let mut prefix = [0; PREFIX_BYTES];
    if reader.read(&mut prefix[..1]).await? == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut prefix[1..]).await?;
    let bytes = u32::from_le_bytes(prefix) as usize;
    if bytes > bytes_max {
        return Err(FrameError::Oversize { bytes, bytes_max });
    }
    let mut body = vec![0; bytes];
    reader.read_exact(&mut body).await?;
    Ok(Some(body.into()))
}

/// Writes one frame and flushes.
pub(crate) async fn write_frame<W>(writer: &mut W, frame: &[u8]) -> std::io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let mut out = Vec::with_capacity(PREFIX_BYTES + frame.len());
    append_frame(&mut out, frame);
    writer.write_all(&out).await?;
    writer.flush().await
}

/// Appends a frame to a buffer. Frames are bounded by their topic far below 4 GiB.
pub(crate) fn append_frame(out: &mut Vec<u8>, frame: &[u8]) {
    append_prefix(out, frame);
    out.extend_from_slice(frame);
}

/// Appends the length of `frame` only.
pub(crate) fn append_prefix(out: &mut Vec<u8>, frame: &[u8]) {
    out.extend_from_slice(&(frame.len() as u32).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::io::Cursor;

    #[tokio::test]
    async fn frames_come_back_whole_and_in_order() {
        let mut bytes = Vec::new();
        append_frame(&mut bytes, b"one");
        append_frame(&mut bytes, b"");
        append_frame(&mut bytes, b"three");
        let mut reader = Cursor::new(bytes);
        for expected in ["one", "", "three"] {
            assert_eq!(read_frame(&mut reader, 5).await.unwrap().unwrap(), expected);
        }
        assert!(read_frame(&mut reader, 5).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_length_above_the_limit_is_refused_before_the_body() {
        let mut reader = Cursor::new(6u32.to_le_bytes().to_vec());
        let error = read_frame(&mut reader, 5).await.unwrap_err();
        assert!(matches!(error, FrameError::Oversize { bytes: 6, bytes_max: 5 }));
        let mut reader = Cursor::new(u32::MAX.to_le_bytes().to_vec());
        assert!(matches!(read_frame(&mut reader, 5).await, Err(FrameError::Oversize { .. })));
    }

    #[tokio::test]
    async fn a_stream_that_ends_inside_a_frame_is_an_error() {
        for cut in 1..7 {
            let mut bytes = Vec::new();
            append_frame(&mut bytes, b"abc");
            bytes.truncate(cut);
            assert!(matches!(read_frame(&mut Cursor::new(bytes), 5).await, Err(FrameError::Io(_))));
        }
    }
}
