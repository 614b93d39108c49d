//! Pictures: which model is meant, and a drawing on its way.

use futures_util::{StreamExt, stream::BoxStream};

use super::{Aboard, App, AppError, Pick, Trail, carried};
use crate::domain::{Model, ModelFormat, PictureEvent, PictureRequest};
use crate::engines::Forwarded;
use crate::engines::lanes::Work;
use crate::engines::pool::Lease;
use crate::engines::route::Ask;

/// Names that clients send because their own service has models of these names: here they mean the first that draws.
const HOSTED: [&str; 7] = [
    "dall-e-2",
    "dall-e-3",
    "gpt-image-1",
    "gpt-image-1-mini",
    "gpt-image-1.5",
    "sd",
    "auto",
];

/// A picture that is being drawn; dropping it stops that.
pub struct Drawing {
    /// The model that draws it.
    pub model: Model,
    /// How far it is, and at last the pictures.
    pub events: BoxStream<'static, Result<PictureEvent, AppError>>,
}

impl App {
    /// Draws with a model, or with the first one that can.
    ///
    /// # Errors
    /// There is no such model, or it cannot be loaded.
    pub async fn draw(&self, name: &str, request: PictureRequest) -> Result<Drawing, AppError> {
        let model = self.picture_model(name).await?;
        let (lease, aboard) = self.painter(&model).await?;
        let events = lease.draw(request)?;
        // Both are held as long as somebody listens.
        let held = (lease, aboard);
        let events = events.map(move |event| {
            let _ = &held;
            event.map_err(AppError::Engine)
        });
        Ok(Drawing {
            model,
            events: events.boxed(),
        })
    }

    /// Passes a request on to the server of the first model that draws, in that server's own words.
    ///
    /// # Errors
    /// There is no such model, or it cannot be loaded.
    pub async fn forward_to_painter(
        &self,
        path: String,
        body: Option<bytes::Bytes>,
    ) -> Result<Forwarded, AppError> {
        let model = self.picture_model("").await?;
        let (lease, _aboard) = self.painter(&model).await?;
        Ok(lease.forward(path, body).await?)
    }

    async fn picture_model(&self, name: &str) -> Result<Model, AppError> {
        let mut all = self.registry().await?;
        all.retain(|model| model.format == ModelFormat::Diffusion);
        if let Some(at) = all
            .iter()
            .position(|model| model.id.eq_ignore_ascii_case(name))
        {
            return Ok(all.swap_remove(at));
        }
        let hosted = name.is_empty() || HOSTED.iter().any(|known| known.eq_ignore_ascii_case(name));
        if all.is_empty() {
            return Err(AppError::NoPictureModel);
        }
        if hosted {
            return Ok(all.swap_remove(0));
        }
        let bare = name.split_once('@').map_or(name, |(bare, _)| bare);
        let named = self.model(bare).await?;
        if named.format == ModelFormat::Diffusion {
            return Ok(named);
        }
        Err(AppError::NotForSpeech {
            model: named.id,
            work: "pictures",
            able: all.into_iter().map(|model| model.id).collect(),
        })
    }

    async fn painter(&self, model: &Model) -> Result<(Lease, Aboard), AppError> {
        let (wish, note) = carried();
        let ask = Ask {
            work: Work::Image,
            lane: wish.lane.as_deref(),
            priority: wish.priority,
            preset: wish.preset.unwrap_or_default(),
            ..Ask::default()
        };
        let routed = self.route(&model.id, &ask, &Trail::default()).await?;
        note.write(routed.header);
        let mut failed = None;
        for pick in routed.picks {
            let Pick {
                lane, model, eta_s, ..
            } = &pick;
            let flights = &self.inner.flights;
            let aboard = flights.begin(lane, &model.id, *eta_s, wish.priority);
            match self.lease(&pick).await {
                Ok(lease) => return Ok((lease, aboard)),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        Err(failed.map_or_else(|| AppError::NoLane(model.id.clone()), AppError::Engine))
    }
}
