//! The model's own chat template: a conversation becomes the text that the model was trained on.
//!
//! Templates are Jinja written for Python and come from untrusted files: they run with a fuel limit, see
//! nothing but the conversation, and can do nothing but make text.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, context};
use serde::Serialize;

use super::super::AppError;
use crate::domain::{Message, Role, ToolCall};
use crate::engines::Template;

/// Instructions that one rendering may take: a thousand messages need about 200,000.
const FUEL: u64 = 5_000_000;

/// Compiled templates that are kept; one for each model in use.
const COMPILED_MAX: usize = 32;

/// The name under which each environment holds its only template.
const NAME: &str = "chat";

/// Compiled templates by their source.
#[derive(Default)]
pub(in crate::app) struct Templates {
    /// A std mutex: held for a look-up, never across an await.
    compiled: Mutex<HashMap<String, Arc<Environment<'static>>>>,
}

/// A message as Hugging Face's templates expect it.
#[derive(Serialize)]
struct MessageView<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

/// A call as templates expect it: arguments that are JSON become an object that a template can walk through.
fn call_view(call: &ToolCall) -> serde_json::Value {
    let arguments = serde_json::from_str(&call.arguments)
        .unwrap_or_else(|_| serde_json::Value::from(call.arguments.as_str()));
    serde_json::json!({
        "id": call.id,
        "type": "function",
        "function": { "name": call.name, "arguments": arguments },
    })
}

impl Templates {
    /// Renders a conversation; the text ends where the model's answer begins.
    ///
    /// # Errors
    /// The template does not compile, refuses the messages, or does not end.
    pub(super) fn render(
        &self,
        template: &Template,
        messages: &[Message],
        tools: &[serde_json::Value],
        thinking: Option<bool>,
    ) -> Result<String, AppError> {
        let environment = self.environment(template)?;
        let views: Vec<MessageView<'_>> = messages
            .iter()
            .map(|m| MessageView {
                role: m.role.as_str(),
                content: &m.content,
                name: m.name.as_deref(),
                reasoning_content: m.reasoning.as_deref(),
                tool_calls: m.calls.iter().map(call_view).collect(),
                tool_call_id: m.answers.as_deref(),
            })
            .collect();
        // A last message of the assistant is a beginning that the model is to go on with.
        let answer_begins = messages
            .last()
            .is_none_or(|message| message.role != Role::Assistant);
        let rendered = environment.get_template(NAME).and_then(|compiled| {
            compiled.render(context! {
                messages => views,
                bos_token => template.bos,
                eos_token => template.eos,
                add_generation_prompt => answer_begins,
                // Undefined rather than empty: templates ask whether they are there.
                tools => defined((!tools.is_empty()).then_some(tools)),
                enable_thinking => defined(thinking),
            })
        });
        rendered.map_err(refused)
    }

    fn environment(&self, template: &Template) -> Result<Arc<Environment<'static>>, AppError> {
        let known = self
            .compiled
            .lock()
            .ok()
            .and_then(|known| known.get(&template.source).cloned());
        if let Some(environment) = known {
            return Ok(environment);
        }
        let environment = Arc::new(compile(&template.source).map_err(refused)?);
        if let Ok(mut known) = self.compiled.lock() {
            if known.len() >= COMPILED_MAX {
                known.clear();
            }
            known.insert(template.source.clone(), Arc::clone(&environment));
        }
        Ok(environment)
    }
}

fn defined<T: Serialize>(value: Option<T>) -> Value {
    value.map_or(Value::UNDEFINED, |value| Value::from_serialize(&value))
}

fn refused(error: Error) -> AppError {
    let why = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "it takes too many steps".to_owned(),
        (_, Some(detail)) => detail.to_owned(),
        (kind, None) => kind.to_string(),
    };
    AppError::Template { why }
}

fn compile(source: &str) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |why: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, why))
    });
    environment.add_function("strftime_now", |format: String| {
        strftime(&format, unix_seconds())
    });
    environment.add_filter("tojson", tojson);
    environment.add_template_owned(NAME, without_generation_marks(source))?;
    Ok(environment)
}

/// Removes `{% generation %}` and `{% endgeneration %}`, which only training reads.
fn without_generation_marks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else {
            break;
        };
        let end = start + length + 2;
        let word = rest[start + 2..end - 2]
            .trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace());
        if word == "generation" || word == "endgeneration" {
            out.push_str(&rest[..start]);
        } else {
            out.push_str(&rest[..end]);
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// JSON as Python's `json.dumps(.., ensure_ascii=False)` writes it.
fn tojson(value: Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    for ignored in ["ensure_ascii", "separators", "sort_keys"] {
        let _: Option<Value> = options.get(ignored)?;
    }
    options.assert_all_used()?;
    let bad = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let mut out = Vec::new();
    match indent {
        None => value
            .serialize(&mut serde_json::Serializer::with_formatter(
                &mut out,
                PythonSpacing,
            ))
            .map_err(bad)?,
        Some(width) => {
            let spaces = " ".repeat(width.min(16));
            let pretty = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            value
                .serialize(&mut serde_json::Serializer::with_formatter(
                    &mut out, pretty,
                ))
                .map_err(bad)?;
        }
    }
    let text = String::from_utf8(out)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    Ok(Value::from_safe_string(text))
}

/// `", "` between items and `": "` after keys.
struct PythonSpacing;

impl serde_json::ser::Formatter for PythonSpacing {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        out: &mut W,
    ) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];

/// The part of C's `strftime` that templates use, in UTC.
fn strftime(format: &str, seconds: u64) -> String {
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let month_name = MONTHS[(month - 1) as usize];
    let day_name = DAYS[(seconds / 86_400 % 7) as usize];
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut sign = chars.next();
        let plain = sign == Some('-');
        if plain {
            sign = chars.next();
        }
        let two = |n: u64| {
            if plain {
                n.to_string()
            } else {
                format!("{n:02}")
            }
        };
        match sign {
            Some('Y') => out.push_str(&year.to_string()),
            Some('y') => out.push_str(&two(year % 100)),
            Some('m') => out.push_str(&two(month)),
            Some('d') => out.push_str(&two(day)),
            Some('e') => out.push_str(&format!("{day:2}")),
            Some('B') => out.push_str(month_name),
            Some('b' | 'h') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(day_name),
            Some('a') => out.push_str(&day_name[..3]),
            Some('H') => out.push_str(&two(hour)),
            Some('I') => out.push_str(&two((hour + 11) % 12 + 1)),
            Some('M') => out.push_str(&two(minute)),
            Some('S') => out.push_str(&two(second)),
            Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('Z') => out.push_str("UTC"),
            Some('F') => out.push_str(&format!("{year}-{month:02}-{day:02}")),
            Some('T') => out.push_str(&format!("{hour:02}:{minute:02}:{second:02}")),
            Some('%') => out.push('%'),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    out
}

/// Year, month and day of a count of days since 1970 (Howard Hinnant's `civil_from_days`).
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}\
{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}\
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    fn render(source: &str, messages: &[Message]) -> Result<String, AppError> {
        let template = Template {
            source: source.into(),
            bos: "<s>".into(),
            eos: "</s>".into(),
        };
        Templates::default().render(&template, messages, &[], None)
    }

    fn user(text: &str) -> Message {
        Message::new(Role::User, text)
    }

    #[test]
    fn chatml_renders_as_the_model_was_trained() {
        let text = render(
            CHATML,
            &[Message::new(Role::System, "Be brief."), user("Hi")],
        )
        .unwrap();
        assert_eq!(
            text,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );
        let text = render(CHATML, &[user("Hi"), Message::new(Role::Assistant, "He")]).unwrap();
        assert!(
            text.ends_with("<|im_start|>assistant\nHe<|im_end|>\n"),
            "{text}"
        );
    }

    #[test]
    fn python_habits_work() {
        let cases = [
            (
                "{{ bos_token }}{{ messages[0].content.strip().upper() }}",
                "<s>HI",
            ),
            (
                "{{ messages | tojson }}",
                "[{\"role\": \"user\", \"content\": \" hi \"}]",
            ),
            (
                "{{ {'b': [1, 2.5], 'a': none, 'ü': '<é>'} | tojson }}",
                "{\"b\": [1, 2.5], \"a\": null, \"ü\": \"<é>\"}",
            ),
            (
                "{{ [1, {'a': true}] | tojson(indent=2) }}",
                "[\n  1,\n  {\n    \"a\": true\n  }\n]",
            ),
            ("{% generation %}x{%- endgeneration -%}", "x"),
            (
                "{% for m in messages %}{% if true %}{% break %}{% endif %}{% endfor %}ok",
                "ok",
            ),
            ("{{ messages[0].content.split(' ')[1] }}{{ missing }}", "hi"),
            (
                "{% if tools is defined %}t{% else %}none{% endif %}",
                "none",
            ),
        ];
        for (source, expected) in cases {
            assert_eq!(
                render(source, &[user(" hi ")]).unwrap(),
                expected,
                "{source}"
            );
        }
    }

    #[test]
    fn a_refusal_reaches_the_caller() {
        let error = render(
            "{{ raise_exception('System role not supported') }}",
            &[user("x")],
        )
        .unwrap_err();
        assert!(
            error.to_string().ends_with("System role not supported"),
            "{error}"
        );
    }

    #[test]
    fn an_endless_template_ends() {
        let endless =
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ a*b }}{% endfor %}{% endfor %}";
        let error = render(endless, &[user("x")]).unwrap_err();
        assert!(error.to_string().contains("too many steps"), "{error}");
        assert!(render("{% for %}", &[user("x")]).is_err());
    }

    #[test]
    fn dates_are_written_as_in_c() {
        let cases = [
            (
                0,
                "%A %d %B %Y %H:%M:%S",
                "Thursday 01 January 1970 00:00:00",
            ),
            (951_782_400, "%d %b %Y", "29 Feb 2000"),
            (1_732_320_000, "%-d.%-m.%y %a %I %p", "23.11.24 Sat 12 AM"),
            (4_102_444_799, "%F %T %% %Q %", "2099-12-31 23:59:59 % %Q %"),
        ];
        for (seconds, format, expected) in cases {
            assert_eq!(strftime(format, seconds), expected, "{format}");
        }
    }
}
