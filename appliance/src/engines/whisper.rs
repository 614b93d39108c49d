//! whisper.cpp's server: speech to text.

use std::path::Path;

use super::child::{Door, Recipe, Seat};
use super::lanes::{Abilities, Lane, Memory, Silicon, Work};
use super::upstream::Endpoint;
use crate::process::{Sandbox, Spec};

/// Its lane; the server works on one recording at a time.
pub const LANE: Lane = Lane {
    name: "whisper.cpu",
    silicon: Silicon::Cpu,
    works: &[Work::Transcribe],
    abilities: Abilities::ALL,
    slots: 1,
    context_max: usize::MAX,
    memory: Memory::Ram,
};

/// Recordings that may wait.
const QUEUE_MAX: usize = 16;

/// How to start and treat it. It knows no sockets and no keys, but takes a path that begins every route.
#[must_use]
pub fn recipe(program: &Path, id: &str, model: &Path, threads: usize) -> Recipe {
    let (program, model) = (program.to_owned(), model.to_owned());
    Recipe {
        model: id.to_owned(),
        model_inside: id.to_owned(),
        door: Door::PortWithPath,
        ready_path: "/health",
        slots: 1,
        queue_max: QUEUE_MAX,
        tokens_min: 0,
        command: Box::new(move |seat| command(&program, &model, threads, seat)),
    }
}

fn command(program: &Path, model: &Path, threads: usize, seat: &Seat) -> Spec {
    let mut spec = Spec::new(program)
        .arg("--model")
        .arg(model)
        .args(["--threads".to_owned(), threads.to_string()]);
    if let Endpoint::Port(address) = &seat.endpoint {
        spec = spec.args([
            "--host".to_owned(),
            address.ip().to_string(),
            "--port".to_owned(),
            address.port().to_string(),
        ]);
    }
    let mut sandbox = Sandbox::system().reading(model).writing("/tmp");
    sandbox.read.extend(program.parent().map(Path::to_owned));
    spec.arg("--request-path")
        .arg(format!("/{}", seat.secret))
        .sandbox(sandbox)
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
            Path::new("/opt/whisper-server"),
            Path::new("/m/base.bin"),
            4,
            &seat,
        );
        let line: Vec<_> = spec.args.iter().map(|a| a.to_string_lossy()).collect();
        assert_eq!(
            line.join(" "),
            "--model /m/base.bin --threads 4 --host 127.0.0.1 --port 5000 --request-path /abc"
        );
    }
}
