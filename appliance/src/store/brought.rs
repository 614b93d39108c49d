//! Saved chats that come back, from a file or another appliance.

use std::collections::HashMap;

use rusqlite::params;

use super::chats::{Chat, Chats};
use super::{StoreError, new_id};
use crate::domain::{PersonId, Role};

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
    /// The model that said it.
    pub model: Option<String>,
    /// Why it ended.
    pub finish_reason: String,
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
                        .prepare_cached(
                            "INSERT INTO messages (chat, id, parent, role, content, model, finish_reason, created_at)
                             VALUES (?,?,?,?,?,?,?,?)",
                        )?
                        .execute(params![
                            chat,
                            id,
                            parent,
                            one.role.as_str(),
                            one.content,
                            one.model,
                            one.finish_reason,
                            one.created_at,
                        ])?;
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
