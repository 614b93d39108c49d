//! The pool with an engine that only pretends.

use super::super::{Card, Engine, EngineError, Facts, Fit, Load, Means, Session, Slot, Task};
use super::*;
use crate::domain::ModelFormat;
use futures_util::future::BoxFuture;
use std::path::PathBuf;

/// An engine whose models are as large as their files say; `bad` ones fail.
struct Fake;

struct FakeSession(Facts);

impl Session for FakeSession {
    fn facts(&self) -> &Facts {
        &self.0
    }

    fn load(&self) -> Load {
        Load::default()
    }
}

impl Engine for Fake {
    fn card(&self) -> &'static Card {
        static CARD: Card = Card {
            name: "fake",
            tasks: &[Task::Chat],
            formats: &[ModelFormat::Gguf],
            device: "none",
        };
        &CARD
    }

    fn fit(&self, model: &Model, _: &Machine, _: &Means) -> Fit {
        match model.architecture.as_str() {
            "unknown" => Fit::No {
                why: "not known".into(),
            },
            _ => Fit::Runs {
                memory_bytes_min: model.file_bytes,
                memory_bytes: model.file_bytes,
            },
        }
    }

    fn load<'a>(
        &'a self,
        model: &'a Model,
        slot: Slot,
    ) -> BoxFuture<'a, Result<Arc<dyn Session>, EngineError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            if model.id == "bad" {
                return Err(EngineError::LoadFailed {
                    model: model.id.clone(),
                    why: "bad".into(),
                });
            }
            Ok(Arc::new(FakeSession(Facts {
                engine: "fake",
                context_length: 1,
                memory_bytes: slot.memory_bytes_max,
                template: None,
            })) as Arc<dyn Session>)
        })
    }
}

fn model(id: &str, file_bytes: u64) -> Model {
    Model {
        id: id.into(),
        name: id.into(),
        format: ModelFormat::Gguf,
        path: PathBuf::new(),
        file_bytes,
        sha256: id.into(),
        architecture: "llama".into(),
        quantisation: String::new(),
        context_length: 1,
        kv_bytes_per_position: 0,
        has_template: false,
        imported_at: 0,
    }
}

const MACHINE: Machine = Machine {
    cores: 1,
    memory_total_bytes: 1000,
    memory_available_bytes: 1000,
};

fn pool() -> Pool {
    let settings = PoolConfig {
        memory_bytes_max: 100,
        ..PoolConfig::default()
    };
    let threads = Arc::new(Threads::new(1));
    Pool::start(
        &[&Fake],
        settings,
        Means::default(),
        threads,
        Arc::new(|| MACHINE),
    )
}

#[tokio::test]
async fn models_share_the_budget_and_nobody_is_cut_off() {
    let pool = pool();
    let (a, b) = (model("a", 60), model("b", 40));
    let first = pool.session(&a).await.unwrap();
    let again = pool.session(&a).await.unwrap();
    assert_eq!(
        pool.survey(MACHINE).await.loaded.len(),
        1,
        "one session serves both"
    );
    drop(pool.session(&b).await.unwrap());
    assert_eq!(pool.states().await.len(), 2);
    // c needs b's room (idle); d needs a's, which is in use, and waits for it.
    let c = pool.session(&model("c", 40)).await.unwrap();
    assert!(!pool.states().await.contains_key("b"));
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move {
            pool.session(&model("d", 60))
                .await
                .map(|lease| lease.facts().memory_bytes)
        }
    });
    while pool.states().await.get("d") != Some(&ModelState::Loading) {
        tokio::task::yield_now().await;
    }
    assert!(matches!(
        pool.states().await["a"],
        ModelState::Loaded { .. }
    ));
    drop((first, again));
    assert_eq!(waiting.await.unwrap().unwrap(), 60);
    assert!(!pool.states().await.contains_key("a"));
    drop(c);

    let error = pool.session(&model("huge", 101)).await.err().unwrap();
    assert!(
        matches!(
            error,
            EngineError::TooBig {
                needed_bytes: 101,
                budget_bytes: 100,
                ..
            }
        ),
        "{error}"
    );
    let error = pool.session(&model("bad", 1)).await.err().unwrap();
    assert!(matches!(error, EngineError::LoadFailed { .. }), "{error}");
    assert!(matches!(
        pool.states().await["bad"],
        ModelState::Failed { .. }
    ));
    let unknown = Model {
        architecture: "unknown".into(),
        ..model("u", 1)
    };
    let error = pool.session(&unknown).await.err().unwrap();
    assert!(error.to_string().contains("fake: not known"), "{error}");
    // For `bad` the larger one of equal use has left.
    assert!(pool.unload("c").await && !pool.unload("nobody").await);
}

#[tokio::test]
async fn a_pinned_model_is_loaded_at_once_and_stays() {
    let pool = pool();
    let kept = model("kept", 60);
    pool.stay(&kept, Stay::Pinned);
    while !matches!(
        pool.states().await.get("kept"),
        Some(ModelState::Loaded { .. })
    ) {
        tokio::task::yield_now().await;
    }
    drop(pool.session(&model("small", 40)).await.unwrap());
    drop(pool.session(&model("other", 40)).await.unwrap());
    let states = pool.states().await;
    assert!(states.contains_key("kept") && !states.contains_key("small"));
    let error = pool.session(&model("large", 50)).await.err().unwrap();
    assert!(
        matches!(
            error,
            EngineError::TooBig {
                budget_bytes: 40,
                ..
            }
        ),
        "{error}"
    );
    let error = pool.session_on(&kept, "nobody", "").await.err().unwrap();
    assert!(matches!(error, EngineError::NoFit { .. }), "{error}");
}
