//! Saved chats that come back, from a file or another appliance.

use std::collections::HashMap;

use rusqlite::params;

use super::answered::{cites_text, stats_text};
use super::chats::{Chat, Chats, MESSAGE};
use super::pictures::keep;
use super::{StoreError, new_id};
use crate::domain::{Citation, PersonId, Role, Stats};

/// A message of a saved chat; its ids count only among its own.
#[derive(Debug, Clone)]
pub struct BroughtMessage {
    /// What the others call it.
    pub id: String,
    /// The message that it answers, which comes before it.
    pub parent_id: Option<String>,
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: String,
    /// What the model thought before it spoke.
    pub reasoning: Option<String>,
    /// The model that said it.
    pub model: Option<String>,
    /// Why it ended.
    pub finish_reason: String,
    /// What it cost.
    pub stats: Option<Stats>,
    /// The passages that it was made from.
    pub citations: Vec<Citation>,
    /// Pictures that were shown with it, at `data:` addresses.
    pub pictures: Vec<String>,
    /// Unix milliseconds.
    pub created_at: i64,
}

impl Chats<'_> {
    /// Stores a saved chat under new ids; `head`, else its last message, is what the page shows.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when a parent does not stand before what answers it.
    pub async fn bring(
        &self,
        person: &PersonId,
        title: &str,
        messages: Vec<BroughtMessage>,
        head: Option<String>,
    ) -> Result<Chat, StoreError> {
        let model = messages.iter().rev().find_map(|one| one.model.clone());
        let mut made = self.create(person, title, model.as_deref()).await?;
        let mut ids = HashMap::with_capacity(messages.len());
        let mut rows = Vec::with_capacity(messages.len());
        for one in messages {
            let id = new_id()?.to_string();
            let parent = match &one.parent_id {
                None => None,
                Some(old) => Some(ids.get(old).cloned().ok_or_else(|| StoreError::NotFound {
                    what: "message",
                    id: old.clone(),
                })?),
            };
            ids.insert(one.id.clone(), id.clone());
            rows.push((id, parent, one));
        }
        made.head = match head {
            Some(old) => ids.get(&old).cloned(),
            None => rows.last().map(|(id, ..)| id.clone()),
        };
        let (chat, head) = (made.id.clone(), made.head.clone());
        let stored = self
            .0
            .write(move |transaction| {
                for (id, parent, one) in &rows {
                    transaction
                        .prepare_cached(&format!(
                            "INSERT INTO messages (chat, {MESSAGE}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
                        ))?
                        .execute(params![
                            chat,
                            id,
                            parent,
                            one.role.as_str(),
                            one.content,
                            one.model,
                            one.finish_reason,
                            one.stats.as_ref().map(stats_text),
                            one.created_at,
                            cites_text(&one.citations),
                            one.pictures.len() as i64,
                            one.reasoning,
                        ])?;
                    keep(transaction, id, &one.pictures)?;
                }
                transaction.execute("UPDATE chats SET head = ?2 WHERE id = ?1", params![chat, head])?;
                Ok(())
            })
            .await;
        if let Err(error) = stored {
            // Nobody should find half a chat.
            self.delete(person, &made.id).await?;
            return Err(error);
        }
        Ok(made)
    }
}
