//! Sound in containers that players like better than WAV: by the ffmpeg that the owner has installed.
//!
//! The encoders of mp3 and AAC are under licences that cannot be part of this program, so another program does it.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{App, AppError};
use crate::engines::{EngineError, Spec};
use crate::process::{Pipes, Sandbox};

/// Where distributions put it.
pub(super) const FFMPEG: &str = "/usr/bin/ffmpeg";
/// Bytes taken from it at a time.
const PIECE: usize = 16 << 10;

/// A container and its coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    Mp3,
    Opus,
    Aac,
    Flac,
}

impl Container {
    /// By the name that requests use.
    pub fn parse(name: &str) -> Option<Container> {
        Some(match name {
            "mp3" => Container::Mp3,
            "opus" | "ogg" => Container::Opus,
            "aac" => Container::Aac,
            "flac" => Container::Flac,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Container::Mp3 => "mp3",
            Container::Opus => "opus",
            Container::Aac => "aac",
            Container::Flac => "flac",
        }
    }

    /// Its media type.
    pub fn media(self) -> &'static str {
        match self {
            Container::Mp3 => "audio/mpeg",
            Container::Opus => "audio/ogg",
            Container::Aac => "audio/aac",
            Container::Flac => "audio/flac",
        }
    }

    /// ffmpeg's words for the coding and the container.
    fn arguments(self) -> [&'static str; 4] {
        match self {
            Container::Mp3 => ["-c:a", "libmp3lame", "-f", "mp3"],
            Container::Opus => ["-c:a", "libopus", "-f", "ogg"],
            Container::Aac => ["-c:a", "aac", "-f", "adts"],
            Container::Flac => ["-c:a", "flac", "-f", "flac"],
        }
    }
}

impl App {
    /// Whether a container can be made here.
    ///
    /// # Errors
    /// There is no ffmpeg.
    pub fn can_code(&self, container: Container) -> Result<(), AppError> {
        let here = std::path::Path::new(FFMPEG).is_file() && self.inner.means.children.is_some();
        here.then_some(())
            .ok_or(AppError::NoEncoder(container.name()))
    }

    /// Sound of 16-bit samples in a container, as it comes. Dropping the answer stops the program.
    ///
    /// # Errors
    /// There is no ffmpeg, or it cannot be started.
    pub async fn code(
        &self,
        mut pcm: BoxStream<'static, Result<Bytes, AppError>>,
        rate_hz: u32,
        container: Container,
    ) -> Result<BoxStream<'static, Result<Bytes, AppError>>, AppError> {
        self.can_code(container)?;
        let Some(children) = &self.inner.means.children else {
            return Err(AppError::NoEncoder(container.name()));
        };
        let rate = rate_hz.to_string();
        let mut spec = Spec::new(FFMPEG)
            .args([
                "-hide_banner",
                "-loglevel",
                "error",
                "-f",
                "s16le",
                "-ac",
                "1",
                "-ar",
            ])
            .args([rate.as_str(), "-i", "pipe:0", "-flush_packets", "1"])
            .args(container.arguments())
            .arg("pipe:1")
            .sandbox(Sandbox::system().writing("/tmp"));
        spec.pipes = Pipes::Talk;
        let failed = |why: String| AppError::Engine(EngineError::Failed(format!("ffmpeg: {why}")));
        let started = children.launcher.spawn(spec).await;
        let mut child = started.map_err(|error| failed(error.to_string()))?;
        let talk = child
            .talk()
            .ok_or_else(|| failed("it has no pipes".to_owned()))?;
        let (mut stdin, stdout) = (talk.stdin, talk.stdout);
        let (told, trouble) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            while let Some(piece) = pcm.next().await {
                match piece {
                    Ok(piece) => {
                        if stdin.write_all(&piece).await.is_err() {
                            break;
                        }
                    }
                    Err(error) => {
                        // The listener may have gone.
                        let _ = told.send(error);
                        break;
                    }
                }
            }
        });
        let state = Some((stdout, child, trouble));
        let coded = stream::unfold(state, move |state| async move {
            let (mut stdout, child, mut trouble) = state?;
            let mut piece = bytes::BytesMut::with_capacity(PIECE);
            let read = stdout.read_buf(&mut piece).await;
            match read {
                Ok(n) if n > 0 => Some((Ok(piece.freeze()), Some((stdout, child, trouble)))),
                _ => {
                    if let Ok(error) = trouble.try_recv() {
                        return Some((Err(error), None));
                    }
                    let exit = child.wait().await;
                    if exit.is_some_and(|exit| exit.status.success()) {
                        return None;
                    }
                    let why = format!("ffmpeg: {}", child.log().last_line());
                    Some((Err(AppError::Engine(EngineError::Failed(why))), None))
                }
            }
        });
        Ok(coded.boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for container in [
            Container::Mp3,
            Container::Opus,
            Container::Aac,
            Container::Flac,
        ] {
            assert_eq!(Container::parse(container.name()), Some(container));
        }
        assert_eq!(Container::parse("wav"), None);
    }
}
