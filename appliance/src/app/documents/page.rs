//! A page of the web as text: fetched by the guarded client, read by the same boxed-in child as every document.

use std::io::Write;

use super::{App, AppError, LibraryError};
use crate::fetch::Request;
use crate::store::new_id;

/// Largest page: the longest articles are a tenth of it, and an agent reads its beginning only.
const PAGE_BYTES_MAX: u64 = 4 << 20;

impl App {
    /// Fetches a page and gives its title and text.
    ///
    /// # Errors
    /// The address may not be spoken to or gives nothing, or it holds no text.
    pub(in super::super) async fn page(
        &self,
        url: &str,
    ) -> Result<(Option<String>, String), AppError> {
        let Some(fetch) = &self.inner.means.fetch else {
            return Err(LibraryError::BadPath("nothing leaves this machine".to_owned()).into());
        };
        let answer = fetch
            .send(Request::get(url, PAGE_BYTES_MAX))
            .await
            .map_err(LibraryError::from)?;
        let answer = answer.success().map_err(LibraryError::from)?;
        let name = super::add::name_of(url, answer.header("content-type").unwrap_or_default());
        let bytes = answer.bytes().await.map_err(LibraryError::from)?;
        let path = self
            .inner
            .config
            .data_dir
            .join("run")
            .join(format!("{}.page", new_id()?));
        let written = std::fs::File::create(&path).and_then(|mut file| file.write_all(&bytes));
        written.map_err(|source| LibraryError::disk("cannot write", &path, source))?;
        let read = self.extract(&path, &name).await;
        // What cannot be removed now is swept at the next start.
        let _ = std::fs::remove_file(&path);
        match read {
            Ok(text) => Ok((text.title, text.content)),
            Err(trouble) => {
                Err(LibraryError::BadPath(format!("{url}: {}", trouble.message)).into())
            }
        }
    }
}
