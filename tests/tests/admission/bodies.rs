//! Whatever is sent, there is a well-formed answer or a closed connection, and the server lives on.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use backup_tests::webhook::{Client, Webhook, trust};
use serde_json::{Value, json};

const PATHS: [&str; 3] = ["/annotate", "/gate", "/guard"];

/// A review of a ConfigMap, which none of the three is about.
fn review(data: &str) -> String {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "operation": "CREATE",
            "kind": { "group": "", "version": "v1", "kind": "ConfigMap" },
            "resource": { "group": "", "version": "v1", "resource": "configmaps" },
            "name": "large",
            "namespace": "shop",
            "userInfo": { "username": "kim" },
            "object": { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "large" }, "data": { "a": data } },
        },
    })
    .to_string()
}

#[test]
fn what_is_no_review_is_told_and_not_answered() -> Result<()> {
    let webhook = Webhook::shared()?;
    let beta = json!({ "apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": { "uid": "1" } });
    let no_uid = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": { "operation": "CREATE" } });
    let deep = "[".repeat(1_000_000);
    for path in PATHS {
        let mut client = webhook.connect()?;
        for (body, said) in [
            ("", "not an AdmissionReview"),
            ("garbage", "not an AdmissionReview"),
            ("\u{feff}{}", "not an AdmissionReview"),
            (deep.as_str(), "not an AdmissionReview"),
            (beta.to_string().as_str(), "admissionReviewVersions"),
            (no_uid.to_string().as_str(), "no uid"),
        ] {
            let (status, answer) = client.post(path, body.as_bytes())?;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert_eq!(status, 400, "{path}: {answer}");
            assert!(answer.contains(said), "{path}: {answer}");
        }
        // The same connection is good for the next one.
        let (status, _) = client.post(path, review("small").as_bytes())?;
        assert_eq!(status, 200, "{path}");
    }
    Ok(())
}

#[test]
fn three_mebibytes_are_answered() -> Result<()> {
    let webhook = Webhook::shared()?;
    for path in PATHS {
        let (status, answer) = webhook
            .connect()?
            .post(path, review(&"x".repeat(3 << 20)).as_bytes())?;
        let answer: Value = serde_json::from_slice(&answer)?;
        assert_eq!(status, 200, "{path}: {answer}");
        assert_eq!(answer["response"]["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
    }
    Ok(())
}

#[test]
fn nine_mebibytes_are_refused() -> Result<()> {
    let webhook = Webhook::shared()?;
    let body = review(&"x".repeat(9 << 20));
    for path in PATHS {
        // Refused before it is all there: the connection may be closed while we still send.
        match webhook.connect()?.post(path, body.as_bytes()) {
            Ok((status, _)) => assert_eq!(status, 413, "{path}"),
            Err(error) => assert!(is_closed(&error), "{path}: {error:#}"),
        }
    }
    assert_eq!(webhook.probe("/livez")?.0, 200);
    Ok(())
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() -> Result<()> {
    let webhook = Webhook::shared()?;
    let mut client = webhook.connect()?;
    let begun = Instant::now();
    client.send(b"POST /annotate?timeout=2s HTTP/1.1\r\nhost: webhook\r\ncontent-length: 1000\r\n\r\n{\"apiVersion\":")?;
    let (status, _) = client.answer()?;
    assert_eq!(status, 408);
    let took = begun.elapsed();
    ensure!(took >= Duration::from_millis(1400), "{took:?}");
    ensure!(took < Duration::from_secs(10), "{took:?}");
    Ok(())
}

#[test]
fn slow_clients_take_nobodys_place() -> Result<()> {
    let webhook = Webhook::shared()?;
    let trust = trust(&webhook.authorities()?)?;
    // Some say nothing, some never finish a handshake, some never finish a head.
    let silent: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(webhook.address()))
        .collect::<Result<_, _>>()?;
    let mut halves = Vec::new();
    for _ in 0..50 {
        let mut client = Client::connect(webhook.address(), &trust)?;
        client.send(b"POST /gate HTTP/1.1\r\nhost: web")?;
        halves.push(client);
    }
    let begun = Instant::now();
    let (status, _) = Client::connect(webhook.address(), &trust)?.post("/gate", review("x").as_bytes())?;
    assert_eq!(status, 200);
    ensure!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    // And they are shown the door.
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut nothing = [0; 64];
        while stream
            .read(&mut nothing)
            .context("a silent client is still connected")?
            > 0
        {}
    }
    for mut client in halves {
        let error = client.answer().err().context("half a head was answered")?;
        assert!(is_closed(&error), "{error:#}");
    }
    Ok(())
}

#[test]
fn other_paths_and_methods_are_refused() -> Result<()> {
    let webhook = Webhook::shared()?;
    let mut client = webhook.connect()?;
    assert_eq!(client.post("/", b"{}")?.0, 404);
    client.send(b"GET /annotate HTTP/1.1\r\nhost: webhook\r\n\r\n")?;
    assert_eq!(client.answer()?.0, 405);
    Ok(())
}

fn is_closed(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}").to_lowercase();
    ["closed", "reset", "broken pipe", "eof"]
        .iter()
        .any(|word| text.contains(word))
}
