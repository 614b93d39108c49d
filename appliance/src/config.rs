//! What the owner set: defaults, then file, then environment, then flags, resolved once.
//!
//! The only module that reads the environment. The others take their own section and know nothing of
//! where it came from.

mod agents;
mod documents;
mod gaia;
mod hub;
mod mesh;
mod ternary;
mod trust;

use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use agents::AgentsConfig;
pub use documents::DocumentsConfig;
pub use gaia::GaiaConfig;
pub use hub::HubConfig;
pub use mesh::{HeadscaleConfig, MeshConfig};
pub use ternary::{CacheKind, ComputeDevice, HeadKind, TernaryConfig};
pub use trust::{AcmeConfig, TrustConfig};

/// The commented file with every setting at its default; `onebit` prints it, a test holds it true.
pub const DEFAULT_FILE: &str = include_str!("../onebit.toml");

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The data directory; empty until [`Config::resolve`] has filled it in.
    pub data_dir: PathBuf,
    /// Listeners and limits of the HTTP surface.
    pub server: ServerConfig,
    /// Who is let in, and what we are called.
    pub trust: TrustConfig,
    /// A public certificate for names of the owner's.
    pub acme: AcmeConfig,
    /// How phones reach us from anywhere.
    pub mesh: MeshConfig,
    /// A Headscale server of the owner's.
    pub headscale: HeadscaleConfig,
    /// The built-in engine.
    pub ternary: TernaryConfig,
    /// Which models may be loaded together.
    pub pool: PoolConfig,
    /// Which models there are without being brought in.
    pub models: ModelsConfig,
    /// What may leave this machine.
    pub fetch: FetchConfig,
    /// Where models come from.
    pub hub: HubConfig,
    /// The library of documents.
    pub documents: DocumentsConfig,
    /// Agents and what they may touch.
    pub agents: AgentsConfig,
    /// GAIA's page beside ours.
    pub gaia: GaiaConfig,
    /// Where newer versions come from.
    pub update: UpdateConfig,
    /// What is logged.
    pub log: LogConfig,
}

/// Listeners and limits of the HTTP surface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Addresses to listen on; each takes http and https alike.
    pub listen: Vec<SocketAddr>,
    /// Further host names that a browser may use.
    pub allowed_hosts: Vec<String>,
    /// Further origins whose pages may call us.
    pub allowed_origins: Vec<String>,
    /// Largest request body.
    pub body_bytes_max: usize,
    /// Time for running answers when stopping.
    pub drain_s: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            listen: [8000, 8443]
                .into_iter()
                .flat_map(|port| {
                    [
                        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
                        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
                    ]
                })
                .collect(),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            body_bytes_max: 32 << 20,
            drain_s: 10,
        }
    }
}

/// Which models may be loaded together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolConfig {
    /// Bytes of all loaded models together; 0 is automatic.
    pub memory_bytes_max: u64,
    /// Share of free memory when automatic.
    pub memory_share: f64,
    /// Unload after this long without a request; 0 never.
    pub idle_unload_s: u64,
}

impl Default for PoolConfig {
    fn default() -> Self {
        PoolConfig {
            memory_bytes_max: 0,
            memory_share: 0.8,
            idle_unload_s: 0,
        }
    }
}

/// Which models there are without being brought in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelsConfig {
    /// The one that comes with the program.
    pub builtin: bool,
    /// Those that are worth having beside it.
    pub starter: StarterKind,
}

/// What becomes of the models that a new appliance is worth having.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum StarterKind {
    /// They are offered; the owner says whether they are fetched.
    #[default]
    Offer,
    /// They are fetched beside everything else from the first start on.
    Fetch,
    /// There are none.
    Off,
}

impl Default for ModelsConfig {
    fn default() -> Self {
        ModelsConfig {
            builtin: true,
            starter: StarterKind::default(),
        }
    }
}

/// What may leave this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct FetchConfig {
    /// Nothing may.
    pub offline: bool,
    /// Hosts in private networks that may be spoken to.
    pub private_hosts: Vec<String>,
}

/// Where newer versions come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateConfig {
    /// The address of a folder with one folder for each channel; empty where there is none.
    pub releases: String,
    /// Which of its folders.
    pub channel: String,
    /// The minisign public key of releases; empty for the built-in one.
    pub key: String,
}

impl Default for UpdateConfig {
    fn default() -> Self {
        UpdateConfig {
            releases: String::new(),
            channel: "stable".into(),
            key: String::new(),
        }
    }
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// A level or a filter.
    pub level: String,
    /// The form of a line.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// What the command line overrides.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config`
    pub file: Option<PathBuf>,
    /// `--data`
    pub data_dir: Option<PathBuf>,
    /// `--listen`, possibly several times.
    pub listen: Vec<SocketAddr>,
    /// `--gaia-ui`
    pub gaia_ui: Option<PathBuf>,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The file or a variable does not say what a setting needs.
    #[error("{origin}: {why}")]
    Value {
        /// The file or the variable.
        origin: String,
        /// What is wrong with it.
        why: String,
    },
    /// No folder for data follows from the environment.
    #[error("cannot tell where to keep data: set HOME or give --data DIR")]
    NoDataDir,
}

/// Looks up one variable; [`environment`] in the program, a table in tests.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What was typed after the program's name.
pub fn arguments() -> impl Iterator<Item = OsString> {
    std::env::args_os().skip(1)
}

/// The folders in which the system looks for programs.
pub fn program_folders() -> Vec<PathBuf> {
    std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default()
}

/// This program's own file.
pub fn own_program() -> Option<PathBuf> {
    std::env::current_exe().ok()
}

/// Finds a file that comes with the program: below the prefix that it is installed in, or in the checkout that
/// it was built in.
pub fn shipped_model(name: &str) -> Option<PathBuf> {
    let program = own_program();
    let installed = program
        .iter()
        .flat_map(|program| program.ancestors().skip(2).take(1))
        .map(|prefix| prefix.join("lib/onebit/models"));
    let beside = program
        .iter()
        .flat_map(|program| program.ancestors().skip(1))
        .map(|folder| folder.join("packaging/models"));
    // A debug build may lie anywhere (CARGO_TARGET_DIR); it never leaves the machine that made it.
    let checkout = cfg!(debug_assertions)
        .then(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/models"));
    installed
        .chain(beside)
        .chain(checkout)
        .map(|folder| folder.join(name))
        .find_map(|file| file.is_file().then(|| file.canonicalize().ok()).flatten())
}

/// The folder of engines that come with the program: below the prefix that it is installed in, else where packages put
/// them.
pub fn bundled_engines() -> PathBuf {
    let program = own_program();
    let prefix = program
        .as_deref()
        .and_then(|program| program.ancestors().nth(2));
    let beside = prefix.map(|prefix| prefix.join("lib/onebit/engines"));
    beside
        .filter(|folder| folder.is_dir())
        .unwrap_or_else(|| PathBuf::from("/usr/lib/onebit/engines"))
}

/// Reads the process's environment.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Config {
    /// Resolves the settings: defaults, file, environment, flags.
    ///
    /// # Errors
    /// Names the file or variable and what is wrong with it.
    pub fn resolve(flags: &Flags, variables: Variables<'_>) -> Result<Config, ConfigError> {
        let mut table = Table::new();
        if let Some(path) = file_in_use(flags, variables) {
            table = read(&path)?;
            // Checked alone first, so that a mistake is blamed on the file.
            parse(table.clone(), &path.display().to_string())?;
        }
        for (section, key, default) in every_key() {
            let name = variable_name(section.as_deref(), &key);
            if let Some(text) = variables(&name) {
                let value = typed(&text, &default).ok_or_else(|| ConfigError::Value {
                    origin: name.clone(),
                    why: wanted(&default, &text),
                })?;
                set(&mut table, section, key, value);
                parse(table.clone(), &name)?;
            }
        }
        let mut config = parse(table, "settings")?;
        if !flags.listen.is_empty() {
            config.server.listen.clone_from(&flags.listen);
        }
        if let Some(folder) = &flags.gaia_ui {
            config.gaia.ui.clone_from(folder);
        }
        if let Some(data) = &flags.data_dir {
            config.data_dir.clone_from(data);
        }
        if config.data_dir.as_os_str().is_empty() {
            config.data_dir = default_data_dir(variables).ok_or(ConfigError::NoDataDir)?;
        }
        // Children have working folders of their own.
        if let Ok(whole) = std::path::absolute(&config.data_dir) {
            config.data_dir = whole;
        }
        if config.hub.cache.as_os_str().is_empty() {
            config.hub.cache = hub::usual_cache(variables).unwrap_or_default();
        }
        if config.documents.roots.is_empty() {
            config
                .documents
                .roots
                .extend(variables("HOME").map(PathBuf::from));
        }
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key: &str, why: &str| {
            Err(ConfigError::Value {
                origin: key.to_owned(),
                why: why.to_owned(),
            })
        };
        if self.server.listen.is_empty() {
            return wrong("server.listen", "give at least one address");
        }
        let name = &self.trust.name;
        if name.is_empty()
            || name.len() > 63
            || !name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            return wrong("trust.name", "may hold small letters, digits and `-`");
        }
        if self.trust.certificate.is_empty() != self.trust.certificate_key.is_empty() {
            return wrong(
                "trust.certificate",
                "needs trust.certificate_key, and the other way round",
            );
        }
        if let Some((key, why)) = self.acme.fault().or_else(|| self.mesh.fault()) {
            return wrong(key, why);
        }
        if !(self.pool.memory_share > 0.0 && self.pool.memory_share <= 1.0) {
            return wrong("pool.memory_share", "must be above 0 and at most 1");
        }
        if self.ternary.active_max == 0 || self.ternary.prefill_tokens == 0 {
            return wrong(
                "ternary",
                "active_max and prefill_tokens must be at least 1",
            );
        }
        Ok(())
    }
}

/// The file to read: named, or the first usual one that exists.
fn file_in_use(flags: &Flags, variables: Variables<'_>) -> Option<PathBuf> {
    if let Some(path) = flags
        .file
        .clone()
        .or_else(|| variables("ONEBIT_CONFIG").map(PathBuf::from))
    {
        return Some(path);
    }
    let user = variables("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| variables("HOME").map(|home| Path::new(&home).join(".config")))
        .map(|folder| folder.join("onebit/onebit.toml"));
    user.into_iter()
        .chain([PathBuf::from("/etc/onebit/onebit.toml")])
        .find(|path| path.is_file())
}

fn default_data_dir(variables: Variables<'_>) -> Option<PathBuf> {
    if variables("USER").as_deref() == Some("root") || variables("HOME").as_deref() == Some("/root")
    {
        return Some(PathBuf::from("/var/lib/onebit"));
    }
    variables("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| variables("HOME").map(|home| Path::new(&home).join(".local/share")))
        .map(|folder| folder.join("onebit"))
}

fn read(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    text.parse()
        .map_err(|why: toml::de::Error| ConfigError::Value {
            origin: path.display().to_string(),
            why: one_line(&why.to_string()),
        })
}

fn parse(table: Table, origin: &str) -> Result<Config, ConfigError> {
    table
        .try_into()
        .map_err(|why: toml::de::Error| ConfigError::Value {
            origin: origin.to_owned(),
            why: one_line(&why.to_string()),
        })
}

fn one_line(text: &str) -> String {
    text.split('\n')
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Every setting as (section, key, default), read from the commented file.
fn every_key() -> Vec<(Option<String>, String, Value)> {
    let table: Table = DEFAULT_FILE.parse().unwrap_or_default();
    let mut keys = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(section) => {
                keys.extend(
                    section
                        .into_iter()
                        .map(|(key, value)| (Some(name.clone()), key, value)),
                );
            }
            value => keys.push((None, name, value)),
        }
    }
    keys
}

fn variable_name(section: Option<&str>, key: &str) -> String {
    let section = section.map(|s| format!("{s}_")).unwrap_or_default();
    format!("ONEBIT_{section}{key}").to_uppercase()
}

/// Reads a variable as the type that its default has; lists are separated by commas.
fn typed(text: &str, default: &Value) -> Option<Value> {
    Some(match default {
        Value::String(_) => Value::String(text.to_owned()),
        Value::Integer(_) => Value::Integer(text.parse().ok()?),
        Value::Float(_) => Value::Float(text.parse().ok()?),
        Value::Boolean(_) => Value::Boolean(match text {
            "1" | "true" | "yes" | "on" => true,
            "0" | "false" | "no" | "off" => false,
            _ => return None,
        }),
        Value::Array(_) => Value::Array(
            text.split(',')
                .map(|item| Value::String(item.trim().to_owned()))
                .collect(),
        ),
        Value::Datetime(_) | Value::Table(_) => return None,
    })
}

fn wanted(default: &Value, text: &str) -> String {
    format!("`{text}` is not of type {}", default.type_str())
}

fn set(table: &mut Table, section: Option<String>, key: String, value: Value) {
    let target = match section {
        None => table,
        Some(name) => match table
            .entry(name)
            .or_insert_with(|| Value::Table(Table::new()))
        {
            Value::Table(section) => section,
            _ => return, // the file's own check has already refused a section that is no table
        },
    };
    target.insert(key, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    fn with(pairs: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        move |name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        }
    }

    #[test]
    fn the_commented_file_is_the_default_and_names_every_key() {
        let config: Config = toml::from_str(DEFAULT_FILE).unwrap();
        assert_eq!(config, Config::default());
        let full = Table::try_from(Config::default()).unwrap();
        let file: Table = DEFAULT_FILE.parse().unwrap();
        for (name, value) in &full {
            match value {
                Value::Table(section) => {
                    for key in section.keys() {
                        assert!(
                            file[name].get(key).is_some(),
                            "{name}.{key} is not in onebit.toml"
                        );
                    }
                }
                _ => assert!(file.contains_key(name), "{name} is not in onebit.toml"),
            }
        }
    }

    #[test]
    fn later_sources_win() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("o.toml");
        std::fs::write(
            &path,
            "data_dir = \"/a\"\n[ternary]\nthreads = 3\nqueue_max = 7\n",
        )
        .unwrap();
        let flags = Flags {
            file: Some(path),
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            ..Flags::default()
        };
        let variables = with(&[
            ("ONEBIT_TERNARY_THREADS", "5"),
            ("ONEBIT_SERVER_LISTEN", "127.0.0.1:9,[::1]:9"),
        ]);
        let config = Config::resolve(&flags, &variables).unwrap();
        assert_eq!(config.data_dir, PathBuf::from("/a"));
        assert_eq!((config.ternary.threads, config.ternary.queue_max), (5, 7));
        assert_eq!(
            config.server.listen,
            ["127.0.0.1:0".parse::<SocketAddr>().unwrap()]
        );
    }

    #[test]
    fn mistakes_name_their_origin() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("o.toml");
        std::fs::write(&path, "[server]\nlisten_on = 1\n").unwrap();
        let flags = Flags {
            file: Some(path.clone()),
            ..Flags::default()
        };
        let error = Config::resolve(&flags, &none).unwrap_err().to_string();
        assert!(
            error.contains("o.toml") && error.contains("listen_on"),
            "{error}"
        );

        let variables = with(&[("HOME", "/home/a"), ("ONEBIT_TERNARY_THREADS", "many")]);
        let error = Config::resolve(&Flags::default(), &variables)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("ONEBIT_TERNARY_THREADS: "), "{error}");
    }

    #[test]
    fn a_name_and_half_a_certificate_are_checked() {
        for (variable, value) in [
            ("ONEBIT_TRUST_NAME", "My Box"),
            ("ONEBIT_TRUST_NAME", "a.b"),
            ("ONEBIT_TRUST_CERTIFICATE", "/a.pem"),
        ] {
            let variables = move |name: &str| match name {
                "HOME" => Some("/home/a".to_owned()),
                name => (name == variable).then(|| value.to_owned()),
            };
            let error = Config::resolve(&Flags::default(), &variables).unwrap_err();
            assert!(error.to_string().starts_with("trust."), "{error}");
        }
    }

    #[test]
    fn the_data_directory_follows_the_user() {
        let data = |variables: Variables<'_>| {
            Config::resolve(&Flags::default(), variables).map(|config| config.data_dir)
        };
        let home = with(&[("HOME", "/home/a")]);
        assert_eq!(
            data(&home).unwrap(),
            PathBuf::from("/home/a/.local/share/onebit")
        );
        let root = with(&[("HOME", "/root")]);
        assert_eq!(data(&root).unwrap(), PathBuf::from("/var/lib/onebit"));
        assert!(matches!(data(&none), Err(ConfigError::NoDataDir)));
    }
}
