//! What happens in an agent's run, as events while it goes on and as steps afterwards.

use serde_json::{Map, Value, json};

use super::{steps, views};
use crate::app::Transcript;
use crate::domain::{Decision, Finding, FoundFile, Note, RunEvent};

/// Files that one result carries.
const FILES_MAX: usize = 20;

/// What is shown of a thought or a line that is kept.
const DETAIL_CHARS_MAX: usize = 4000;

fn note(note: Note) -> &'static str {
    match note {
        Note::Working => "working",
        Note::Info => "info",
        Note::Warning => "warning",
    }
}

fn parsed(args: &str) -> Value {
    serde_json::from_str(args).unwrap_or_else(|_| json!({}))
}

fn milliseconds(took: std::time::Duration) -> f64 {
    views::rounded(took.as_secs_f64() * 1e3, 10.0)
}

fn files(files: &[FoundFile]) -> Vec<Value> {
    let one = |file: &FoundFile| {
        let (directory, _) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        json!({
            "name": file.name,
            "file_name": file.name,
            "path": file.path,
            "file_path": file.path,
            "directory": directory,
            "type": if file.folder { "folder" } else { "file" },
            "size": file.bytes,
        })
    };
    files.iter().take(FILES_MAX).map(one).collect()
}

fn result_data(finding: &Finding) -> Value {
    match finding {
        Finding::Files { files: all, total } => {
            json!({ "type": "file_list", "files": files(all), "total": total })
        }
        Finding::Passages(citations) => steps::found(citations),
    }
}

/// The events that a run's event is told as; its end is told apart.
pub(super) fn told(event: &RunEvent) -> Vec<Value> {
    match event {
        RunEvent::Status {
            note: kind,
            message,
        } => vec![json!({ "type": "status", "status": note(*kind), "message": message })],
        RunEvent::Step { step, total } => {
            vec![json!({ "type": "step", "step": step, "total": total, "status": "started" })]
        }
        RunEvent::Thinking(text) => vec![json!({ "type": "thinking", "content": text })],
        RunEvent::Plan { steps, current } => vec![json!({
            "type": "plan",
            "steps": steps,
            "current_step": current.and_then(|at| steps.get(at)),
        })],
        RunEvent::ToolStart {
            tool,
            detail,
            args,
            server,
            ..
        } => {
            let mut start = json!({ "type": "tool_start", "tool": tool, "detail": detail });
            if let Some(server) = server {
                start["mcp_server"] = server.as_str().into();
            }
            let args = json!({ "type": "tool_args", "tool": tool, "args": parsed(args), "detail": detail });
            vec![start, args]
        }
        RunEvent::ToolConfirm {
            call,
            tool,
            args,
            timeout,
        } => vec![json!({
            "type": "permission_request",
            "tool": tool,
            "args": parsed(args),
            "confirm_id": call,
            "timeout_seconds": timeout.as_secs(),
        })],
        RunEvent::ToolDecided { decision, .. } => match decision {
            Decision::Allowed => Vec::new(),
            Decision::Denied => vec![status("The tool was not allowed")],
            Decision::TimedOut => vec![status(
                "Nobody answered in time, so the tool was not allowed",
            )],
        },
        RunEvent::ToolResult {
            tool,
            summary,
            success,
            took,
            finding,
            ..
        } => {
            let mut result = json!({
                "type": "tool_result",
                "title": tool,
                "summary": summary,
                "success": success,
                "latency_ms": milliseconds(*took),
            });
            if let Some(finding) = finding {
                result["result_data"] = result_data(finding);
            }
            vec![result, json!({ "type": "tool_end", "success": success })]
        }
        RunEvent::Refused { tool, reason, rule } => vec![json!({
            "type": "policy_alert",
            "tool": tool,
            "decision": "deny",
            "reason": reason,
            "rule_ids": [rule],
            "policy_version": "1",
        })],
        RunEvent::Servers(servers) => {
            let views: Vec<Value> = servers
                .iter()
                .map(|one| {
                    json!({
                        "name": one.name,
                        "connected": one.connected,
                        "tool_count": one.tools,
                        "error": one.error,
                    })
                })
                .collect();
            vec![json!({ "type": "mcp_status", "servers": views })]
        }
        RunEvent::Chunk(text) => vec![json!({ "type": "chunk", "content": text })],
        RunEvent::Answer {
            content,
            steps,
            tools,
            elapsed,
        } => vec![json!({
            "type": "answer",
            "content": content,
            "elapsed": views::rounded(elapsed.as_secs_f64(), 100.0),
            "steps": steps,
            "tools_used": tools,
        })],
        RunEvent::Trouble(why) => vec![json!({ "type": "agent_error", "content": why })],
        RunEvent::Failed(why) => vec![json!({ "type": "error", "content": why })],
        RunEvent::Started { .. } | RunEvent::Sources(_) | RunEvent::Done { .. } => Vec::new(),
    }
}

fn status(message: &str) -> Value {
    json!({ "type": "status", "status": "warning", "message": message })
}

fn cut(text: &str) -> String {
    text.chars().take(DETAIL_CHARS_MAX).collect()
}

/// A step of that page: its number comes with its place.
fn step(kind: &str, label: &str, at: i64) -> Map<String, Value> {
    let step = json!({ "type": kind, "label": label, "active": false, "timestamp": at });
    match step {
        Value::Object(step) => step,
        _ => Map::new(),
    }
}

/// The steps of a run that is kept; null where it took none.
pub(super) fn kept(transcript: &Transcript) -> Value {
    let mut all: Vec<Map<String, Value>> = Vec::new();
    let mut calls: Vec<(&str, usize)> = Vec::new();
    for (at, event) in &transcript.events {
        match event {
            RunEvent::Thinking(text) if !text.trim().is_empty() => {
                let mut one = step("thinking", "Thinking", *at);
                one.insert("detail".into(), cut(text).into());
                all.push(one);
            }
            RunEvent::Plan { steps, .. } => {
                let mut one = step("plan", "Plan", *at);
                one.insert("planSteps".into(), json!(steps));
                all.push(one);
            }
            RunEvent::Status {
                note: Note::Warning,
                message,
            } => all.push(step("status", message, *at)),
            RunEvent::ToolStart {
                call,
                tool,
                detail,
                server,
                ..
            } => {
                let mut one = step("tool", &format!("Using {tool}"), *at);
                one.insert("tool".into(), tool.as_str().into());
                one.insert("detail".into(), cut(detail).into());
                if let Some(server) = server {
                    one.insert("mcpServer".into(), server.as_str().into());
                }
                calls.push((call, all.len()));
                all.push(one);
            }
            RunEvent::ToolResult {
                call,
                summary,
                success,
                took,
                finding,
                ..
            } => {
                let at = calls.iter().rev().find(|(one, _)| one == call);
                let Some(one) = at.and_then(|(_, at)| all.get_mut(*at)) else {
                    continue;
                };
                one.insert("result".into(), cut(summary).into());
                one.insert("success".into(), (*success).into());
                one.insert("latencyMs".into(), milliseconds(*took).into());
                match finding {
                    Some(Finding::Files {
                        files: found,
                        total,
                    }) => {
                        let list = json!({ "files": files(found), "total": total });
                        one.insert("fileList".into(), list);
                    }
                    Some(Finding::Passages(citations)) => {
                        one.insert("retrievalChunks".into(), steps::chunks(citations).into());
                    }
                    None => {}
                }
            }
            RunEvent::Refused { tool, reason, .. } => {
                let mut one = step("error", &format!("{tool} was refused"), *at);
                one.insert("detail".into(), cut(reason).into());
                all.push(one);
            }
            RunEvent::Trouble(why) => all.push(step("error", &cut(why), *at)),
            _ => {}
        }
    }
    if all.is_empty() {
        return Value::Null;
    }
    let numbered = all.into_iter().enumerate().map(|(index, mut one)| {
        one.insert("id".into(), (index + 1).into());
        Value::Object(one)
    });
    numbered.collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{Run, RunStatus};

    fn called(call: &str) -> [RunEvent; 2] {
        let start = RunEvent::ToolStart {
            call: call.into(),
            tool: "list_files".into(),
            detail: "Looking".into(),
            args: "{\"path\":\"docs\"}".into(),
            server: None,
        };
        let result = RunEvent::ToolResult {
            call: call.into(),
            tool: "list_files".into(),
            summary: "1 file".into(),
            content: "a.txt".into(),
            success: true,
            took: Duration::from_millis(12),
            finding: Some(Finding::Files {
                files: vec![FoundFile {
                    name: "a.txt".into(),
                    path: "docs/a.txt".into(),
                    folder: false,
                    bytes: 3,
                    modified_at: None,
                }],
                total: 1,
            }),
        };
        [start, result]
    }

    #[test]
    fn a_call_is_told_with_its_arguments_and_ends() {
        let kinds: Vec<String> = called("c")
            .iter()
            .flat_map(told)
            .map(|event| event["type"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            kinds,
            ["tool_start", "tool_args", "tool_result", "tool_end"]
        );
        let confirm = RunEvent::ToolConfirm {
            call: "c".into(),
            tool: "t".into(),
            args: "{}".into(),
            timeout: Duration::from_secs(60),
        };
        let confirm = &told(&confirm)[0];
        assert_eq!(
            (&confirm["confirm_id"], &confirm["timeout_seconds"]),
            (&json!("c"), &json!(60))
        );
    }

    #[test]
    fn steps_join_a_call_and_its_result() {
        let mut events = vec![(1, RunEvent::Thinking("I look.".into()))];
        events.extend(called("c").map(|event| (2, event)));
        events.push((3, RunEvent::Trouble("again".into())));
        let transcript = Transcript {
            run: Run {
                id: "r".into(),
                agent: "files".into(),
                model: "m".into(),
                task: "t".into(),
                chat: None,
                message: None,
                status: RunStatus::Done,
                answer: String::new(),
                error: None,
                steps: 1,
                tokens: 1,
                created_at: 0,
                ended_at: None,
            },
            events,
        };
        let steps = kept(&transcript);
        let steps = steps.as_array().unwrap();
        assert_eq!(steps.len(), 3);
        assert_eq!(
            (&steps[1]["id"], &steps[1]["result"]),
            (&json!(2), &json!("1 file"))
        );
        assert_eq!(steps[1]["fileList"]["files"][0]["directory"], "docs");
        assert_eq!(steps[2]["type"], "error");
    }
}
