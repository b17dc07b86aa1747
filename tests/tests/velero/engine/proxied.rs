//! Files that Velero hands out by a signed URL, where only a proxy knows the way to the store.
//!
//! Nobody works in the namespace of these cases: they play Velero, and sign with URLs of a server of their own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use backup_tests::cluster::Cluster;
use backup_tests::plugin::{Plugin, Ran};
use backup_tests::proxy::ForwardProxy;
use backup_tests::velero::LOCATION;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use super::puppet::{fresh, path};
use super::site;

/// A name that no resolver ever knows.
const NAME: &str = "handed.backups.invalid";

/// Answers every request with the same body, for as long as the test process lives.
fn serve(body: Vec<u8>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let (mut request, mut buffer) = (Vec::new(), [0; 1024]);
            while !request.ends_with(b"\r\n\r\n") {
                match client.read(&mut buffer) {
                    Ok(count @ 1..) => request.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                    _ => break,
                }
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = client
                .write_all(head.as_bytes())
                .and_then(|()| client.write_all(&body));
        }
    });
    Ok(address)
}

/// Gives every DownloadRequest of a namespace this URL until the run has ended.
fn handed(
    cluster: &Cluster,
    namespace: &str,
    url: &str,
    run: impl FnOnce() -> Result<Ran> + Send,
) -> Result<Ran> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let ran = run();
            is_over.store(true, Ordering::Relaxed);
            ran
        });
        while !is_over.load(Ordering::Relaxed) {
            let all = path(namespace, "downloadrequests", "");
            for request in cluster.list(all.trim_end_matches('/'))? {
                let name = request["metadata"]["name"].as_str().unwrap_or_default();
                if request["status"]["downloadURL"].is_null() {
                    let status = json!({ "status": { "phase": "Processed", "downloadURL": url } });
                    // It may be gone by now.
                    let _ = cluster.patch(&path(namespace, "downloadrequests", name), status);
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        running
            .join()
            .unwrap_or_else(|_| anyhow::bail!("the run panicked"))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_url_is_fetched_through_the_proxy_that_knows_its_host() -> Result<()> {
    let site = site()?;
    let mut log = GzEncoder::new(Vec::new(), Compression::fast());
    log.write_all(b"time=\"now\" level=info msg=\"handed out\"\n")?;
    let store = serve(log.finish()?)?;
    let proxy = ForwardProxy::start([(NAME.to_owned(), store), (format!("{NAME}:443"), store)]).await?;
    let puppet = site.puppet("metadata/proxied", &fresh())?;
    site.cluster
        .create(json!({ "apiVersion": "velero.io/v1", "kind": "Backup",
        "metadata": { "name": "b", "namespace": puppet.name() }, "spec": { "storageLocation": LOCATION },
        "status": { "phase": "Completed" } }))?;
    // No credentials for the bucket: Velero is the only way.
    let logs = |variable: &str, url: &str| {
        let plugin = Plugin::bare()?
            .with_kubeconfig(site.cluster.kubeconfig())?
            .with_env("AWS_EC2_METADATA_DISABLED", "true")
            .with_env(variable, &proxy.url());
        let words = [
            "logs",
            "b",
            "--location",
            LOCATION,
            "--velero-namespace",
            puppet.name(),
        ];
        handed(site.cluster, puppet.name(), url, || plugin.run(words))
    };

    logs("HTTP_PROXY", &format!("http://{NAME}/log?signature=secret"))?
        .ok()
        .stdout_has("handed out")
        .nowhere_has("signature");
    assert_eq!(proxy.asked(), [("GET".to_owned(), NAME.to_owned())]);

    // A tunnel is asked for where the URL is https; what answers at its end here speaks no TLS.
    logs("HTTPS_PROXY", &format!("https://{NAME}/log?signature=secret"))?
        .exits(1)
        .stderr_has(NAME)
        .nowhere_has("signature");
    assert!(
        proxy
            .asked()
            .contains(&("CONNECT".to_owned(), format!("{NAME}:443"))),
        "{:?}",
        proxy.asked()
    );
    // Without the proxy nobody knows the host.
    logs("NO_PROXY", &format!("http://{NAME}/log?signature=secret"))?
        .exits(1)
        .stderr_has("cannot be reached from here")
        .nowhere_has("signature");
    Ok(())
}
