//! Pictures: what is to be drawn, and how far it is. Picture files are base64, as they travel on both sides.

/// What a picture comes as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PictureFormat {
    /// Without loss.
    #[default]
    Png,
    /// Smaller.
    Jpeg,
    /// Smaller still.
    Webp,
}

impl PictureFormat {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            PictureFormat::Png => "png",
            PictureFormat::Jpeg => "jpeg",
            PictureFormat::Webp => "webp",
        }
    }

    /// Reads the name back.
    pub fn parse(text: &str) -> Option<PictureFormat> {
        [PictureFormat::Png, PictureFormat::Jpeg, PictureFormat::Webp]
            .into_iter()
            .find(|format| format.as_str() == text)
    }
}

/// A picture to be drawn; what is `None` is the model's own choice.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PictureRequest {
    /// What is to be seen.
    pub prompt: String,
    /// What is not.
    pub negative_prompt: String,
    /// Width and height.
    pub size: Option<(u32, u32)>,
    /// How many.
    pub count: u32,
    /// Steps of the drawing.
    pub steps: Option<u32>,
    /// How closely the prompt is followed.
    pub guidance: Option<f32>,
    /// The same seed draws the same picture.
    pub seed: Option<i64>,
    /// The picture that it begins with, as base64.
    pub from: Option<String>,
    /// Where that one may change: white, as base64.
    pub mask: Option<String>,
    /// How far from that one it may go, 0 to 1.
    pub strength: Option<f32>,
    /// What it comes as.
    pub format: PictureFormat,
}

/// How far a drawing is.
#[derive(Debug, Clone, PartialEq)]
pub enum PictureEvent {
    /// It waits behind so many others.
    Queued(usize),
    /// So many steps are done.
    Step {
        /// Done.
        done: u32,
        /// Of so many.
        of: u32,
    },
    /// The pictures, as base64.
    Finished(Vec<String>),
}
