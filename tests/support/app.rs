//! One running appliance: the real binary on a free port, with a data folder that goes with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

use super::{Client, cache, model_file};

/// The program under test: this build's, or the one an installer put somewhere.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("ONEBIT_TEST_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_onebit").into(), PathBuf::from)
}

/// Runs the program to its end, away from this user's own settings.
pub(crate) fn onebit<const N: usize>(arguments: [&str; N]) -> Output {
    command(Path::new("/nonexistent"))
        .args(arguments)
        .output()
        .expect("onebit runs")
}

/// Runs the program to its end on a data folder.
pub(crate) fn onebit_on(data: &Path, arguments: &[&str]) -> Output {
    command(data)
        .args(arguments)
        .arg("--data")
        .arg(data)
        .output()
        .expect("onebit runs")
}

fn command(config_home: &Path) -> Command {
    let mut command = Command::new(binary());
    command
        .env("XDG_CONFIG_HOME", config_home)
        .env_remove("ONEBIT_DATA_DIR")
        .env("ONEBIT_MODELS_BUILTIN", "false")
        .env(
            "ONEBIT_DOCUMENTS_EMBEDDER",
            cache().join("models/all-minilm-l6-v2"),
        )
        .stdin(Stdio::null());
    command
}

/// Imports SmolLM2.
fn import(config_home: &Path, data: &Path) {
    let output = command(config_home)
        .arg("import")
        .arg(model_file())
        .arg("--data")
        .arg(data)
        .output()
        .expect("onebit runs");
    assert!(
        output.status.success(),
        "import failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Long enough for a debug build on a busy machine; a start takes well under a second.
const START_MAX: Duration = Duration::from_secs(60);

/// A running appliance. Dropping it kills it; so does the end of this process, however it comes.
pub(crate) struct App {
    guard: Child,
    address: String,
    data: PathBuf,
    _folder: Option<tempfile::TempDir>,
}

impl App {
    /// The appliance that tests share which change nothing others see. It knows SmolLM2 alone.
    pub(crate) fn shared() -> &'static App {
        static SHARED: OnceLock<App> = OnceLock::new();
        SHARED.get_or_init(|| App::with_model(&[]))
    }

    /// An appliance of its own, with SmolLM2 imported and further `serve` arguments.
    pub(crate) fn with_model(arguments: &[&str]) -> App {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        import(folder.path(), &data);
        let mut app = App::start(&data, arguments);
        app._folder = Some(folder);
        app
    }

    /// The same with further variables in its environment.
    pub(crate) fn with_model_in(variables: &[(&str, &str)]) -> App {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        import(folder.path(), &data);
        let mut app = App::start_in(&data, &[], "false", variables);
        app._folder = Some(folder);
        app
    }

    /// An appliance of its own with SmolLM2, whose data folder is prepared before it starts.
    pub(crate) fn prepared(prepare: impl FnOnce(&Path)) -> App {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        import(folder.path(), &data);
        prepare(&data);
        let mut app = App::start(&data, &[]);
        app._folder = Some(folder);
        app
    }

    /// The same without any model of ours.
    pub(crate) fn bare(prepare: impl FnOnce(&Path)) -> App {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        std::fs::create_dir_all(&data).expect("a data folder");
        prepare(&data);
        let mut app = App::start(&data, &[]);
        app._folder = Some(folder);
        app
    }

    /// An appliance without any model.
    pub(crate) fn empty() -> App {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut app = App::start(&folder.path().join("data"), &[]);
        app._folder = Some(folder);
        app
    }

    /// An appliance without any model, with further variables in its environment.
    pub(crate) fn with_environment(variables: &[(&str, &str)]) -> App {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut app = App::start_in(&folder.path().join("data"), &[], "false", variables);
        app._folder = Some(folder);
        app
    }

    /// A fresh appliance as an owner gets it: the model that comes with the program, and nothing else.
    pub(crate) fn fresh() -> App {
        App::fresh_with(&[])
    }

    /// The same with further `serve` arguments.
    pub(crate) fn fresh_with(arguments: &[&str]) -> App {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        let mut app = App::start_with(&data, arguments, "true");
        app._folder = Some(folder);
        app
    }

    /// Starts on an existing or new data folder, which stays when the value goes. Its models are those that
    /// were imported, for tests that count them or need llama.cpp's answers.
    pub(crate) fn start(data: &Path, arguments: &[&str]) -> App {
        App::start_with(data, arguments, "false")
    }

    fn start_with(data: &Path, arguments: &[&str], builtin: &str) -> App {
        App::start_in(data, arguments, builtin, &[])
    }

    fn start_in(data: &Path, arguments: &[&str], builtin: &str, variables: &[(&str, &str)]) -> App {
        // The shell holds the appliance as long as its own input stays open, which is as long as this
        // process lives: not even a killed test run leaves one behind. It waits for the end, so that the
        // next one on the same data finds nobody there.
        let script = r#""$@" </dev/null & pid=$!; trap 'kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null' EXIT TERM; read -r _ <&3; exit 0"#;
        let mut guard = Command::new("sh")
            .args(["-c", &format!("exec 3<&0; {script}"), "sh"])
            .arg(binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(arguments)
            .env("XDG_CONFIG_HOME", data)
            .env("ONEBIT_MODELS_BUILTIN", builtin)
            .env(
                "ONEBIT_DOCUMENTS_EMBEDDER",
                cache().join("models/all-minilm-l6-v2"),
            )
            .envs(variables.iter().copied())
            // FastFlowLM sees no NPU where these are set: no engine may inherit them.
            .env("XRT_PATH", "/opt/xilinx/xrt")
            .env("XILINX_XRT", "/opt/xilinx/xrt")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let (found, address) = mpsc::channel();
        read_lines(guard.stdout.take().expect("piped"), found.clone());
        read_lines(guard.stderr.take().expect("piped"), found);
        let mut lines = Vec::new();
        let address = loop {
            match address.recv_timeout(START_MAX) {
                Ok(line) => match address_in(&line) {
                    Some(address) => break address,
                    None => lines.push(line),
                },
                Err(error) => panic!(
                    "the appliance did not say where it listens ({error}): {}",
                    lines.join("\n")
                ),
            }
        };
        App {
            guard,
            address,
            data: data.to_owned(),
            _folder: None,
        }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The data folder.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        let shell = self.guard.id();
        let path = format!("/proc/{shell}/task/{shell}/children");
        let children = std::fs::read_to_string(path).expect("the shell runs");
        let first = children.split_whitespace().next();
        first.and_then(|pid| pid.parse().ok()).expect("its child")
    }

    /// A client of this appliance.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.address)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if let Some(mut input) = self.guard.stdin.take() {
            // The shell waits for this line; when it is gone already, so is the appliance.
            let _ = input.write_all(b"\n");
        }
        let _ = self.guard.wait();
    }
}

/// Passes lines on until the program closes its output; later lines are read and forgotten, so that it
/// never waits for us.
fn read_lines(from: impl Read + Send + 'static, to: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = to.send(line);
        }
    });
}

/// The first loopback address with a port in a line.
fn address_in(line: &str) -> Option<String> {
    let at = line.find("127.0.0.1:")?;
    let rest = &line[at..];
    let digits = rest["127.0.0.1:".len()..]
        .chars()
        .take_while(char::is_ascii_digit)
        .count();
    let address = &rest[.."127.0.0.1:".len() + digits];
    (digits > 0 && !address.ends_with(":0")).then(|| address.to_owned())
}
