//! Sixty tasks that need a tool, with the largest model that the tests have: how many calls are valid and how many tasks
//! come to the right result, with calls held to their schemas and without. The figures are printed as they are; what is
//! asserted is that every run ends, and says why where it fails.
#![allow(clippy::print_stdout, reason = "the figures go into the log")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail loudly too")]

use std::path::Path;

use onebit::domain::PersonId;
use onebit::store::Store;
use serde_json::{Value, json};

use crate::support::{App, Client};

/// The agent, the task, the tool that it needs, and what that tool's result holds when it was called rightly.
const TASKS: &[(&str, &str, &str, &str)] = &[
    ("chat", "What is 17 * 23?", "calculate", "391"),
    ("chat", "How much is 144 divided by 12?", "calculate", "12"),
    ("chat", "Calculate 3.5 + 4.25.", "calculate", "7.75"),
    ("chat", "What is 2 to the power of 10?", "calculate", "1024"),
    ("chat", "Work out (8 + 4) * 5.", "calculate", "60"),
    ("chat", "What is the square root of 81?", "calculate", "9"),
    ("chat", "Add 1250 and 375.", "calculate", "1625"),
    ("chat", "Subtract 58 from 200.", "calculate", "142"),
    ("chat", "What is 15 percent of 80?", "calculate", "12"),
    ("chat", "Multiply 12 by 12.", "calculate", "144"),
    ("chat", "How much is 99 - 45 + 6?", "calculate", "60"),
    ("chat", "Calculate 1000 / 8.", "calculate", "125"),
    ("chat", "What is 7 * 8 * 9?", "calculate", "504"),
    ("chat", "How much is 0.1 + 0.2?", "calculate", "0.3"),
    ("chat", "Compute 5 * (6 - 2).", "calculate", "20"),
    ("chat", "What is 365 * 24?", "calculate", "8760"),
    ("chat", "What time is it?", "now", "UTC"),
    ("chat", "What is today's date?", "now", "UTC"),
    ("chat", "Which day of the week is today?", "now", "UTC"),
    ("chat", "Tell me the current time.", "now", "UTC"),
    ("chat", "What is the date today, please?", "now", "UTC"),
    ("chat", "What time is it in Tokyo?", "now", "UTC+09"),
    ("chat", "What time is it in Berlin now?", "now", "UTC"),
    ("chat", "Is it Monday today?", "now", "UTC"),
    (
        "chat",
        "Which documents do I have?",
        "list_documents",
        "lease.md",
    ),
    ("chat", "List my documents.", "list_documents", "lease.md"),
    (
        "chat",
        "How many documents are in my library?",
        "list_documents",
        "3 documents",
    ),
    (
        "chat",
        "Search my documents for the notice period.",
        "search_documents",
        "three months",
    ),
    (
        "chat",
        "What do my documents say about the warranty?",
        "search_documents",
        "two years",
    ),
    (
        "chat",
        "Find the boiler's pressure in my documents.",
        "search_documents",
        "1.5 bar",
    ),
    (
        "documents",
        "Search the documents for the rent.",
        "search_documents",
        "850",
    ),
    (
        "documents",
        "Look in my documents: how long is the warranty?",
        "search_documents",
        "two years",
    ),
    (
        "documents",
        "List the documents.",
        "list_documents",
        "boiler.md",
    ),
    (
        "documents",
        "Read the document lease.md.",
        "read_document",
        "three months",
    ),
    (
        "documents",
        "Read warranty.md and tell me what it covers.",
        "read_document",
        "two years",
    ),
    (
        "documents",
        "What documents are there?",
        "list_documents",
        "warranty.md",
    ),
    (
        "summarise",
        "Summarise the document boiler.md.",
        "read_document",
        "1.5 bar",
    ),
    (
        "summarise",
        "Summarise lease.md in one sentence.",
        "read_document",
        "three months",
    ),
    (
        "summarise",
        "Summarise the file notes/todo.md.",
        "read_file",
        "bread",
    ),
    (
        "files",
        "Which files are in the shared folder?",
        "list_files",
        "todo.md",
    ),
    ("files", "List the files.", "list_files", "todo.md"),
    (
        "files",
        "Show what is in the folder notes.",
        "list_files",
        "todo.md",
    ),
    (
        "files",
        "List the folder notes/recipes.",
        "list_files",
        "soup.txt",
    ),
    (
        "files",
        "Read the file notes/todo.md.",
        "read_file",
        "bread",
    ),
    (
        "files",
        "What is in the file notes/config.ini?",
        "read_file",
        "8080",
    ),
    (
        "files",
        "Open notes/config.ini and tell me the port.",
        "read_file",
        "8080",
    ),
    (
        "files",
        "Read notes/recipes/soup.txt.",
        "read_file",
        "carrots",
    ),
    (
        "files",
        "What does notes/phone.txt say?",
        "read_file",
        "555",
    ),
    (
        "files",
        "Find the file that mentions carrots.",
        "search_files",
        "soup.txt",
    ),
    (
        "files",
        "Which file contains the word Anna?",
        "search_files",
        "todo.md",
    ),
    (
        "files",
        "Search the files for port.",
        "search_files",
        "config.ini",
    ),
    (
        "files",
        "Find the file named phone.",
        "search_files",
        "phone.txt",
    ),
    (
        "files",
        "Search for bread in my files.",
        "search_files",
        "todo.md",
    ),
    (
        "files",
        "Where is the file soup?",
        "search_files",
        "soup.txt",
    ),
    (
        "chat",
        "Remember that my sister is called Anna.",
        "remember",
        "Anna",
    ),
    (
        "chat",
        "Please remember that I prefer tea.",
        "remember",
        "tea",
    ),
    (
        "chat",
        "Keep in mind that my car is blue.",
        "remember",
        "blue",
    ),
    (
        "chat",
        "What do you remember about my dog?",
        "recall",
        "Rex",
    ),
    (
        "chat",
        "Do you know what my dog is called?",
        "recall",
        "Rex",
    ),
    ("chat", "What did I ask you to remember?", "recall", "Rex"),
];

/// What came of one way to ask.
#[derive(Default)]
struct Score {
    valid: usize,
    invalid: usize,
    right_tool: usize,
    right_result: usize,
    told: usize,
    failed: usize,
}

fn prepared(folder: &Path, constrained: bool) -> App {
    let notes = folder.join("notes");
    std::fs::create_dir_all(notes.join("recipes")).unwrap();
    for (name, text) in [
        ("todo.md", "buy bread\ncall Anna\n"),
        ("config.ini", "[server]\nport = 8080\n"),
        ("phone.txt", "The plumber: 555 0192\n"),
        ("recipes/soup.txt", "carrots, leek, potatoes\n"),
    ] {
        std::fs::write(notes.join(name), text).unwrap();
    }
    App::prepared(|data| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let store = Store::open(data).unwrap();
            store
                .agents()
                .remember(&PersonId::owner(), "My dog is called Rex")
                .await
                .unwrap();
        });
        let text = format!(
            "[agents]\nroots = [{:?}]\nconstrained = {constrained}\n",
            notes.display().to_string()
        );
        // The appliance looks for its settings where XDG_CONFIG_HOME leads, which is the data folder here.
        std::fs::create_dir_all(data.join("onebit")).unwrap();
        std::fs::write(data.join("onebit/onebit.toml"), text).unwrap();
    })
}

fn fill(client: &Client) {
    for (title, text) in [
        (
            "lease.md",
            "# Lease\nThe rent is 850 euros a month. The notice period is three months to the end of a month.",
        ),
        (
            "warranty.md",
            "# Warranty\nThe warranty of the washing machine lasts two years from the day of purchase.",
        ),
        (
            "boiler.md",
            "# Boiler\nKeep the pressure of the boiler at 1.5 bar. Fill up with cold water only.",
        ),
    ] {
        let added = client
            .post(
                "/api/documents/note",
                &json!({"title": title, "text": text}),
            )
            .json();
        let id = added["id"].as_str().unwrap();
        let place = format!("/api/documents/{id}/status");
        let begun = std::time::Instant::now();
        while client.get(&place).json()["indexing_status"] != "complete" {
            assert!(begun.elapsed().as_secs() < 60, "{title} is not read");
            std::thread::yield_now();
        }
    }
}

fn ask(client: &Client, agent: &str, task: &str) -> Vec<(String, Value)> {
    let body =
        json!({"agent": agent, "task": task, "approval": "always", "steps": 3, "tokens": 300});
    let events = client.events("POST", "/onebit/runs", &body);
    events
        .map(|event| (event.name.clone(), event.json()))
        .collect()
}

fn scored(constrained: bool) -> Score {
    let folder = tempfile::tempdir().unwrap();
    let app = prepared(folder.path(), constrained);
    let client = app.client();
    fill(&client);
    let mut score = Score::default();
    for &(agent, task, tool, holds) in TASKS {
        let events = ask(&client, agent, task);
        let of = |name: &'static str| {
            events
                .iter()
                .filter(move |(kind, _)| kind == name)
                .map(|(_, event)| event)
        };
        score.valid += of("tool_start").count();
        score.invalid += of("status")
            .filter(|event| {
                event["message"]
                    .as_str()
                    .unwrap()
                    .contains("cannot be made")
            })
            .count();
        score.right_tool += usize::from(of("tool_start").any(|event| event["tool"] == tool));
        let right = of("tool_result").any(|event| {
            event["success"] == true && event["content"].as_str().unwrap().contains(holds)
        });
        score.right_result += usize::from(right);
        let done = of("done")
            .next()
            .unwrap_or_else(|| panic!("{task} does not end: {events:?}"));
        let text = done["content"].as_str().unwrap();
        assert!(
            !text.trim().is_empty(),
            "{task} ends without a word: {events:?}"
        );
        score.told += usize::from(done["status"] == "done" && text.contains(holds));
        score.failed += usize::from(done["status"] != "done");
        let called: Vec<String> = of("tool_start")
            .map(|event| format!("{}({})", event["tool"].as_str().unwrap(), event["args"]))
            .collect();
        println!(
            "{} {task} -> {} | {:?}",
            if right { "+" } else { "-" },
            called.join(" "),
            text.chars().take(60).collect::<String>()
        );
    }
    score
}

#[test]
#[ignore = "minutes; tests/run --full runs it"]
fn sixty_tasks_with_a_small_model() {
    assert_eq!(TASKS.len(), 60);
    let (held, free) = (scored(true), scored(false));
    println!("calls        valid  invalid  right tool  right result  answer tells it  failed");
    for (name, score) in [("constrained", &held), ("free", &free)] {
        println!(
            "{name:12} {:5}  {:7}  {:10}  {:12}  {:15}  {:6}",
            score.valid,
            score.invalid,
            score.right_tool,
            score.right_result,
            score.told,
            score.failed
        );
    }
    // A constrained call names a tool that was shown and has its arguments.
    assert!(
        held.valid > 0 && held.invalid * 20 <= held.valid,
        "{} of {} calls are not valid",
        held.invalid,
        held.valid
    );
}
