//! An S3 server inside the test: starts at once, checks signatures, keeps objects in a scratch folder.
//!
//! It runs on a thread and a runtime of its own, so that it outlives neither the value nor a case's runtime. It has no
//! versions, no object lock and no list of open uploads, and its put-if-absent looks before it writes instead of
//! deciding atomically; what needs those runs on versitygw.

use std::net::SocketAddr;
use std::sync::mpsc;

use anyhow::{Context, Result};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::scratch::Scratch;

/// The access key that the server knows.
pub const ACCESS_KEY: &str = "in-process";

/// Its secret.
pub const SECRET_KEY: &str = "in-process-secret";

/// A running server.
#[derive(Debug)]
pub struct InProcess {
    address: SocketAddr,
    folder: Scratch,
    // Dropping it ends the server.
    _stop: oneshot::Sender<()>,
}

impl InProcess {
    /// Starts a server without buckets.
    pub fn start() -> Result<Self> {
        let folder = Scratch::new("s3s-")?;
        let files = s3s_fs::FileSystem::new(folder.path()).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();
        let (stop, stopped) = oneshot::channel();
        let (report, started) = mpsc::channel();
        std::thread::spawn(move || run(service, stopped, &report));
        let address = started.recv().context("the server's thread ended")??;
        Ok(Self {
            address,
            folder,
            _stop: stop,
        })
    }

    /// Makes a bucket.
    pub fn create_bucket(&self, name: &str) -> Result<()> {
        std::fs::create_dir(self.folder.join(name)).with_context(|| format!("bucket {name}"))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn run(service: S3Service, stopped: oneshot::Receiver<()>, report: &mpsc::Sender<Result<SocketAddr>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return report.send(Err(error.into())).unwrap_or_default(),
    };
    runtime.block_on(async {
        let listener = match TcpListener::bind("127.0.0.1:0").await {
            Ok(listener) => listener,
            Err(error) => return report.send(Err(error.into())).unwrap_or_default(),
        };
        if report.send(listener.local_addr().map_err(Into::into)).is_err() {
            return;
        }
        tokio::select! {
            () = serve(listener, service) => {}
            _ = stopped => {}
        }
    });
    runtime.shutdown_background();
}

async fn serve(listener: TcpListener, service: S3Service) {
    while let Ok((socket, _)) = listener.accept().await {
        let service = service.clone();
        tokio::spawn(async move {
            let http = Builder::new(TokioExecutor::new());
            // A client that goes away in the middle is what many cases are about.
            let _ = http.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}
