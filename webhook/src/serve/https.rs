//! The listener for the API server.
//!
//! Nobody can hold a connection for nothing: a handshake, a first request and each head of a request have a time limit,
//! idle HTTP/2 connections are pinged. Bodies and answers are limited in [`super::reviews`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;

use super::metrics::Metrics;
use crate::certificate::serving::Serving;

const HANDSHAKE: Duration = Duration::from_secs(5);
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// Also how long an idle HTTP/1.1 connection stays; longer than the API server keeps one (90 s), so that it is the one
/// who closes and no request meets a closing connection.
const HEAD: Duration = Duration::from_mins(2);

/// A listener with its TLS.
pub struct Server {
    inner: axum_server::Server<SocketAddr, RustlsAcceptor<NoDelayAcceptor>>,
    handle: Handle<SocketAddr>,
}

impl Server {
    /// Listens; connections are taken once it is served.
    pub fn new(listener: TcpListener, serving: &Arc<Serving>, metrics: Arc<Metrics>) -> Self {
        let config = RustlsConfig::from_config(Arc::new(serving.config()));
        let acceptor = RustlsAcceptor::new(config)
            .handshake_timeout(HANDSHAKE)
            .acceptor(NoDelayAcceptor::new());
        let handle = Handle::new();
        let mut inner = axum_server::Server::from_listener(listener)
            .acceptor(acceptor)
            .handle(handle.clone())
            .first_request_timeout(FIRST_REQUEST)
            .accept_error_handler(move |_, error| {
                metrics.failed_handshakes.inc();
                tracing::debug!(%error, "a connection ended before its first request");
            });
        let builder = inner.http_builder();
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10))
            .max_concurrent_streams(1000);
        Self { inner, handle }
    }

    /// To stop it.
    pub fn handle(&self) -> Handle<SocketAddr> {
        self.handle.clone()
    }

    /// Serves until it is stopped.
    pub async fn serve(self, router: Router) -> std::io::Result<()> {
        self.inner.serve(router.into_make_service()).await
    }
}
