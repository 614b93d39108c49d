//! `onebit doctor`: reads as text and as JSON, and names a fix for what it finds.

use crate::support::app::onebit;

#[test]
fn every_check_says_found_wanted_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let output = onebit([
        "doctor",
        "--json",
        "--data",
        folder.path().to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
    ]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() >= 5, "{report}");
    for check in checks {
        for field in ["name", "verdict", "found", "wanted", "why"] {
            assert!(
                check[field].as_str().is_some_and(|text| !text.is_empty()),
                "{field} in {check}"
            );
        }
    }
}

#[test]
fn a_problem_fails_and_its_fix_is_printed() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let output = onebit([
        "doctor",
        "--data",
        folder.path().to_str().unwrap(),
        "--listen",
        &address,
    ]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains(&address) && text.contains("ss -ltnp"),
        "{text}"
    );
}
