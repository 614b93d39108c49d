//! The loop against a model that says what a script says.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::domain::{AgentTool, RunLimits};

/// A world whose model answers from a script and whose tools echo.
#[derive(Default)]
struct Script {
    thoughts: Mutex<VecDeque<Result<Thought, String>>>,
    events: Mutex<Vec<RunEvent>>,
    /// Tools shown, wanted form and last message of each question.
    asked: Mutex<Vec<(usize, Want, String)>>,
    decision: Option<Decision>,
    stop: AtomicBool,
    called: Mutex<Vec<String>>,
}

impl Script {
    fn new(thoughts: Vec<Thought>) -> Script {
        Script {
            thoughts: Mutex::new(thoughts.into_iter().map(Ok).collect()),
            ..Script::default()
        }
    }

    fn events(&self) -> Vec<RunEvent> {
        self.events.lock().unwrap().clone()
    }

    fn asked(&self) -> Vec<(usize, Want, String)> {
        self.asked.lock().unwrap().clone()
    }
}

impl World for Script {
    async fn think(&self, ask: Ask<'_>) -> Result<Thought, String> {
        let last = ask
            .messages
            .last()
            .map(|message| message.content.clone())
            .unwrap_or_default();
        self.asked
            .lock()
            .unwrap()
            .push((ask.tools.len(), ask.want, last));
        self.thoughts
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or_else(|| Err("the script is over".into()))
    }
    async fn choose(&self, _: &str, tools: &[AgentTool]) -> Chosen {
        Chosen {
            tools: tools.to_vec(),
            sure: true,
        }
    }
    async fn plan(&self, _: &[Message]) -> Result<(Vec<String>, usize), String> {
        Ok((vec!["look".into(), "tell".into()], 5))
    }
    async fn call(&self, call: &Call) -> Outcome {
        self.called.lock().unwrap().push(call.tool.name.clone());
        match call.arguments["x"].as_str() {
            Some("fail") => Outcome::failed("it broke"),
            Some("long") => Outcome::done("y".repeat(10_000)),
            Some("stop") => {
                self.stop.store(true, Ordering::Relaxed);
                Outcome::done("stopped")
            }
            other => Outcome::done(format!("got {}", other.unwrap_or("nothing"))),
        }
    }
    async fn decide(&self, call: &Call) -> Decision {
        self.events
            .lock()
            .unwrap()
            .push(RunEvent::Trouble(format!("asked about {}", call.tool.name)));
        self.decision.unwrap_or(Decision::TimedOut)
    }
    async fn tell(&self, event: RunEvent) {
        self.events.lock().unwrap().push(event);
    }
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

fn says(text: &str) -> Thought {
    Thought {
        text: text.into(),
        tokens: 10,
        ..Thought::default()
    }
}

fn calls(all: &[(&str, &str)]) -> Thought {
    let call = |(at, (name, arguments)): (usize, &(&str, &str))| ToolCall {
        id: format!("c{at}"),
        name: (*name).into(),
        arguments: (*arguments).into(),
    };
    Thought {
        calls: all.iter().enumerate().map(call).collect(),
        tokens: 10,
        ..Thought::default()
    }
}

fn tool(name: &str, danger: Danger) -> AgentTool {
    AgentTool {
        name: name.into(),
        description: "Looks.".into(),
        parameters: r#"{"type":"object","properties":{"x":{"type":"string"}},"required":["x"]}"#
            .into(),
        server: None,
        danger,
        off: None,
    }
}

fn plan() -> Plan {
    Plan {
        messages: vec![Message::new(Role::User, "do it")],
        task: "do it".into(),
        tools: vec![tool("look", Danger::Reads), tool("act", Danger::Acts)],
        plans: false,
        limits: RunLimits::default(),
        approval: Approval::Ask,
        pushed: false,
    }
}

#[tokio::test]
async fn a_call_is_made_shown_and_answered() {
    let world = Script::new(vec![
        calls(&[("look", r#"{"x": "a"}"#)]),
        says(" It is a. "),
    ]);
    let ending = work(&world, plan(), Past::default()).await;
    assert_eq!(
        (
            ending.status,
            ending.answer.as_str(),
            ending.steps,
            ending.tokens
        ),
        (RunStatus::Done, "It is a.", 2, 20)
    );
    assert_eq!(world.asked()[1].2, "got a");
    let kinds: Vec<&str> = world
        .events()
        .iter()
        .map(|event| match event {
            RunEvent::Step { .. } => "step",
            RunEvent::ToolStart { .. } => "start",
            RunEvent::ToolResult { success: true, .. } => "result",
            RunEvent::Answer { tools: 1, .. } => "answer",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["step", "start", "result", "step", "answer"]);
}

#[tokio::test]
async fn what_cannot_be_read_goes_back_with_what_is_wrong() {
    let world = Script::new(vec![
        calls(&[("look", "{")]),
        calls(&[("jump", "{}")]),
        calls(&[("look", r#"{"x": 5}"#)]),
        says("done"),
    ]);
    let ending = work(&world, plan(), Past::default()).await;
    assert_eq!(ending.status, RunStatus::Done);
    let asked = world.asked();
    assert!(asked[1].2.contains("no JSON"), "{asked:?}");
    assert!(
        asked[2].2.contains("no such tool; there are look, act"),
        "{asked:?}"
    );
    assert_eq!(
        asked[3].2, "got 5",
        "a number is taken as the text that it can only mean"
    );
}

#[tokio::test]
async fn a_model_that_never_gets_it_right_is_asked_for_words_and_then_given_up() {
    let world = Script::new(vec![calls(&[("jump", "{}")]); 9]);
    let ending = work(&world, plan(), Past::default()).await;
    assert_eq!(ending.status, RunStatus::Failed);
    assert!(ending.error.unwrap().contains("larger model"));
    assert!(
        world
            .asked()
            .iter()
            .any(|(tools, want, _)| *tools == 0 && *want == Want::Answer)
    );
    assert!(world.called.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_repeated_call_is_not_made_twice() {
    let same = calls(&[("look", r#"{"x": "a"}"#)]);
    let world = Script::new(vec![same.clone(), same, says("a")]);
    let ending = work(&world, plan(), Past::default()).await;
    assert_eq!(ending.answer, "a");
    assert_eq!(world.called.lock().unwrap().len(), 1);
    assert_eq!(world.asked()[2].0, 0, "no tools any more");
    assert!(world.asked()[2].2.contains("it gave:\ngot a"));
}

#[tokio::test]
async fn the_last_step_is_an_answer() {
    let mut thoughts: Vec<Thought> = (0..2)
        .map(|n| calls(&[("look", &format!(r#"{{"x": "{n}"}}"#))]))
        .collect();
    thoughts.push(says("enough"));
    let world = Script::new(thoughts);
    let mut plan = plan();
    plan.limits.steps = 3;
    let ending = work(&world, plan, Past::default()).await;
    assert_eq!(
        (ending.status, ending.steps, ending.answer.as_str()),
        (RunStatus::Done, 3, "enough")
    );
    assert_eq!(world.asked()[2].1, Want::Answer);
}

#[tokio::test]
async fn tokens_and_time_end_a_run_with_an_answer_too() {
    for limits in [
        RunLimits {
            tokens: 5,
            ..RunLimits::default()
        },
        RunLimits {
            time: Duration::ZERO,
            ..RunLimits::default()
        },
    ] {
        let world = Script::new(vec![calls(&[("look", r#"{"x": "a"}"#)]), says("so far")]);
        let ending = work(&world, Plan { limits, ..plan() }, Past::default()).await;
        // Out of time before the first step, a call is no answer, and the model is asked for words.
        assert_eq!(
            (ending.status, ending.answer.as_str()),
            (RunStatus::Done, "so far"),
            "{limits:?}"
        );
    }
}

#[tokio::test]
async fn what_acts_is_asked_for() {
    let script = || vec![calls(&[("act", r#"{"x": "a"}"#)]), says("ok")];
    for (decision, approval, made, word) in [
        (Some(Decision::Allowed), Approval::Ask, true, "got a"),
        (Some(Decision::Denied), Approval::Ask, false, "refused"),
        (None, Approval::Ask, false, "in time"),
        (
            Some(Decision::Allowed),
            Approval::Never,
            false,
            "not allowed",
        ),
        (None, Approval::Always, true, "got a"),
    ] {
        let world = Script {
            decision,
            ..Script::new(script())
        };
        let ending = work(&world, Plan { approval, ..plan() }, Past::default()).await;
        assert_eq!(ending.status, RunStatus::Done);
        assert_eq!(
            !world.called.lock().unwrap().is_empty(),
            made,
            "{decision:?} {approval:?}"
        );
        assert!(world.asked()[1].2.contains(word), "{:?}", world.asked());
        let asked = world
            .events()
            .contains(&RunEvent::Trouble("asked about act".into()));
        assert_eq!(asked, approval == Approval::Ask);
    }
}

#[tokio::test]
async fn results_are_bounded_and_failures_named() {
    let world = Script::new(vec![
        calls(&[("look", r#"{"x": "long"}"#), ("look", r#"{"x": "fail"}"#)]),
        says("ok"),
    ]);
    work(&world, plan(), Past::default()).await;
    assert_eq!(world.asked()[1].2, "error: it broke");
    let longest = world
        .events()
        .iter()
        .filter_map(|event| match event {
            RunEvent::ToolResult { content, .. } => Some(content.len()),
            _ => None,
        })
        .max()
        .unwrap();
    assert!(longest < RESULT_CHARS_MAX + 100, "{longest}");
}

#[tokio::test]
async fn a_stopped_run_ends_at_once() {
    let world = Script::new(vec![calls(&[("look", r#"{"x": "stop"}"#)]), says("never")]);
    let ending = work(&world, plan(), Past::default()).await;
    assert_eq!(
        (ending.status, ending.reason),
        (RunStatus::Cancelled, FinishReason::Cancelled)
    );
}

#[tokio::test]
async fn a_model_that_fails_ends_the_run_with_its_reason() {
    let world = Script::default();
    let ending = work(&world, plan(), Past::default()).await;
    assert_eq!(
        (ending.status, ending.error.as_deref()),
        (RunStatus::Failed, Some("the script is over"))
    );
}

#[tokio::test]
async fn an_interrupted_run_goes_on_where_it_was() {
    let call = |id: &str, name: &str, x: &str| ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: format!(r#"{{"x":"{x}"}}"#),
    };
    let past = || Past {
        steps: 2,
        tokens: 20,
        calls: vec![
            (call("a", "look", "1"), Some(("got 1".into(), true))),
            (call("b", "look", "2"), None),
            (call("c", "act", "3"), None),
        ],
        plan: Vec::new(),
    };
    let world = Script::new(vec![calls(&[("look", r#"{"x":"1"}"#)]), says("all")]);
    let ending = work(&world, plan(), past()).await;
    assert_eq!((ending.status, ending.steps), (RunStatus::Done, 4));
    // What only looks is done again; what acts is not, and the model is told.
    assert_eq!(*world.called.lock().unwrap(), ["look"]);
    assert!(world.asked()[0].2.contains("not known"));
    assert!(world.asked()[1].2.contains("called this already"));
}

#[tokio::test]
async fn a_plan_comes_first_and_stands_with_the_task() {
    let world = Script::new(vec![says("ok")]);
    work(
        &world,
        Plan {
            plans: true,
            ..plan()
        },
        Past::default(),
    )
    .await;
    assert!(
        world.asked()[0].2.ends_with("The plan:\n1. look\n2. tell"),
        "{:?}",
        world.asked()
    );
    assert!(matches!(&world.events()[0], RunEvent::Plan { steps, .. } if steps.len() == 2));
}

#[tokio::test]
async fn a_small_model_is_pushed_until_a_call_has_worked() {
    let world = Script::new(vec![calls(&[("look", r#"{"x":"1"}"#)]), says("ok")]);
    work(
        &world,
        Plan {
            pushed: true,
            ..plan()
        },
        Past::default(),
    )
    .await;
    let wants =
        |world: &Script| -> Vec<Want> { world.asked().iter().map(|asked| asked.1).collect() };
    assert_eq!(wants(&world), [Want::Call, Want::Either]);
    let world = Script::new(vec![
        calls(&[("look", r#"{"x":"fail"}"#)]),
        calls(&[("jump", "{}")]),
        says("ok"),
    ]);
    work(
        &world,
        Plan {
            pushed: true,
            ..plan()
        },
        Past::default(),
    )
    .await;
    assert_eq!(
        wants(&world),
        [Want::Call, Want::Call, Want::Either],
        "twice, and no more"
    );
}
