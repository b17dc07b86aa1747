//! How the server begins and ends.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use backup_tests::cluster::Cluster;
use backup_tests::webhook::{Client, Registration, Webhook, install_crds, trust};
use serde_json::json;

fn review() -> Vec<u8> {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": { "uid": "1", "operation": "CREATE", "object": { "metadata": { "name": "a" } } },
    })
    .to_string()
    .into_bytes()
}

#[test]
fn it_is_ready_without_our_definitions_and_takes_them_up_when_they_come() -> Result<()> {
    let cluster = Cluster::builder().controllers(false).start()?;
    let mut webhook = Webhook::builder(&cluster).start_alone()?;
    webhook.wait_until_ready()?;
    let (status, text) = webhook.probe("/readyz")?;
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("volumebackuppolicies: not served"), "{text}");
    assert!(text.contains("namespaces: in step"), "{text}");
    assert!(text.contains("certificate: loaded"), "{text}");
    assert!(in_step(&webhook, "volumebackuppolicies")? < 0.5);
    install_crds(&cluster)?;
    let begun = Instant::now();
    while in_step(&webhook, "volumebackuppolicies")? < 0.5 {
        ensure!(
            begun.elapsed() < Duration::from_secs(30),
            "{}",
            webhook.probe("/readyz")?.1
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn in_step(webhook: &Webhook, kind: &str) -> Result<f64> {
    webhook.metric("kubectl_backup_watch_in_step", &format!("kind=\"{kind}\""))
}

#[test]
fn it_is_not_ready_while_it_may_read_nothing() -> Result<()> {
    let cluster = Cluster::shared()?;
    let stranger = cluster.kubeconfig_as("stranger")?;
    let webhook = Webhook::builder(cluster).kubeconfig(&stranger).start_alone()?;
    let begun = Instant::now();
    let text = loop {
        if let Ok((status, text)) = webhook.probe("/readyz") {
            assert_eq!(status, 503, "{text}");
            if text.contains("forbidden") {
                break text;
            }
        }
        ensure!(begun.elapsed() < Duration::from_mins(1), "{}", webhook.log());
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(text.contains("certificate: not loaded yet"), "{text}");
    assert!(text.contains("persistentvolumeclaims: not read yet"), "{text}");
    assert_eq!(webhook.probe("/livez")?.0, 200);
    Ok(())
}

#[test]
fn what_was_known_is_used_while_the_api_server_is_away() -> Result<()> {
    let cluster = Cluster::builder().controllers(false).start()?;
    let webhook = Webhook::builder(&cluster)
        .registration(Registration::none())
        .start()?;
    assert!(in_step(&webhook, "namespaces")? > 0.5);
    cluster.restart_apiserver()?;
    let begun = Instant::now();
    // Ready all the time; in step again by itself.
    while in_step(&webhook, "namespaces")? < 0.5 {
        assert_eq!(webhook.probe("/readyz")?.0, 200);
        ensure!(begun.elapsed() < Duration::from_mins(2), "{}", webhook.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[test]
fn a_drain_loses_no_request() -> Result<()> {
    let cluster = Cluster::shared()?;
    let mut webhook = Webhook::builder(cluster).flag("--drain=2s").start_alone()?;
    webhook.wait_until_ready()?;
    let trust = trust(&webhook.authorities()?)?;
    let (ready, failed, answered) = (AtomicBool::new(true), AtomicUsize::new(0), AtomicUsize::new(0));
    let address = webhook.address();
    std::thread::scope(|scope| -> Result<()> {
        for _ in 0..8 {
            scope.spawn(|| {
                // As kube-proxy has it: new connections go elsewhere soon after readiness is gone; a connection that
                // the server says goodbye on is not used again.
                let mut client = None;
                while ready.load(Ordering::Relaxed) || client.is_some() {
                    let asked = ask(&mut client, &trust, address);
                    let counter = if asked.is_ok() { &answered } else { &failed };
                    counter.fetch_add(1, Ordering::Relaxed);
                    if asked.is_err() {
                        client = None;
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
        }
        std::thread::sleep(Duration::from_millis(500));
        let finished = end(&mut webhook, &ready);
        ready.store(false, Ordering::Relaxed);
        finished
    })?;
    assert_eq!(failed.into_inner(), 0, "{}", webhook.log());
    let answered = answered.into_inner();
    ensure!(answered > 50, "{answered} requests say little");
    Ok(())
}

fn ask(
    client: &mut Option<Client>,
    trust: &std::sync::Arc<rustls::ClientConfig>,
    address: std::net::SocketAddr,
) -> Result<()> {
    let connection = match client {
        Some(connection) => connection,
        None => client.insert(Client::connect(address, trust)?),
    };
    connection.send(&Client::request("/annotate", &review()))?;
    let (status, head, _) = connection.read_answer()?;
    assert_eq!(status, 200);
    if head.contains("connection: close") {
        *client = None;
    }
    Ok(())
}

fn end(webhook: &mut Webhook, ready: &AtomicBool) -> Result<()> {
    webhook.terminate()?;
    let begun = Instant::now();
    loop {
        match webhook.probe("/readyz") {
            Ok((503, text)) => {
                assert!(text.contains("draining"), "{text}");
                ready.store(false, Ordering::Relaxed);
            }
            Ok(_) => ensure!(begun.elapsed() < Duration::from_secs(1), "ready while draining"),
            Err(_) => {}
        }
        if let Some(status) = webhook.exited()? {
            ensure!(status.success(), "{status}: {}", webhook.log());
            ensure!(
                begun.elapsed() >= Duration::from_secs(2),
                "it did not wait for the endpoints"
            );
            return Ok(());
        }
        ensure!(
            begun.elapsed() < Duration::from_secs(30),
            "it does not end: {}",
            webhook.log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn its_log_is_json_and_shows_no_content() -> Result<()> {
    let cluster = Cluster::shared()?;
    let mut webhook = Webhook::builder(cluster)
        .flag("--log-level=debug")
        .start_alone()?;
    webhook.wait_until_ready()?;
    let request = json!({
        "uid": "1", "operation": "CREATE", "name": "prices", "namespace": "shop", "userInfo": { "username": "kim" },
        "kind": { "group": "", "version": "v1", "kind": "Secret" },
        "object": { "metadata": { "name": "prices" }, "data": { "password": "aHVudGVyMg==" } },
    });
    let (status, answer) = webhook.review("/annotate", &request)?;
    assert_eq!(
        (status, &answer["response"]["allowed"]),
        (200, &json!(true)),
        "{answer}"
    );
    let log = webhook.log();
    let mut lines = log.lines().map(serde_json::from_str::<serde_json::Value>);
    let line = lines
        .find_map(|line| {
            line.map(|line| (line["message"] == "answered").then_some(line))
                .transpose()
        })
        .context("nothing was logged")??;
    assert_eq!(
        (&line["name"], &line["user"]),
        (&json!("prices"), &json!("kim")),
        "{line}"
    );
    assert!(!log.contains("aHVudGVyMg"), "{log}");
    Ok(())
}
