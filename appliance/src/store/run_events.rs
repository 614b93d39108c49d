//! What happened in a run, as JSON of one column. The mirrors below are read and written by serde in place of the
//! domain's own types, which know no wire.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::StoreError;
use super::answered::{cites, cites_text, stats as read_stats, stats_text};
use crate::domain::{
    Approval, Citation, Decision, Finding, FinishReason, FoundFile, Note, RunEvent, RunLimits,
    RunRequest, RunStatus, ServerReach, ServerStatus, Stats,
};

#[derive(Serialize, Deserialize)]
#[serde(remote = "RunEvent", rename_all = "snake_case")]
enum Event {
    Started {
        run: String,
        user: Option<String>,
        assistant: Option<String>,
    },
    Status {
        #[serde(with = "NoteWord")]
        note: Note,
        message: String,
    },
    Step {
        step: usize,
        total: usize,
    },
    Thinking(String),
    Plan {
        steps: Vec<String>,
        current: Option<usize>,
    },
    ToolStart {
        call: String,
        tool: String,
        detail: String,
        args: String,
        server: Option<String>,
    },
    ToolConfirm {
        call: String,
        tool: String,
        args: String,
        timeout: Duration,
    },
    ToolDecided {
        call: String,
        #[serde(with = "DecisionWord")]
        decision: Decision,
    },
    ToolResult {
        call: String,
        tool: String,
        summary: String,
        content: String,
        success: bool,
        took: Duration,
        #[serde(with = "finding")]
        finding: Option<Finding>,
    },
    Refused {
        tool: String,
        reason: String,
        rule: String,
    },
    Servers(#[serde(with = "servers")] Vec<ServerStatus>),
    Sources(#[serde(with = "citations")] Vec<Citation>),
    Chunk(String),
    Answer {
        content: String,
        steps: usize,
        tools: usize,
        elapsed: Duration,
    },
    Trouble(String),
    Failed(String),
    Done {
        message: Option<String>,
        #[serde(with = "status")]
        status: RunStatus,
        #[serde(with = "reason")]
        reason: FinishReason,
        content: String,
        #[serde(with = "cost")]
        stats: Option<Stats>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Note", rename_all = "snake_case")]
enum NoteWord {
    Working,
    Info,
    Warning,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Decision", rename_all = "snake_case")]
enum DecisionWord {
    Allowed,
    Denied,
    TimedOut,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "FoundFile")]
struct File {
    name: String,
    path: String,
    folder: bool,
    bytes: u64,
    modified_at: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ServerStatus")]
struct Server {
    name: String,
    connected: bool,
    tools: usize,
    error: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Approval", rename_all = "snake_case")]
enum ApprovalWord {
    Ask,
    Never,
    Always,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RunLimits")]
struct Limits {
    steps: usize,
    time: Duration,
    tokens: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RunRequest")]
struct Request {
    agent: String,
    task: String,
    chat: Option<String>,
    parent_id: Option<String>,
    model: String,
    system: Option<String>,
    only: Vec<String>,
    tools: Option<Vec<String>>,
    #[serde(with = "ApprovalWord")]
    approval: Approval,
    #[serde(with = "limits")]
    limits: Option<RunLimits>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ServerReach", rename_all = "snake_case")]
enum Reach {
    Command {
        command: String,
        args: Vec<String>,
        env: Vec<(String, String)>,
    },
    Http {
        url: String,
        token: Option<String>,
    },
}

mod limits {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Held(#[serde(with = "Limits")] RunLimits);

    pub(super) fn serialize<S: Serializer>(
        value: &Option<RunLimits>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(Held).serialize(to)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(
        from: D,
    ) -> Result<Option<RunLimits>, D::Error> {
        Ok(Option::<Held>::deserialize(from)?.map(|held| held.0))
    }
}

mod servers {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Held(#[serde(with = "Server")] ServerStatus);

    pub(super) fn serialize<S: Serializer>(
        value: &[ServerStatus],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(value.iter().cloned().map(Held))
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(
        from: D,
    ) -> Result<Vec<ServerStatus>, D::Error> {
        Ok(Vec::<Held>::deserialize(from)?
            .into_iter()
            .map(|held| held.0)
            .collect())
    }
}

mod finding {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Held(#[serde(with = "File")] FoundFile);

    #[derive(Serialize, Deserialize)]
    enum Kind {
        Files(Vec<Held>, usize),
        Passages(String),
    }

    pub(super) fn serialize<S: Serializer>(
        value: &Option<Finding>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let kind = value.as_ref().map(|finding| match finding {
            Finding::Files { files, total } => {
                Kind::Files(files.iter().cloned().map(Held).collect(), *total)
            }
            Finding::Passages(cited) => {
                Kind::Passages(cites_text(cited).unwrap_or_else(|| "[]".to_owned()))
            }
        });
        kind.serialize(to)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(
        from: D,
    ) -> Result<Option<Finding>, D::Error> {
        Ok(match Option::<Kind>::deserialize(from)? {
            None => None,
            Some(Kind::Files(files, total)) => Some(Finding::Files {
                files: files.into_iter().map(|held| held.0).collect(),
                total,
            }),
            Some(Kind::Passages(text)) => {
                Some(Finding::Passages(cites(&text).map_err(de::Error::custom)?))
            }
        })
    }
}

mod citations {
    use super::*;

    pub(super) fn serialize<S: Serializer>(value: &[Citation], to: S) -> Result<S::Ok, S::Error> {
        cites_text(value)
            .unwrap_or_else(|| "[]".to_owned())
            .serialize(to)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<Citation>, D::Error> {
        cites(&String::deserialize(from)?).map_err(de::Error::custom)
    }
}

mod cost {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        value: &Option<Stats>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(stats_text).serialize(to)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Option<Stats>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.as_deref()
            .map(read_stats)
            .transpose()
            .map_err(de::Error::custom)
    }
}

mod status {
    use super::*;

    pub(super) fn serialize<S: Serializer>(value: &RunStatus, to: S) -> Result<S::Ok, S::Error> {
        value.as_str().serialize(to)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<RunStatus, D::Error> {
        let word = String::deserialize(from)?;
        RunStatus::parse(&word).ok_or_else(|| de::Error::custom(word))
    }
}

mod reason {
    use super::*;

    const ALL: [FinishReason; 5] = [
        FinishReason::Stop,
        FinishReason::ToolCalls,
        FinishReason::Length,
        FinishReason::Cancelled,
        FinishReason::Error,
    ];

    pub(super) fn serialize<S: Serializer>(value: &FinishReason, to: S) -> Result<S::Ok, S::Error> {
        value.as_str().serialize(to)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<FinishReason, D::Error> {
        let word = String::deserialize(from)?;
        ALL.into_iter()
            .find(|reason| reason.as_str() == word)
            .ok_or_else(|| de::Error::custom(word))
    }
}

/// Values that serde reads and writes through their mirrors.
macro_rules! column {
    ($write:ident, $read:ident, $of:ty, $mirror:literal, $what:literal) => {
        pub(super) fn $write(value: &$of) -> Result<String, StoreError> {
            #[derive(Serialize)]
            struct Held<'a>(#[serde(with = $mirror)] &'a $of);
            let bad = |error: serde_json::Error| StoreError::BadRow {
                what: $what,
                value: error.to_string(),
            };
            serde_json::to_string(&Held(value)).map_err(bad)
        }

        pub(super) fn $read(text: &str) -> Result<$of, StoreError> {
            #[derive(Deserialize)]
            struct Held(#[serde(with = $mirror)] $of);
            let bad = |_| StoreError::BadRow {
                what: $what,
                value: text.to_owned(),
            };
            Ok(serde_json::from_str::<Held>(text).map_err(bad)?.0)
        }
    };
}

column!(event_text, event, RunEvent, "Event", "an event of a run");
column!(
    request_text,
    request,
    RunRequest,
    "Request",
    "a run's request"
);
column!(
    reach_text,
    reach,
    ServerReach,
    "Reach",
    "a server's address"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_reads_back() {
        let cited = Citation {
            number: 1,
            document: "d".into(),
            name: "a.pdf".into(),
            passage: 7,
            page: Some(3),
            headings: Vec::new(),
            start: 1,
            end: 2,
            score: 0.5,
            text: "x".into(),
        };
        let file = FoundFile {
            name: "n".into(),
            path: "r/n".into(),
            folder: false,
            bytes: 3,
            modified_at: Some(4),
        };
        let stats = Stats {
            prompt_tokens: 1,
            cached_tokens: None,
            completion_tokens: 2,
            ttft_ms: 1.5,
            prefill_tps: None,
            decode_tps: Some(2.5),
            joules: None,
            thought_ms: None,
        };
        let result = |finding| RunEvent::ToolResult {
            call: "c".into(),
            tool: "t".into(),
            summary: "s".into(),
            content: "ü \"q\"".into(),
            success: true,
            took: Duration::from_millis(7),
            finding,
        };
        let all = [
            RunEvent::Started {
                run: "r".into(),
                user: None,
                assistant: Some("a".into()),
            },
            RunEvent::Status {
                note: Note::Warning,
                message: "m".into(),
            },
            RunEvent::Step { step: 1, total: 8 },
            RunEvent::Thinking("t".into()),
            RunEvent::Plan {
                steps: vec!["a".into()],
                current: Some(0),
            },
            RunEvent::ToolStart {
                call: "c".into(),
                tool: "t".into(),
                detail: "d".into(),
                args: "{}".into(),
                server: None,
            },
            RunEvent::ToolConfirm {
                call: "c".into(),
                tool: "t".into(),
                args: "{}".into(),
                timeout: Duration::from_secs(60),
            },
            RunEvent::ToolDecided {
                call: "c".into(),
                decision: Decision::TimedOut,
            },
            result(None),
            result(Some(Finding::Files {
                files: vec![file],
                total: 9,
            })),
            result(Some(Finding::Passages(vec![cited.clone()]))),
            RunEvent::Refused {
                tool: "t".into(),
                reason: "r".into(),
                rule: "hidden".into(),
            },
            RunEvent::Servers(vec![ServerStatus {
                name: "s".into(),
                connected: false,
                tools: 0,
                error: Some("e".into()),
            }]),
            RunEvent::Sources(vec![cited]),
            RunEvent::Chunk("c".into()),
            RunEvent::Answer {
                content: "a".into(),
                steps: 1,
                tools: 2,
                elapsed: Duration::from_secs(1),
            },
            RunEvent::Trouble("t".into()),
            RunEvent::Failed("f".into()),
            RunEvent::Done {
                message: None,
                status: RunStatus::Done,
                reason: FinishReason::Length,
                content: "c".into(),
                stats: Some(stats),
            },
        ];
        for one in all {
            let text = event_text(&one).unwrap();
            assert_eq!(event(&text).unwrap(), one, "{text}");
        }
        assert!(event(r#"{"what":1}"#).is_err());
    }

    #[test]
    fn requests_and_servers_read_back() {
        let asked = RunRequest {
            agent: "chat".into(),
            task: "t".into(),
            only: vec!["d".into()],
            tools: Some(vec!["now".into()]),
            approval: Approval::Always,
            limits: Some(RunLimits::default()),
            ..RunRequest::default()
        };
        assert_eq!(request(&request_text(&asked).unwrap()).unwrap(), asked);
        for one in [
            ServerReach::Command {
                command: "c".into(),
                args: vec!["a".into()],
                env: vec![("K".into(), "v".into())],
            },
            ServerReach::Http {
                url: "http://x".into(),
                token: None,
            },
        ] {
            assert_eq!(reach(&reach_text(&one).unwrap()).unwrap(), one);
        }
    }
}
