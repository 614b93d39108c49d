//! Recordings that our own decoders cannot read: the ffmpeg that the owner has installed makes WAV of them.

use std::fs::File;
use std::io::Seek;

use tokio::io::AsyncReadExt;

use super::coded::FFMPEG;
use super::{App, AppError};
use crate::engines::Spec;
use crate::process::{Pipes, Sandbox};
use crate::sound::{Decoder, RATE_HZ, SoundError};

/// Bytes taken from it at a time.
const PIECE: usize = 64 << 10;

impl App {
    /// Opens a recording, by another program where ours cannot.
    ///
    /// # Errors
    /// Neither can; the reason is that of our own decoders.
    pub(super) async fn decoder(&self, file: File) -> Result<Decoder, AppError> {
        let second = file.try_clone().map_err(SoundError::Disk)?;
        let why = match open(file).await? {
            Ok(decoder) => return Ok(decoder),
            Err(why @ (SoundError::NotSound(_) | SoundError::Coding(_))) => why,
            Err(other) => return Err(other.into()),
        };
        let Some(made) = self.by_ffmpeg(second).await? else {
            return Err(why.into());
        };
        // Whatever it has made of nonsense is no better known to us.
        Ok(open(made).await?.map_err(|_| why)?)
    }

    /// A WAV file made of a recording; `None` where there is no ffmpeg, or it cannot read it either.
    async fn by_ffmpeg(&self, mut file: File) -> Result<Option<File>, AppError> {
        let Some(children) = &self.inner.means.children else {
            return Ok(None);
        };
        if !std::path::Path::new(FFMPEG).is_file() {
            return Ok(None);
        }
        let rate = RATE_HZ.to_string();
        let mut spec = Spec::new(FFMPEG)
            // A list of other files is no recording.
            .args([
                "-hide_banner",
                "-loglevel",
                "error",
                "-protocol_whitelist",
                "pipe",
            ])
            .args([
                "-i", "pipe:0", "-vn", "-ac", "1", "-ar", &rate, "-f", "wav", "pipe:1",
            ])
            .sandbox(Sandbox::system().writing("/tmp"));
        spec.pipes = Pipes::Talk;
        let Ok(mut child) = children.launcher.spawn(spec).await else {
            return Ok(None);
        };
        let Some(talk) = child.talk() else {
            return Ok(None);
        };
        let (mut stdin, mut stdout) = (talk.stdin, talk.stdout);
        file.rewind().map_err(SoundError::Disk)?;
        let mut source = tokio::fs::File::from_std(file);
        let feed = tokio::spawn(async move {
            // It reads no further than it needs to.
            let _ = tokio::io::copy(&mut source, &mut stdin).await;
        });
        let mut recording = self.recording()?;
        let mut piece = vec![0; PIECE];
        loop {
            let n = stdout.read(&mut piece).await.map_err(SoundError::Disk)?;
            if n == 0 {
                break;
            }
            recording.write(&piece[..n])?;
        }
        feed.abort();
        let exit = child.wait().await;
        Ok(exit
            .is_some_and(|exit| exit.status.success())
            .then(|| recording.into_file()))
    }
}

async fn open(file: File) -> Result<Result<Decoder, SoundError>, AppError> {
    let opened = tokio::task::spawn_blocking(move || Decoder::open(file)).await;
    opened.map_err(|panic| AppError::Measure(panic.to_string()))
}
