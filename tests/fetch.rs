//! The door out, against servers that do not play fair. All of them are on loopback.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail loudly too")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onebit::fetch::{Fetch, FetchError, Policy, REDIRECTS_MAX, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A server that answers each request by `answer(head)` and remembers the heads.
async fn server(
    answer: impl Fn(&str) -> String + Send + Sync + 'static,
) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 8192];
            let n = stream.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..n]).into_owned();
            let reply = answer(&head);
            seen.lock().unwrap().push(head);
            // The client may have hung up on purpose.
            let _ = stream.write_all(reply.as_bytes()).await;
        }
    });
    (address, heads)
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn to(status: u16, location: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
}

fn open() -> Fetch {
    Fetch::new(Policy {
        offline: false,
        private_hosts: vec!["127.0.0.1".into(), "localhost".into()],
    })
}

#[tokio::test]
async fn a_listed_host_is_reached_and_read() {
    let (address, heads) = server(|_| ok("hello")).await;
    let text = open()
        .text(Request::get(format!("http://{address}/a?b=c"), 100))
        .await
        .unwrap();
    assert_eq!(text, "hello");
    let head = heads.lock().unwrap()[0].clone();
    assert!(
        head.starts_with("GET /a?b=c HTTP/1.1\r\n") && head.contains(&format!("host: {address}")),
        "{head}"
    );
}

#[tokio::test]
async fn offline_means_that_nothing_leaves() {
    let (address, heads) = server(|_| ok("no")).await;
    let fetch = Fetch::new(Policy {
        offline: true,
        private_hosts: vec!["127.0.0.1".into()],
    });
    for url in [
        format!("http://{address}/"),
        "https://example.com/".into(),
        "http://localhost/".into(),
    ] {
        let error = fetch.text(Request::get(url, 100)).await.unwrap_err();
        assert!(matches!(error, FetchError::Offline { .. }), "{error}");
    }
    assert_eq!(fetch.dialled(), 0);
    assert!(heads.lock().unwrap().is_empty());
}

#[tokio::test]
async fn private_addresses_need_the_owners_word() {
    let (address, heads) = server(|_| ok("secret")).await;
    let port = address.port();
    let fetch = Fetch::new(Policy {
        offline: false,
        private_hosts: vec![format!("127.0.0.1:{}", port.wrapping_add(1))],
    });
    for host in [
        "127.0.0.1",
        "localhost",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "127.1",
        "2130706433",
        "0x7f.1",
        "169.254.169.254",
    ] {
        let error = fetch
            .text(Request::get(format!("http://{host}:{port}/"), 100))
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                FetchError::Private { .. } | FetchError::Resolve { .. }
            ),
            "{host}: {error}"
        );
    }
    assert_eq!(fetch.dialled(), 0);
    assert!(heads.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_redirect_into_the_private_network_is_refused() {
    let (inside, seen) = server(|_| ok("secret")).await;
    let port = inside.port();
    let (outside, _) = server(move |_| to(302, &format!("http://localhost:{port}/"))).await;
    let fetch = Fetch::new(Policy {
        offline: false,
        private_hosts: vec![outside.to_string()],
    });
    let error = fetch
        .text(Request::get(format!("http://{outside}/"), 100))
        .await
        .unwrap_err();
    assert!(matches!(error, FetchError::Private { .. }), "{error}");
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn credentials_stay_with_their_origin() {
    let (other, seen_other) = server(|_| ok("there")).await;
    let (address, seen) = server(move |head| {
        if head.starts_with("GET /start") {
            to(302, "/same")
        } else {
            to(307, &format!("http://{other}/x"))
        }
    })
    .await;
    let request = Request::get(format!("http://{address}/start"), 100).bearer(Some("s3cret"));
    assert_eq!(open().text(request).await.unwrap(), "there");
    assert!(
        seen.lock().unwrap().iter().all(|h| h.contains("s3cret")),
        "the same origin keeps it"
    );
    assert!(
        !seen_other.lock().unwrap()[0].contains("s3cret"),
        "another origin never sees it"
    );
}

#[tokio::test]
async fn a_credential_is_not_sent_in_clear_text() {
    let error = Fetch::new(Policy::default())
        .text(Request::get("http://example.com/", 9).bearer(Some("x")))
        .await
        .unwrap_err();
    assert!(matches!(error, FetchError::ClearText { .. }), "{error}");
}

#[tokio::test]
async fn redirects_end() {
    let (address, seen) = server(|_| to(302, "/again")).await;
    let error = open()
        .text(Request::get(format!("http://{address}/"), 100))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            FetchError::Redirect {
                what: "too often",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(seen.lock().unwrap().len(), REDIRECTS_MAX + 1);
    for bad in [
        to(302, "file:///etc/passwd"),
        "HTTP/1.1 302 X\r\ncontent-length: 0\r\n\r\n".to_owned(),
    ] {
        let (address, _) = server(move |_| bad.clone()).await;
        open()
            .text(Request::get(format!("http://{address}/"), 100))
            .await
            .unwrap_err();
    }
}

#[tokio::test]
async fn a_post_becomes_a_get_only_where_the_standard_says() {
    for (status, method) in [(302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")] {
        let (address, seen) = server(move |head| {
            if head.contains(" /a ") {
                to(status, "/b")
            } else {
                ok("")
            }
        })
        .await;
        open()
            .text(Request::post_json(format!("http://{address}/a"), "{}", 100))
            .await
            .unwrap();
        assert!(seen.lock().unwrap()[1].starts_with(method), "{status}");
    }
}

#[tokio::test]
async fn sizes_are_bounded_whether_announced_or_not() {
    let (address, _) = server(|_| ok(&"x".repeat(101))).await;
    let error = open()
        .text(Request::get(format!("http://{address}/"), 100))
        .await
        .unwrap_err();
    assert!(
        matches!(error, FetchError::TooLarge { max_bytes: 100, .. }),
        "{error}"
    );
    let (address, _) = server(|_| {
        format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}",
            "x".repeat(101)
        )
    })
    .await;
    let error = open()
        .text(Request::get(format!("http://{address}/"), 100))
        .await
        .unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn silence_and_lies_are_errors() {
    let quick = |address: SocketAddr| Request {
        silence: Duration::from_millis(50),
        ..Request::get(format!("http://{address}/"), 1000)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = open()
        .text(quick(listener.local_addr().unwrap()))
        .await
        .unwrap_err();
    assert!(matches!(error, FetchError::Silent { .. }), "{error}");
    let (address, _) =
        server(|_| "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort".into()).await;
    let error = open().text(quick(address)).await.unwrap_err();
    assert!(
        matches!(error, FetchError::Broken { .. } | FetchError::Silent { .. }),
        "{error}"
    );
    let (address, _) = server(|_| "\0\0 core dumped".into()).await;
    let error = open().text(quick(address)).await.unwrap_err();
    assert!(matches!(error, FetchError::Broken { .. }), "{error}");
    let (address, _) =
        server(|_| format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(200_000))).await;
    open().text(quick(address)).await.unwrap_err();
    let (address, _) = server(|_| "HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n".into()).await;
    let error = open().text(quick(address)).await.unwrap_err();
    assert!(
        matches!(error, FetchError::Status { status, .. } if status == 503),
        "{error}"
    );
}
