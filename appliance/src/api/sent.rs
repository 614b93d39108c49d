//! Files as bodies: read piece by piece while they are sent.

use std::fs::File;
use std::io::Read;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;

/// Bytes read at a time.
const PIECE: usize = 256 << 10;

/// A file from where it stands to its end.
pub(super) fn file(file: File) -> Body {
    Body::from_stream(stream::try_unfold(file, |mut file| async move {
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; PIECE];
            let n = file.read(&mut piece)?;
            piece.truncate(n);
            Ok::<_, std::io::Error>((n > 0).then_some((Bytes::from(piece), file)))
        });
        read.await.map_err(std::io::Error::other)?
    }))
}
