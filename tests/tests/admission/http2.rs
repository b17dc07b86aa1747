//! HTTP/2, which API servers speak: many requests on one connection, and an end that loses none of them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use backup_tests::cluster::Cluster;
use backup_tests::runtime;
use backup_tests::webhook::{Webhook, trust};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::Request;
use k8s_openapi::ByteString;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const DRAIN: Duration = Duration::from_secs(1);
/// What `serve` gives the last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

fn review(uid: &str) -> Bytes {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": { "uid": uid, "operation": "CREATE", "object": { "metadata": { "name": "a" } } },
    });
    review.to_string().into()
}

/// A connection, offered as the API server offers it.
struct Connection {
    requests: SendRequest<Bytes>,
    /// Ends when the server has closed the connection.
    end: JoinHandle<Result<(), h2::Error>>,
}

impl Connection {
    async fn open(address: SocketAddr, authorities: &[u8]) -> Result<Self> {
        let mut config = (*trust(authorities)?).clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(ServerName::IpAddress(address.ip().into()), socket)
            .await?;
        let (_, session) = stream.get_ref();
        ensure!(
            session.alpn_protocol() == Some(b"h2"),
            "the server chose no HTTP/2"
        );
        let (requests, connection) = h2::client::handshake(stream).await?;
        Ok(Self {
            requests,
            end: tokio::spawn(connection),
        })
    }

    /// Sends the head of a request; whoever calls this sends its body.
    async fn begin(&mut self, path: &str) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut requests = self.requests.clone().ready().await?;
        let request = Request::post(format!("https://webhook{path}"))
            .header("content-type", "application/json")
            .body(())
            .unwrap_or_default();
        requests.send_request(request, false)
    }

    /// Waits until the server has closed it. That our own last frame meets a closed socket is no fault.
    async fn wait_until_closed(self) -> Result<()> {
        let ended = tokio::time::timeout(Duration::from_secs(5), self.end).await??;
        match ended {
            Err(error) if !error.is_io() => bail!("the connection broke: {error}"),
            _ => Ok(()),
        }
    }
}

async fn answer(response: ResponseFuture) -> Result<(u16, Value)> {
    let (head, mut body) = response.await?.into_parts();
    let bytes = read(&mut body).await?;
    Ok((
        head.status.as_u16(),
        serde_json::from_slice(&bytes).unwrap_or_default(),
    ))
}

async fn read(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Asks on one connection until the server says goodbye; gives how many were answered. Nothing that was sent may be lost.
async fn ask_until_goodbye(connection: &mut Connection) -> Result<usize> {
    let mut asked: Vec<JoinHandle<Result<()>>> = Vec::new();
    loop {
        let uid = format!("load-{}", asked.len());
        let (response, mut body) = match connection.begin("/annotate").await {
            Ok(begun) => begun,
            Err(error) if error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR) => break,
            Err(error) => bail!("after {} requests: {error}", asked.len()),
        };
        body.send_data(review(&uid), true)?;
        asked.push(tokio::spawn(async move {
            let (status, answer) = answer(response).await.with_context(|| uid.clone())?;
            ensure!(
                status == 200 && answer["response"]["uid"] == uid.as_str(),
                "{uid}: {status} {answer}"
            );
            Ok(())
        }));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let count = asked.len();
    for request in asked {
        request.await??;
    }
    Ok(count)
}

#[test]
fn an_http2_connection_is_told_to_go_and_its_requests_are_answered() -> Result<()> {
    let cluster = Cluster::shared()?;
    let mut webhook = Webhook::builder(cluster)
        .flag(&format!("--drain={}s", DRAIN.as_secs()))
        .start_alone()?;
    webhook.wait_until_ready()?;
    let (address, authorities, pid) = (webhook.address(), webhook.authorities()?, webhook.pid());
    let begun = runtime::run(async move {
        let mut busy = Connection::open(address, &authorities).await?;
        let mut connection = Connection::open(address, &authorities).await?;
        // Two requests whose bodies are still coming when the signal does. The gate waits four seconds for a body.
        let text = review("in-flight");
        let (first, second) = (text.slice(..20), text.slice(20..));
        let (finished, mut body) = connection.begin("/gate").await?;
        body.send_data(first.clone(), false)?;
        let (abandoned, mut never) = connection.begin("/gate").await?;
        never.send_data(first, false)?;
        let load = tokio::spawn(async move { ask_until_goodbye(&mut busy).await.map(|count| (busy, count)) });
        tokio::time::sleep(Duration::from_millis(100)).await;

        let begun = Instant::now();
        backup_tests::process::signal(pid, "TERM")?;
        let (busy, answered) = load.await??;
        let goodbye = begun.elapsed();
        ensure!(
            goodbye >= DRAIN && goodbye < DRAIN + Duration::from_secs(1),
            "goodbye after {goodbye:?}"
        );
        ensure!(answered > 100, "{answered} requests say little");
        // All of its requests are answered, so the connection ends by itself.
        busy.wait_until_closed().await?;

        // This one has not seen everything yet, and is not cut.
        let refused = connection.begin("/annotate").await;
        ensure!(
            refused.as_ref().is_err_and(h2::Error::is_go_away),
            "a new request was taken"
        );
        body.send_data(second, true)?;
        let (status, told) = answer(finished).await?;
        ensure!(
            status == 200 && told["response"]["uid"] == "in-flight",
            "{status} {told}"
        );
        let (status, _) = answer(abandoned).await?;
        ensure!(status == 408, "{status}");
        connection.wait_until_closed().await?;
        eprintln!("goodbye after {goodbye:?}, {answered} requests answered");
        Ok(begun)
    })?;
    loop {
        if let Some(status) = webhook.exited()? {
            ensure!(status.success(), "{status}: {}", webhook.log());
            break;
        }
        ensure!(
            begun.elapsed() < DRAIN + LAST_ANSWERS,
            "it does not end: {}",
            webhook.log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// What a Service is to the API server: new connections go to whoever is ready, those that are there stay where they are.
struct Service {
    address: SocketAddr,
    taken: Arc<[AtomicUsize; 2]>,
}

impl Service {
    async fn start(backends: [SocketAddr; 2], first_is_ready: Arc<AtomicBool>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let taken = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let counts = Arc::clone(&taken);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let chosen = usize::from(!first_is_ready.load(Ordering::Relaxed));
                let (Some(backend), Some(count)) = (backends.get(chosen).copied(), counts.get(chosen)) else {
                    return;
                };
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(backend).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Ok(Self { address, taken })
    }

    fn taken(&self) -> [usize; 2] {
        [0, 1].map(|number: usize| {
            self.taken
                .get(number)
                .map_or(0, |count| count.load(Ordering::Relaxed))
        })
    }
}

#[test]
fn an_api_server_loses_no_request_when_one_of_two_replicas_ends() -> Result<()> {
    let cluster = Cluster::shared()?;
    let case = cluster.namespace()?;
    let start = || {
        Webhook::builder(cluster)
            .namespace(case.name())
            .flag("--drain=2s")
            .start_alone()
    };
    let (mut one, mut other) = (start()?, start()?);
    one.wait_until_ready()?;
    other.wait_until_ready()?;
    let first_is_ready = Arc::new(AtomicBool::new(true));
    let (backends, ready) = ([one.address(), other.address()], Arc::clone(&first_is_ready));
    let service = runtime::run(async move { Service::start(backends, ready).await })?;
    let name = format!("drained-{case}");
    cluster.create(json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": name },
        "webhooks": [{
            "name": "drained.kubectl-backup.io",
            "clientConfig": {
                "url": format!("https://{}/annotate", service.address),
                "caBundle": ByteString(one.authorities()?),
            },
            "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail", "timeoutSeconds": 10,
            "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"] }],
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": case.name() } },
        }],
    }))?;
    let path = format!("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{name}");
    let drained = drained(cluster, case.name(), &mut one, &other, &first_is_ready);
    // Nothing may be left that refuses everything.
    cluster.delete(&path)?;
    let (made, failed) = drained?;
    ensure!(
        failed.is_empty(),
        "{} failed, such as {:?}",
        failed.len(),
        failed.first()
    );
    let taken = service.taken();
    eprintln!("{made} requests, connections taken: {taken:?}");
    ensure!(made > 200, "{made} requests say little");
    ensure!(taken[0] >= 1 && taken[1] >= 1, "connections taken: {taken:?}");
    Ok(())
}

/// ConfigMaps are created all the time; the first replica ends meanwhile. How many were made, and what failed.
fn drained(
    cluster: &Cluster,
    namespace: &str,
    one: &mut Webhook,
    other: &Webhook,
    first_is_ready: &AtomicBool,
) -> Result<(usize, Vec<String>)> {
    let asked =
        |webhook: &Webhook| webhook.metric("kubectl_backup_admission_duration_seconds_count", "annotate");
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "generateName": "a-", "namespace": namespace },
    });
    cluster.wait_until("the API server to ask", |cluster| {
        cluster.create_dry(object.clone())?;
        Ok(asked(one)? > 0.0)
    })?;
    let (going, made) = (AtomicBool::new(true), AtomicUsize::new(0));
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| -> Result<()> {
        for _ in 0..4 {
            scope.spawn(|| {
                while going.load(Ordering::Relaxed) {
                    match cluster.create_dry(object.clone()) {
                        Ok(_) => {
                            made.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => failed
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(format!("{error:#}")),
                    }
                }
            });
        }
        let ended = ends(one, first_is_ready).and_then(|()| {
            let before = asked(other)?;
            cluster.wait_until("the other replica to be asked", |_| {
                Ok(asked(other)? > before + 50.0)
            })
        });
        going.store(false, Ordering::Relaxed);
        ended
    })?;
    Ok((made.into_inner(), failed.into_inner()?))
}

/// The first replica is told to stop while it is asked; endpoints forget it as soon as it says that it is not ready.
fn ends(webhook: &mut Webhook, first_is_ready: &AtomicBool) -> Result<()> {
    std::thread::sleep(Duration::from_millis(500));
    webhook.terminate()?;
    let begun = Instant::now();
    loop {
        if matches!(webhook.probe("/readyz"), Ok((503, _))) {
            first_is_ready.store(false, Ordering::Relaxed);
        }
        if let Some(status) = webhook.exited()? {
            ensure!(status.success(), "{status}: {}", webhook.log());
            return Ok(());
        }
        ensure!(
            begun.elapsed() < Duration::from_secs(2) + LAST_ANSWERS,
            "it does not end: {}",
            webhook.log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
