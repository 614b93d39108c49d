//! A Kokoro server: text to speech.

use std::path::Path;

use super::child::{Door, Recipe, Seat};
use super::lanes::{Abilities, Lane, Memory, Silicon, Work};
use super::upstream::Endpoint;
use crate::process::{Sandbox, Spec};

/// Its lane.
pub const LANE: Lane = Lane {
    name: "kokoro.cpu",
    silicon: Silicon::Cpu,
    works: &[Work::Speak],
    abilities: Abilities::ALL,
    slots: 1,
    context_max: usize::MAX,
    memory: Memory::Ram,
};

/// Texts that may wait.
const QUEUE_MAX: usize = 16;

/// How to start and treat it. `model` is the folder with the weights and the voices.
#[must_use]
pub fn recipe(program: &Path, id: &str, model: &Path) -> Recipe {
    let (program, model) = (program.to_owned(), model.to_owned());
    Recipe {
        model: id.to_owned(),
        model_inside: id.to_owned(),
        door: Door::Port,
        ready_path: "/",
        slots: 1,
        queue_max: QUEUE_MAX,
        tokens_min: 0,
        command: Box::new(move |seat| command(&program, &model, seat)),
    }
}

fn command(program: &Path, model: &Path, seat: &Seat) -> Spec {
    let mut spec = Spec::new(program).arg("-m").arg(model);
    if let Endpoint::Port(address) = &seat.endpoint {
        spec = spec.args([
            "--ip".to_owned(),
            address.ip().to_string(),
            "--port".to_owned(),
            address.port().to_string(),
        ]);
    }
    let mut sandbox = Sandbox::system().reading(model).writing("/tmp");
    sandbox.read.extend(program.parent().map(Path::to_owned));
    spec.sandbox(sandbox)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line() {
        let seat = Seat {
            endpoint: Endpoint::Port(([127, 0, 0, 1], 5000).into()),
            secret: "abc".into(),
        };
        let spec = command(
            Path::new("/opt/kokoro-server"),
            Path::new("/m/kokoro"),
            &seat,
        );
        assert_eq!(
            spec.args,
            ["-m", "/m/kokoro", "--ip", "127.0.0.1", "--port", "5000"]
        );
    }
}
