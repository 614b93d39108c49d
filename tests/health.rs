//! The first answer, where it comes from, and who may ask.

use crate::support::App;

#[test]
fn health_and_status_answer() {
    let client = App::shared().client();
    assert_eq!(client.get("/health").status, 200);
    let status = client.get("/onebit/status").json();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert!(status["uptime_s"].as_f64().is_some(), "{status}");
    assert!(
        status["memory"]["total_bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes > 1 << 28),
        "{status}"
    );
}

#[test]
fn the_root_leads_to_the_page_and_the_page_is_strict() {
    let client = App::shared().client();
    let root = client.with_header("Accept", "text/html").get("/");
    assert!((300..400).contains(&root.status), "{}", root.status);
    assert_eq!(root.header("location"), Some("/app/"));
    let page = client.get("/app/");
    assert_eq!(page.status, 200);
    assert!(page.text().contains("<html"), "{}", page.text());
    let policy = page
        .header("content-security-policy")
        .expect("the page has a policy");
    assert!(
        policy.contains("default-src 'none'") || policy.contains("default-src 'self'"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe-eval"), "{policy}");
}

/// A page on another site must not reach the appliance through a visitor's browser, by whatever name.
#[test]
fn foreign_hosts_and_origins_are_refused() {
    let client = App::shared().client();
    for (name, value) in [
        ("Host", "attacker.example"),
        ("Host", "127.0.0.1.attacker.example"),
        ("Origin", "http://attacker.example"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
    ] {
        let answer = client.with_header(name, value).get("/v1/models");
        let refused = if name == "Host" { 421 } else { 403 };
        assert_eq!(
            answer.status,
            refused,
            "{name}: {value} answered {}",
            answer.text()
        );
    }
    assert_eq!(
        client
            .with_header("Host", "localhost")
            .get("/v1/models")
            .status,
        200
    );
}
