//! Tool calls in the text that a model writes, found while it streams.
//!
//! Every family of models marks its calls in its own way; the family is read off the chat template. Text before and
//! between calls passes through at once, except for a tail that could be the start of a marker. A call's arguments
//! stream as soon as its name is known. What looks like a call and turns out not to be one is given back as text, so
//! nothing that the model wrote is ever lost.

/// How a family of models writes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`: Hermes, Qwen, SmolLM.
    Hermes,
    /// `<|python_tag|>{"name": …, "parameters": {…}}` or the bare object as the whole answer: Llama 3.
    Llama3,
    /// `[TOOL_CALLS][{"name": …, "arguments": {…}}, …]` or `[TOOL_CALLS]name[ARGS]{…}`: Mistral.
    Mistral,
    /// A bare object, or a list of them, as the whole answer, with or without a code fence.
    Generic,
}

impl Family {
    /// The family whose markers the chat template itself writes.
    pub(super) fn of(template: &str) -> Family {
        if template.contains("<tool_call>") {
            Family::Hermes
        } else if template.contains("[TOOL_CALLS]") {
            Family::Mistral
        } else if template.contains("<|python_tag|>") || template.contains("ipython") {
            Family::Llama3
        } else {
            Family::Generic
        }
    }

    /// Markers after which a call begins.
    fn openers(self) -> &'static [&'static str] {
        match self {
            Family::Hermes => &["<tool_call>"],
            Family::Llama3 => &["<|python_tag|>"],
            Family::Mistral => &["[TOOL_CALLS]"],
            Family::Generic => &[],
        }
    }

    /// Whether an answer that begins with a JSON object is a call without any marker.
    fn bare(self) -> bool {
        matches!(self, Family::Llama3 | Family::Generic)
    }
}

/// A part of an answer, in the order in which the model wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Text for the person.
    Text(String),
    /// A call begins; `index` counts the calls of this answer from 0.
    Begin { index: usize, name: String },
    /// More of the call's arguments: the pieces of one call join to one JSON object.
    Arguments { index: usize, json: String },
    /// The call is complete.
    End { index: usize },
}

/// Finds the calls in one answer. Feed it pieces of any length.
pub(super) struct Calls {
    family: Family,
    /// Names of the tools that the request offered.
    tools: Vec<String>,
    state: State,
    /// Read but not yet decided on.
    held: String,
    /// Markers passed since the last text, given back if no call follows them.
    passed: String,
    /// Calls completed or begun.
    count: usize,
}

enum State {
    /// Nothing but white space and code fences so far: a bare call may still follow.
    Start,
    Text,
    /// Behind an opener: the next `{` begins a call.
    Between,
    Call(Call),
}

/// Text between calls that means nothing: list punctuation, closers and fences.
/// A longer one stands before its own beginning.
const BETWEEN: &[&str] = &[
    "</tool_call>",
    "<tool_call>",
    "[TOOL_CALLS]",
    "<|python_tag|>",
    "```json",
    "```",
    "[",
    "]",
    ",",
    ";",
];

/// Name and arguments of Mistral's newer form stand apart from each other.
const ARGS: &str = "[ARGS]";

impl Calls {
    /// A reader for one answer of a model of this family to a request that offered `tools`.
    ///
    /// An object without a marker is a call only where it names one of them.
    pub(super) fn new(family: Family, tools: Vec<String>) -> Calls {
        let state = if family.bare() {
            State::Start
        } else {
            State::Text
        };
        Calls {
            family,
            tools,
            state,
            held: String::new(),
            passed: String::new(),
            count: 0,
        }
    }

    /// Whether a call was found.
    pub(super) fn any(&self) -> bool {
        self.count > 0
    }

    /// Takes the next piece of the answer.
    pub(super) fn push(&mut self, piece: &str) -> Vec<Part> {
        self.held.push_str(piece);
        let mut parts = Vec::new();
        while self.step(&mut parts) {}
        parts
    }

    /// Ends the answer: what is undecided was text.
    pub(super) fn finish(mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        match std::mem::replace(&mut self.state, State::Text) {
            State::Call(call) if call.begun => parts.push(Part::End { index: call.index }),
            State::Call(call) => text(&mut parts, self.passed + &call.raw + &self.held),
            State::Between if self.count > 0 && insignificant(&self.held) => {}
            State::Between => text(&mut parts, self.passed + &self.held),
            State::Start | State::Text => text(&mut parts, self.held),
        }
        parts
    }

    /// Decides on the front of what is held; false when more must be read first.
    fn step(&mut self, parts: &mut Vec<Part>) -> bool {
        match &mut self.state {
            State::Start => self.start(),
            State::Text => self.pass_text(parts),
            State::Between => self.between(parts),
            State::Call(call) => {
                let held = std::mem::take(&mut self.held);
                let (used, outcome) = call.read(&held, parts);
                self.held = held[used..].to_owned();
                match outcome {
                    Outcome::More => false,
                    Outcome::Done => {
                        self.count += 1;
                        self.passed.clear();
                        self.state = State::Between;
                        true
                    }
                    Outcome::NoCall => {
                        text(parts, std::mem::take(&mut self.passed) + &call.raw);
                        self.state = State::Text;
                        true
                    }
                }
            }
        }
    }

    fn start(&mut self) -> bool {
        let front = self.held.trim_start();
        if "```json".starts_with(front) {
            return false; // also where nothing is left
        }
        let front = front
            .strip_prefix("```json")
            .or_else(|| front.strip_prefix("```"))
            .unwrap_or(front)
            .trim_start();
        let front = front.strip_prefix('[').unwrap_or(front).trim_start();
        if front.starts_with('{') {
            self.state = State::Between;
            true
        } else if front.is_empty() {
            false
        } else {
            self.state = State::Text;
            true
        }
    }

    fn pass_text(&mut self, parts: &mut Vec<Part>) -> bool {
        let openers = self.family.openers();
        let found = openers
            .iter()
            .filter_map(|opener| self.held.find(opener).map(|at| (at, opener.len())))
            .min();
        if let Some((at, length)) = found {
            let before = self.held[..at].trim_end().len();
            text(parts, self.held.drain(..before).collect());
            self.passed = self.held.drain(..at - before + length).collect();
            self.state = State::Between;
            return true;
        }
        // The white space before a marker belongs to it, so a blank tail waits as well.
        let solid = self.held.trim_end().len();
        let keep = openers
            .iter()
            .filter_map(|opener| partial(&self.held, opener))
            .min()
            .unwrap_or(self.held.len());
        let keep = if openers.is_empty() {
            self.held.len()
        } else {
            self.held[..keep].trim_end().len().min(solid)
        };
        text(parts, self.held.drain(..keep).collect());
        false
    }

    fn between(&mut self, parts: &mut Vec<Part>) -> bool {
        loop {
            let front = self.held.trim_start();
            let skipped = self.held.len() - front.len();
            if front.starts_with('{') {
                self.passed.extend(self.held.drain(..skipped));
                let bare = self.family.bare() && !self.marked();
                self.state = State::Call(Call::new(
                    self.count,
                    None,
                    bare.then(|| self.tools.clone()),
                ));
                return true;
            }
            if BETWEEN
                .iter()
                .any(|noise| noise.len() > front.len() && noise.starts_with(front))
            {
                return false; // also where nothing is left
            }
            if let Some(noise) = BETWEEN.iter().find(|noise| front.starts_with(**noise)) {
                self.passed.extend(self.held.drain(..skipped + noise.len()));
                continue;
            }
            if self.family == Family::Mistral
                && let Some(at) = front.find(ARGS)
            {
                let name = front[..at].trim().to_owned();
                self.held.drain(..skipped + at + ARGS.len());
                self.state = State::Call(Call::new(self.count, Some(name), None));
                return true;
            }
            if self.family == Family::Mistral && !front.contains(char::is_whitespace) {
                return false; // a name whose `[ARGS]` is still to come
            }
            // No call followed: the person sees what was written, but for the list's end behind a call.
            let passed = std::mem::take(&mut self.passed);
            if self.count == 0
                || self
                    .family
                    .openers()
                    .iter()
                    .any(|opener| passed.contains(opener))
            {
                text(parts, passed);
            }
            self.state = State::Text;
            return true;
        }
    }

    /// Whether a marker announced what is being read.
    fn marked(&self) -> bool {
        self.family
            .openers()
            .iter()
            .any(|opener| self.passed.contains(opener))
    }
}

/// Adds text to the parts, joined with text before it.
fn text(parts: &mut Vec<Part>, more: String) {
    if more.is_empty() {
        return;
    }
    match parts.last_mut() {
        Some(Part::Text(before)) => before.push_str(&more),
        _ => parts.push(Part::Text(more)),
    }
}

/// Where a tail of `held` begins that could be the start of `marker`.
fn partial(held: &str, marker: &str) -> Option<usize> {
    let longest = marker.len().min(held.len());
    (1..=longest)
        .rev()
        .map(|length| held.len() - length)
        .find(|at| held.is_char_boundary(*at) && marker.starts_with(&held[*at..]))
}

fn insignificant(rest: &str) -> bool {
    let mut rest = rest.trim();
    while let Some(noise) = BETWEEN.iter().find(|noise| rest.starts_with(**noise)) {
        rest = rest[noise.len()..].trim_start();
    }
    rest.is_empty() || BETWEEN.iter().any(|noise| noise.starts_with(rest))
}

/// One call that is being read: a flat scanner of its JSON object that follows strings and depth.
struct Call {
    index: usize,
    name: Option<String>,
    /// Names that make the object a call; `None` takes any.
    known: Option<Vec<String>>,
    /// The name stood before the object, which holds the arguments alone.
    apart: bool,
    begun: bool,
    /// The name is none that was offered.
    refused: bool,
    /// The arguments are an object that is passed on while it comes.
    streaming: bool,
    /// All that was read, to be given back should it be no call.
    raw: String,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The string that ended last at depth 1, and whether a `:` has followed it.
    key: String,
    value: bool,
    /// The value of the current key, as written.
    current: String,
    /// Arguments that were read before the name.
    early: Option<String>,
}

enum Outcome {
    More,
    Done,
    NoCall,
}

impl Call {
    fn new(index: usize, name: Option<String>, known: Option<Vec<String>>) -> Call {
        Call {
            index,
            apart: name.is_some(),
            name,
            known,
            begun: false,
            refused: false,
            streaming: false,
            raw: String::new(),
            depth: 0,
            in_string: false,
            escaped: false,
            key: String::new(),
            value: false,
            current: String::new(),
            early: None,
        }
    }

    /// Reads from `text`; gives the bytes that it used.
    fn read(&mut self, text: &str, parts: &mut Vec<Part>) -> (usize, Outcome) {
        for (at, c) in text.char_indices() {
            self.raw.push(c);
            let end = at + c.len_utf8();
            if self.in_string {
                if self.value || self.depth > 1 || !matches!(c, '"') || self.escaped {
                    self.current.push(c);
                }
                match c {
                    _ if self.escaped => self.escaped = false,
                    '\\' => self.escaped = true,
                    '"' => {
                        self.in_string = false;
                        if self.depth == 1 && !self.value {
                            self.key = std::mem::take(&mut self.current);
                        }
                    }
                    _ => {}
                }
                continue;
            }
            match c {
                '"' => {
                    self.in_string = true;
                    if self.value || self.depth > 1 {
                        self.current.push(c);
                    } else {
                        self.current.clear();
                    }
                }
                ':' if self.depth == 1 && !self.value => self.value = true,
                '{' | '[' => {
                    self.depth += 1;
                    if self.depth > 1 {
                        self.current.push(c);
                    }
                }
                ',' if self.depth == 1 => {
                    self.end_of_value(parts);
                    if self.refused {
                        return (end, Outcome::NoCall);
                    }
                }
                '}' | ']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth > 0 {
                        self.current.push(c);
                    } else {
                        return (end, self.end_of_object(parts));
                    }
                }
                c if c.is_whitespace() && self.depth <= 1 => {}
                _ if self.depth == 0 => return (end, Outcome::NoCall),
                c => self.current.push(c),
            }
        }
        // An object streams as it comes; arguments that are written as a string wait for its end.
        self.streaming |=
            self.value && self.begun && is_arguments(&self.key) && self.current.starts_with('{');
        if self.streaming {
            self.emit(parts);
        }
        (text.len(), Outcome::More)
    }

    fn end_of_value(&mut self, parts: &mut Vec<Part>) {
        match self.key.as_str() {
            "name" if self.name.is_none() => {
                self.name = serde_json::from_str(&self.current).ok();
                self.refused = match (&self.name, &self.known) {
                    (Some(name), Some(known)) => !known.contains(name),
                    (name, _) => name.is_none(),
                };
                self.current.clear();
                self.begin(parts);
            }
            key if is_arguments(key) && !self.apart => {
                if !self.streaming {
                    self.current = unquoted(std::mem::take(&mut self.current));
                }
                if self.begun {
                    self.emit(parts);
                } else {
                    self.early = Some(std::mem::take(&mut self.current));
                }
            }
            _ => {}
        }
        self.streaming = false;
        self.current.clear();
        self.key.clear();
        self.value = false;
    }

    fn end_of_object(&mut self, parts: &mut Vec<Part>) -> Outcome {
        if self.apart {
            self.begin(parts);
            parts.push(Part::Arguments {
                index: self.index,
                json: self.raw.trim().to_owned(),
            });
        } else {
            self.end_of_value(parts);
        }
        if !self.begun {
            return Outcome::NoCall;
        }
        parts.push(Part::End { index: self.index });
        Outcome::Done
    }

    fn begin(&mut self, parts: &mut Vec<Part>) {
        if let (Some(name), false, false) = (&self.name, self.begun, self.refused) {
            self.begun = true;
            parts.push(Part::Begin {
                index: self.index,
                name: name.clone(),
            });
            if let Some(json) = self.early.take() {
                parts.push(Part::Arguments {
                    index: self.index,
                    json,
                });
            }
        }
    }

    fn emit(&mut self, parts: &mut Vec<Part>) {
        let json = std::mem::take(&mut self.current);
        if !json.is_empty() {
            parts.push(Part::Arguments {
                index: self.index,
                json,
            });
        }
    }
}

fn is_arguments(key: &str) -> bool {
    matches!(key, "arguments" | "parameters")
}

/// Arguments that were written as a string holding JSON become that JSON.
fn unquoted(json: String) -> String {
    if json.starts_with('"') {
        serde_json::from_str(&json).unwrap_or(json)
    } else {
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an answer cut at every possible place and checks that the cuts change nothing.
    fn read(family: Family, answer: &str) -> (String, Vec<(String, String)>) {
        let chars: Vec<char> = answer.chars().collect();
        let mut expected = None;
        for size in [usize::MAX, 1, 2, 3, 7] {
            let mut calls = Calls::new(family, vec!["look".to_owned(), "sum".to_owned()]);
            let mut parts = Vec::new();
            for piece in chars.chunks(size.min(chars.len().max(1))) {
                parts.extend(calls.push(&piece.iter().collect::<String>()));
            }
            parts.extend(calls.finish());
            let mut said = String::new();
            let mut found: Vec<(String, String)> = Vec::new();
            for part in parts {
                match part {
                    Part::Text(text) => said.push_str(&text),
                    Part::Begin { index, name } => {
                        assert_eq!(index, found.len());
                        found.push((name, String::new()));
                    }
                    Part::Arguments { index, json } => found[index].1.push_str(&json),
                    Part::End { index } => assert_eq!(index + 1, found.len()),
                }
            }
            let got = (said, found);
            assert_eq!(
                expected.get_or_insert_with(|| got.clone()),
                &got,
                "in pieces of {size}"
            );
        }
        expected.expect("was read at least once")
    }

    fn call(name: &str, json: &str) -> (String, String) {
        (name.to_owned(), json.to_owned())
    }

    #[test]
    fn every_family_is_read() {
        let two = vec![
            call("look", r#"{"at": "a}\"b", "n": [1, {"x": 2}]}"#),
            call("sum", "{}"),
        ];
        for (family, answer) in [
            (
                Family::Hermes,
                "Let me see.\n<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"a}\\\"b\", \"n\": [1, {\"x\": 2}]}}\n</tool_call>\n<tool_call>{\"arguments\": {}, \"name\": \"sum\"}</tool_call>",
            ),
            (
                Family::Llama3,
                "Let me see.<|python_tag|>{\"name\": \"look\", \"parameters\": {\"at\": \"a}\\\"b\", \"n\": [1, {\"x\": 2}]}}; {\"name\": \"sum\", \"parameters\": {}}",
            ),
            (
                Family::Mistral,
                "Let me see.[TOOL_CALLS] [{\"name\": \"look\", \"arguments\": {\"at\": \"a}\\\"b\", \"n\": [1, {\"x\": 2}]}}, {\"name\": \"sum\", \"arguments\": {}}]",
            ),
            (
                Family::Mistral,
                "Let me see.[TOOL_CALLS]look[ARGS]{\"at\": \"a}\\\"b\", \"n\": [1, {\"x\": 2}]}[TOOL_CALLS]sum[ARGS]{}",
            ),
        ] {
            assert_eq!(
                read(family, answer),
                ("Let me see.".to_owned(), two.clone()),
                "{family:?}"
            );
        }
    }

    #[test]
    fn a_bare_object_is_a_call_only_with_a_known_name() {
        for family in [Family::Llama3, Family::Generic] {
            let answer = "```json\n[{\"name\": \"sum\", \"parameters\": \"{\\\"a\\\": 1}\"}]\n```";
            assert_eq!(
                read(family, answer),
                (String::new(), vec![call("sum", "{\"a\": 1}")])
            );
            for answer in [
                "{\"name\": \"Bob\", \"age\": 3}",
                "```json\n{\"a\": 1}\n```",
                "{ no",
                "[1, 2]",
                "plain {\"name\": \"sum\"}",
            ] {
                assert_eq!(
                    read(family, answer),
                    (answer.to_owned(), vec![]),
                    "{answer}"
                );
            }
        }
    }

    #[test]
    fn nothing_that_the_model_wrote_is_lost() {
        for answer in [
            "a <tool_call> b",
            "a <tool_",
            "<tool_call>{\"name\": 3}",
            "<tool_call>{\"na",
            "x < y <tool",
            "<tool_call>",
        ] {
            assert_eq!(
                read(Family::Hermes, answer),
                (answer.to_owned(), vec![]),
                "{answer}"
            );
        }
    }

    #[test]
    fn arguments_stream_while_they_are_written() {
        let mut calls = Calls::new(Family::Hermes, vec![]);
        calls.push("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\"");
        assert_eq!(
            calls.push(": 1"),
            [Part::Arguments {
                index: 0,
                json: ": 1".to_owned()
            }]
        );
    }
}
