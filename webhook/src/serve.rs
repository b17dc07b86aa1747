//! The running server: what is watched, the certificate, two listeners, and the end.
//!
//! [`run`] starts the parts in the order in which they need each other and ends them in reverse: readiness off, a pause
//! in which the endpoints forget us, then no new connection, then the last answers.

pub mod connect;
pub mod hooks;
pub mod https;
pub mod metrics;
pub mod probes;
pub mod readiness;
pub mod reviews;
pub mod routes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use backup_plan::disposition::Settings;
use kube::Client;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::connect::{ConnectError, Connection};
use self::metrics::Metrics;
use self::readiness::Readiness;
use self::reviews::Reviews;
use crate::certificate::files::Files;
use crate::certificate::keeper::Keeper;
use crate::certificate::publish::Configurations;
use crate::certificate::secret::Store;
use crate::certificate::serving::Serving;
use crate::certificate::{Receiver, Sender};
use crate::decide::{Context, Gate};
use crate::lease::{Candidate, Leadership};
use crate::observe::Snapshot;
use crate::reconcile::{self, Carrier, policy_status};

/// How the server is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the API server reaches us, HTTPS.
    pub bind: SocketAddr,
    /// Where the kubelet and Prometheus reach us, HTTP.
    pub probes: SocketAddr,
    /// The API server.
    pub connection: Connection,
    /// Where the lease and the Secret lie.
    pub namespace: String,
    /// Where Velero runs: nothing is chosen there, nor in our own namespace.
    pub velero_namespace: String,
    /// This replica's name.
    pub identity: String,
    /// Where the certificate comes from.
    pub certificate: CertificateSource,
    /// From the signal until no new connection is taken.
    pub drain: Duration,
    /// What the administrator has set about the gate.
    pub gate: Settings,
    /// The image of Jobs that work on storage.
    pub storage_image: Option<String>,
    /// The Secret to pull it with.
    pub storage_image_pull_secret: Option<String>,
}

/// Where the certificate comes from.
#[derive(Debug, Clone)]
pub enum CertificateSource {
    /// Somebody else renews it.
    Files(Files),
    /// We do.
    Own {
        /// Name of the Secret.
        secret: String,
        /// DNS names and addresses.
        names: Vec<String>,
        /// Life of a certificate.
        validity: Duration,
        /// How long a step of the rotation takes to reach everybody.
        settle: Duration,
        /// Who is to trust us.
        configurations: Configurations,
    },
}

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No way to the API server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// An address that cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A listener that broke.
    #[error("the server stopped: {0}")]
    Stopped(#[from] std::io::Error),
}

/// The Lease of the replica that writes.
pub const LEASE: &str = "backup-webhook";

/// The last answers get this long.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// Serves until SIGTERM or SIGINT, then drains.
pub async fn run(options: Options) -> Result<(), ServeError> {
    let https = listen(options.bind).await?;
    let probes = listen(options.probes).await?;
    let client = connect::client(&options.connection).await?;
    let metrics = Arc::new(Metrics::new());
    let gate = Arc::new(Gate::new(options.gate.clone(), &options.namespace));
    let snapshot = Snapshot::start_with(&client, &gate.settings.kinds);
    let exempt = vec![options.namespace.clone(), options.velero_namespace.clone()];
    snapshot.rules.exempt(exempt);
    let stop = CancellationToken::new();
    let (candidate, leadership) = Candidate::new(&client, &options.namespace, LEASE, &options.identity);
    let campaign = tokio::spawn(candidate.campaign(stop.clone()));
    let statuses = policy_status::keep(
        client.clone(),
        Arc::clone(&snapshot),
        leadership.clone(),
        stop.clone(),
    );
    tokio::spawn(statuses);

    let (sender, receiver) = watch::channel(None);
    keep_certificate(&options, &client, &leadership, sender);
    let serving = Arc::new(Serving::default());
    tokio::spawn(Arc::clone(&serving).follow(receiver.clone()));
    tokio::spawn(tell_expiry(receiver, Arc::clone(&metrics)));

    let readiness = Arc::new(Readiness::new(Arc::clone(&snapshot), Arc::clone(&serving)));
    let context = Context {
        snapshot: Arc::clone(&snapshot),
        client: client.clone(),
        gate,
    };
    let carrier = Carrier {
        namespace: options.namespace.clone(),
        image: options.storage_image.clone(),
        pull_secret: options.storage_image_pull_secret.clone(),
    };
    tokio::spawn(reconcile::run(context.clone(), carrier, leadership.clone()));
    let reviews = Reviews {
        decisions: context,
        metrics: Arc::clone(&metrics),
    };
    let router = routes::router(Arc::new(reviews), Arc::clone(&readiness)).merge(hooks::router());
    let state = probes::State {
        readiness: Arc::clone(&readiness),
        metrics: Arc::clone(&metrics),
        snapshot,
        leadership,
    };
    let ended = CancellationToken::new();
    let probes = tokio::spawn(probes::serve(probes, state, ended.clone()));
    let server = https::Server::new(https, &serving, Arc::clone(&metrics));
    let handle = server.handle();
    tracing::info!(address = %options.bind, probes = %options.probes, version = env!("CARGO_PKG_VERSION"), "serving");
    let mut server = tokio::spawn(server.serve(router));

    tokio::select! {
        () = told_to_stop() => {}
        // A listener does not end by itself; if it does, the process must not look alive.
        ended = &mut server => return Ok(ended.map_err(std::io::Error::other)??),
    }
    tracing::info!("draining");
    readiness.drain();
    tokio::time::sleep(options.drain).await;
    handle.graceful_shutdown(Some(LAST_ANSWERS));
    let served = server.await.map_err(std::io::Error::other)?;
    stop.cancel();
    let _ = campaign.await;
    ended.cancel();
    let _ = probes.await;
    tracing::info!("stopped");
    Ok(served?)
}

fn keep_certificate(options: &Options, client: &Client, leadership: &Leadership, sender: Sender) {
    match options.certificate.clone() {
        CertificateSource::Files(files) => {
            tokio::spawn(files.follow(sender));
        }
        CertificateSource::Own {
            secret,
            names,
            validity,
            settle,
            configurations,
        } => {
            let keeper = Keeper {
                client: client.clone(),
                store: Store::new(client, &options.namespace, &secret),
                names,
                validity,
                settle,
                configurations,
                leadership: leadership.clone(),
            };
            tokio::spawn(keeper.follow(sender));
        }
    }
}

async fn tell_expiry(mut receiver: Receiver, metrics: Arc<Metrics>) {
    while receiver.changed().await.is_ok() {
        if let Some(identity) = receiver.borrow_and_update().as_ref() {
            metrics.certificate_expiry.set(identity.not_after.as_second());
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })
}

async fn told_to_stop() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers the signals end the process by themselves.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
