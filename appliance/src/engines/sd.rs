//! stable-diffusion.cpp's server: pictures.

use std::path::Path;
use std::time::Duration;

use super::child::{Door, Recipe, Seat};
use super::lanes::{Abilities, Lane, Memory, Silicon, Work};
use super::upstream::Endpoint;
use crate::process::{Sandbox, Spec};

/// Its lane; one picture at a time fills any GPU.
pub const LANE: Lane = Lane {
    name: "sd.vulkan",
    silicon: Silicon::Igpu,
    works: &[Work::Image],
    abilities: Abilities::ALL,
    slots: 1,
    context_max: usize::MAX,
    memory: Memory::Gtt,
};

/// Pictures that may wait.
const QUEUE_MAX: usize = 8;

/// How to start and treat it.
#[must_use]
pub fn recipe(program: &Path, id: &str, model: &Path) -> Recipe {
    let (program, model) = (program.to_owned(), model.to_owned());
    Recipe {
        model: id.to_owned(),
        model_inside: id.to_owned(),
        door: Door::Port,
        ready_path: "/v1/models",
        slots: 1,
        queue_max: QUEUE_MAX,
        tokens_min: 0,
        command: Box::new(move |seat| command(&program, &model, seat)),
    }
}

fn command(program: &Path, model: &Path, seat: &Seat) -> Spec {
    let mut spec = Spec::new(program).arg("--model").arg(model);
    if let Endpoint::Port(address) = &seat.endpoint {
        spec = spec.args([
            "--listen-ip".to_owned(),
            address.ip().to_string(),
            "--listen-port".to_owned(),
            address.port().to_string(),
        ]);
    }
    let mut sandbox = Sandbox::system().reading(model).writing("/tmp");
    sandbox.read.extend(program.parent().map(Path::to_owned));
    spec = spec.sandbox(sandbox);
    // It ends between two steps of a picture, and a step of a large one takes seconds.
    spec.grace = Duration::from_secs(10);
    spec
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
        let spec = command(Path::new("/opt/sd-server"), Path::new("/m/sd.gguf"), &seat);
        assert_eq!(
            spec.args,
            [
                "--model",
                "/m/sd.gguf",
                "--listen-ip",
                "127.0.0.1",
                "--listen-port",
                "5000"
            ]
        );
    }
}
