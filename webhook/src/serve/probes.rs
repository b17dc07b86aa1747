//! The plain listener: `/livez`, `/readyz`, `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::extract;
use axum::response::IntoResponse;
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use super::readiness::Readiness;
use crate::lease::Leadership;
use crate::observe::Snapshot;

/// What is told.
#[derive(Debug, Clone)]
pub struct State {
    /// For `/readyz`.
    pub readiness: Arc<Readiness>,
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/metrics`.
    pub snapshot: Arc<Snapshot>,
    /// For `/metrics`.
    pub leadership: Leadership,
}

/// Serves until `ended`.
pub async fn serve(listener: TcpListener, state: State, ended: CancellationToken) {
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(state);
    let served = axum::serve(listener, router).with_graceful_shutdown(ended.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "probes are not served any more");
    }
}

async fn readyz(extract::State(state): extract::State<State>) -> impl IntoResponse {
    let (is_ready, text) = state.readiness.report();
    let status = if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, text)
}

async fn metrics(extract::State(state): extract::State<State>) -> impl IntoResponse {
    let text = state.metrics.text(&state.snapshot, state.leadership.is_leader());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], text)
}
