//! Agents as files: what an agent must be like, and a zip of them written and read.
//!
//! A bundle comes from elsewhere and is believed in nothing: sizes are counted while it unfolds, names lead nowhere,
//! links and programs are refused, and an agent in it is text and names of tools, never code. It can ask for tools; it
//! cannot allow itself anything.

use std::collections::HashSet;
use std::io::{Cursor, Read, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::builtin;
use crate::domain::{Agent, RunLimits};

/// Bytes of a bundle, and of all that it unfolds to.
pub const BUNDLE_BYTES_MAX: usize = 100 << 20;
const UNFOLDED_BYTES_MAX: u64 = 100 << 20;

/// Bytes of one agent's file: instructions are pages of text at most.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Files of a bundle.
const FILES_MAX: usize = 1000;

/// The file of each agent, in a folder of its identifier.
const FILE: &str = "agent.json";

const ID_MAX: usize = 64;
const INSTRUCTIONS_CHARS_MAX: usize = 20_000;
const LINE_CHARS_MAX: usize = 500;
const LIST_MAX: usize = 64;

/// What came of reading a bundle: agents, and those that were refused with why.
pub type Brought = (Vec<Agent>, Vec<(String, String)>);

/// An agent as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The layout of this file.
    version: u32,
    id: String,
    name: String,
    #[serde(default)]
    description: String,
    instructions: String,
    #[serde(default)]
    tools: Vec<String>,
    #[serde(default)]
    starters: Vec<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    steps: Option<usize>,
    #[serde(default)]
    time_s: Option<u64>,
    #[serde(default)]
    tokens: Option<usize>,
}

impl From<&Agent> for File {
    fn from(agent: &Agent) -> File {
        File {
            version: 1,
            id: agent.id.clone(),
            name: agent.name.clone(),
            description: agent.description.clone(),
            instructions: agent.instructions.clone(),
            tools: agent.tools.clone(),
            starters: agent.starters.clone(),
            model: agent.model.clone(),
            steps: Some(agent.limits.steps),
            time_s: Some(agent.limits.time.as_secs()),
            tokens: Some(agent.limits.tokens),
        }
    }
}

impl From<File> for Agent {
    fn from(file: File) -> Agent {
        let usual = RunLimits::default();
        Agent {
            id: file.id,
            name: file.name,
            description: file.description,
            instructions: file.instructions,
            tools: file.tools,
            starters: file.starters,
            model: file.model.filter(|model| !model.is_empty()),
            limits: RunLimits {
                steps: file.steps.unwrap_or(usual.steps),
                time: file.time_s.map_or(usual.time, Duration::from_secs),
                tokens: file.tokens.unwrap_or(usual.tokens),
            },
            builtin: false,
        }
    }
}

/// Whether an agent is as an agent must be.
///
/// # Errors
/// What is wrong with it.
pub fn check(agent: &Agent) -> Result<(), String> {
    let plain = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    };
    let id = &agent.id;
    if id.len() > ID_MAX || !plain(id) || id.contains('.') {
        return Err(format!(
            "its identifier must be 1 to {ID_MAX} letters, digits, `_` and `-`"
        ));
    }
    if agent.name.trim().is_empty()
        || agent.name.chars().count() > ID_MAX
        || agent.name.chars().any(char::is_control)
    {
        return Err(format!(
            "its name must be one line of 1 to {ID_MAX} characters"
        ));
    }
    if agent.description.chars().count() > LINE_CHARS_MAX {
        return Err(format!(
            "its description is longer than {LINE_CHARS_MAX} characters"
        ));
    }
    if agent.instructions.chars().count() > INSTRUCTIONS_CHARS_MAX {
        return Err(format!(
            "its instructions are longer than {INSTRUCTIONS_CHARS_MAX} characters"
        ));
    }
    if agent.tools.len() > LIST_MAX
        || !agent
            .tools
            .iter()
            .all(|tool| tool.len() <= 2 * ID_MAX && plain(tool))
    {
        return Err(format!(
            "its tools must be at most {LIST_MAX} names of tools"
        ));
    }
    if agent.starters.len() > LIST_MAX
        || agent
            .starters
            .iter()
            .any(|one| one.chars().count() > LINE_CHARS_MAX)
    {
        return Err(format!(
            "it may have {LIST_MAX} starters of {LINE_CHARS_MAX} characters each"
        ));
    }
    let limits = agent.limits;
    let within = (1..=64).contains(&limits.steps)
        && limits.time.as_secs() <= 24 * 3600
        && (1..=1_000_000).contains(&limits.tokens);
    if !within || limits.time.is_zero() {
        return Err(
            "its limits must be 1 to 64 steps, 1 second to a day, and 1 to 1,000,000 tokens"
                .to_owned(),
        );
    }
    Ok(())
}

/// Writes agents into a zip.
///
/// # Errors
/// The zip cannot be made.
pub fn write(agents: &[Agent]) -> Result<Vec<u8>, String> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .unix_permissions(0o644);
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    for agent in agents {
        zip.start_file(format!("{}/{FILE}", agent.id), options)
            .map_err(|error| failed(&error))?;
        let text =
            serde_json::to_string_pretty(&File::from(agent)).map_err(|error| failed(&error))?;
        zip.write_all(text.as_bytes())
            .map_err(|error| failed(&error))?;
    }
    let cursor = zip.finish().map_err(|error| failed(&error))?;
    Ok(cursor.into_inner())
}

/// Reads agents from a zip.
///
/// # Errors
/// What makes the whole of it suspect: it is no zip, it is too large, or a name in it leads elsewhere. What is wrong with
/// one agent only refuses that one.
pub fn read(bytes: &[u8]) -> Result<Brought, String> {
    if bytes.len() > BUNDLE_BYTES_MAX {
        return Err(format!("it is larger than {BUNDLE_BYTES_MAX} bytes"));
    }
    let mut zip =
        ZipArchive::new(Cursor::new(bytes)).map_err(|error| format!("it is no zip: {error}"))?;
    if zip.len() > FILES_MAX {
        return Err(format!("it holds more than {FILES_MAX} files"));
    }
    let (mut agents, mut refused): Brought = Default::default();
    let mut seen = HashSet::new();
    let mut left = UNFOLDED_BYTES_MAX;
    for index in 0..zip.len() {
        let mut entry = zip
            .by_index(index)
            .map_err(|error| format!("a file in it cannot be read: {error}"))?;
        let name = entry
            .name()
            .map_err(|error| format!("a name in it cannot be read: {error}"))?
            .into_owned();
        let leads_out = name.contains(['\0', '\\', ':'])
            || name.starts_with('/')
            || name.split('/').any(|part| part == "..");
        if leads_out {
            return Err(format!("the name {name:?} in it leads elsewhere"));
        }
        if entry.is_symlink() {
            return Err(format!("`{name}` in it is a link"));
        }
        if entry.is_dir() {
            continue;
        }
        if !seen.insert(name.clone()) {
            return Err(format!("`{name}` is in it twice"));
        }
        let mut text = Vec::new();
        let most = FILE_BYTES_MAX.min(left) + 1;
        let taken = (&mut entry)
            .take(most)
            .read_to_end(&mut text)
            .map_err(|error| format!("`{name}` cannot be unfolded: {error}"))?
            as u64;
        left = left.saturating_sub(taken);
        if left == 0 {
            return Err(format!(
                "it unfolds to more than {UNFOLDED_BYTES_MAX} bytes"
            ));
        }
        let folder = match name.split_once('/') {
            Some((folder, FILE)) => folder.to_owned(),
            _ => {
                refused.push((
                    name,
                    format!("only FOLDER/{FILE} is taken; programs and other files are not"),
                ));
                continue;
            }
        };
        if taken > FILE_BYTES_MAX {
            refused.push((
                folder,
                format!("its file is larger than {FILE_BYTES_MAX} bytes"),
            ));
            continue;
        }
        match agent(&folder, &text) {
            Ok(agent) => agents.push(agent),
            Err(why) => refused.push((folder, why)),
        }
    }
    if agents.is_empty() && refused.is_empty() {
        return Err("there is no agent in it".to_owned());
    }
    Ok((agents, refused))
}

fn agent(folder: &str, text: &[u8]) -> Result<Agent, String> {
    let file: File =
        serde_json::from_slice(text).map_err(|error| format!("{FILE} cannot be read: {error}"))?;
    if file.version != 1 {
        return Err(format!(
            "{FILE} has version {}, and this program knows version 1; update it",
            file.version
        ));
    }
    let agent = Agent::from(file);
    check(&agent)?;
    if agent.id != folder {
        return Err(format!(
            "its folder is `{folder}` and its identifier `{}`",
            agent.id
        ));
    }
    if builtin::all().iter().any(|known| known.id == agent.id) {
        return Err("an agent of this name comes with the program".to_owned());
    }
    Ok(agent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mine() -> Agent {
        Agent {
            id: "mine".into(),
            name: "Mine".into(),
            description: "d".into(),
            instructions: "Do it.".into(),
            tools: vec!["now".into(), "mcp".into()],
            starters: vec!["Go".into()],
            model: Some("m".into()),
            limits: RunLimits {
                steps: 3,
                time: Duration::from_secs(9),
                tokens: 100,
            },
            builtin: false,
        }
    }

    fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, text) in files {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(text).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn json(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
        let mut value = serde_json::to_value(File::from(&mine())).unwrap();
        change(&mut value);
        value.to_string().into_bytes()
    }

    #[test]
    fn agents_come_back_as_they_were() {
        let (agents, refused) = read(&write(&[mine()]).unwrap()).unwrap();
        assert_eq!((agents, refused), (vec![mine()], Vec::new()));
    }

    #[test]
    fn a_bundle_that_means_harm_is_refused_as_a_whole() {
        let good = json(|_| {});
        for name in [
            "../mine/agent.json",
            "/etc/agent.json",
            "mine/../../agent.json",
            "mine\\agent.json",
            "C:mine/agent.json",
        ] {
            let error = read(&zipped(&[("mine/agent.json", &good), (name, &good)])).unwrap_err();
            assert!(error.contains("leads elsewhere"), "{name}: {error}");
        }
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.add_symlink(
            "mine/agent.json",
            "/etc/passwd",
            SimpleFileOptions::default(),
        )
        .unwrap();
        assert!(
            read(&zip.finish().unwrap().into_inner())
                .unwrap_err()
                .contains("link")
        );
        assert!(read(b"PK no zip").unwrap_err().contains("no zip"));
        assert!(read(&zipped(&[])).unwrap_err().contains("no agent"));
        let many: Vec<(String, &[u8])> = (0..=FILES_MAX)
            .map(|n| (format!("a{n}/agent.json"), &good[..]))
            .collect();
        let many: Vec<(&str, &[u8])> = many
            .iter()
            .map(|(name, text)| (name.as_str(), *text))
            .collect();
        assert!(read(&zipped(&many)).unwrap_err().contains("more than"));
    }

    #[test]
    fn a_bomb_is_not_unfolded() {
        // 64 MiB of blanks in a few kilobytes: what is counted is what unfolds, and it stops there.
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        zip.start_file("bomb/agent.json", options).unwrap();
        let blank = vec![b' '; 1 << 20];
        for _ in 0..64 {
            zip.write_all(&blank).unwrap();
        }
        let (agents, refused) = read(&zip.finish().unwrap().into_inner()).unwrap();
        assert!(agents.is_empty());
        assert!(refused[0].1.contains("larger than"), "{refused:?}");
    }

    #[test]
    fn one_bad_agent_refuses_only_itself() {
        let cases: Vec<(&str, Vec<u8>, &str)> = vec![
            ("a/agent.json", b"{".to_vec(), "cannot be read"),
            ("b/agent.json", json(|v| v["id"] = "b".into()), ""),
            ("c/agent.json", json(|_| {}), "its folder"),
            (
                "chat/agent.json",
                json(|v| v["id"] = "chat".into()),
                "comes with the program",
            ),
            (
                "d/agent.json",
                json(|v| v["run"] = "rm -rf".into()),
                "unknown field",
            ),
            (
                "e/agent.json",
                json(|v| {
                    v["id"] = "e".into();
                    v["version"] = 9.into()
                }),
                "version 9",
            ),
            (
                "f/agent.json",
                json(|v| {
                    v["id"] = "f".into();
                    v["steps"] = 9999.into()
                }),
                "limits",
            ),
            (
                "g/agent.json",
                json(|v| {
                    v["id"] = "g".into();
                    v["tools"] = serde_json::json!(["rm -rf /"])
                }),
                "tools",
            ),
            ("h/run.sh", b"#!/bin/sh".to_vec(), "programs"),
            (
                "i/agent.json",
                json(|v| v["id"] = "../i".into()),
                "identifier",
            ),
        ];
        let files: Vec<(&str, &[u8])> = cases
            .iter()
            .map(|(name, text, _)| (*name, &text[..]))
            .collect();
        let (agents, refused) = read(&zipped(&files)).unwrap();
        assert_eq!(
            agents
                .iter()
                .map(|agent| agent.id.as_str())
                .collect::<Vec<_>>(),
            ["b"]
        );
        for (name, _, word) in cases.iter().filter(|(_, _, word)| !word.is_empty()) {
            let folder = if word == &"programs" {
                *name
            } else {
                name.split('/').next().unwrap()
            };
            let found = refused
                .iter()
                .find(|(id, _)| id == folder)
                .unwrap_or_else(|| panic!("{name}: {refused:?}"));
            assert!(found.1.contains(word), "{name}: {}", found.1);
        }
    }
}
