//! A second mutating webhook: what a mesh or another backup product does to the same pods, before or after us.
//!
//! One thread per connection, HTTP/1.1 over TLS, and a function from a pod to a JSON patch.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use backup_tests::cluster::{Cluster, base64};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// What it does to a pod.
pub(crate) type Change = fn(&Value) -> Vec<Value>;

/// The running server with its registrations.
pub(crate) struct Other {
    cluster: &'static Cluster,
    address: SocketAddr,
    authority: String,
    asked: Arc<AtomicUsize>,
    registrations: Vec<String>,
}

impl Other {
    pub(crate) fn start(cluster: &'static Cluster, change: Change) -> Result<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)?;
        let (config, asked) = (Arc::new(config), Arc::new(AtomicUsize::new(0)));
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, count) = (Arc::clone(&config), Arc::clone(&count));
                std::thread::spawn(move || serve(stream, config, change, &count));
            }
        });
        Ok(Self {
            cluster,
            address,
            authority: made.cert.pem(),
            asked,
            registrations: Vec::new(),
        })
    }

    /// Has the API server ask it about pods of one namespace; webhooks are asked in the order of these names.
    pub(crate) fn register(&mut self, name: &str, namespace: &str) -> Result<()> {
        self.cluster.create(json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": name }, "webhooks": [{
                "name": "other.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
                "timeoutSeconds": 10, "reinvocationPolicy": "IfNeeded",
                "clientConfig": { "url": format!("https://{}/", self.address), "caBundle": base64(self.authority.as_bytes()) },
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
                "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }] }] }))?;
        self.registrations.push(name.to_owned());
        Ok(())
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        for name in &self.registrations {
            let path = format!("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{name}");
            let _ = self.cluster.delete(&path);
        }
    }
}

/// Answers until the connection ends.
fn serve(stream: TcpStream, config: Arc<ServerConfig>, change: Change, asked: &AtomicUsize) -> Option<()> {
    let connection = ServerConnection::new(config).ok()?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim().to_lowercase();
            if let Some(number) = line.strip_prefix("content-length:") {
                length = number.trim().parse().ok()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        asked.fetch_add(1, Ordering::SeqCst);
        let answer = answer(&body, change).ok()?;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        stream.get_mut().write_all(head.as_bytes()).ok()?;
        stream.get_mut().write_all(answer.as_bytes()).ok()?;
        stream.get_mut().flush().ok()?;
    }
}

fn answer(body: &[u8], change: Change) -> Result<String> {
    let review: Value = serde_json::from_slice(body)?;
    let request = review.get("request").context("no request")?;
    let patch = change(&request["object"]);
    let mut response = json!({ "uid": request["uid"], "allowed": true });
    if !patch.is_empty() {
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(base64(Value::Array(patch).to_string().as_bytes()));
    }
    Ok(
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response })
            .to_string(),
    )
}
