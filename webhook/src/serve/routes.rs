//! The paths that webhook configurations name. This is all that knows HTTP: a body goes in, a body comes out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode, Version};
use velero_model::duration::GoDuration;

use super::readiness::Readiness;
use super::reviews::{Decisions, Refusal, Reviews, Webhook};

struct Shared<D> {
    reviews: Arc<Reviews<D>>,
    readiness: Arc<Readiness>,
}

impl<D> Clone for Shared<D> {
    fn clone(&self) -> Self {
        Self {
            reviews: Arc::clone(&self.reviews),
            readiness: Arc::clone(&self.readiness),
        }
    }
}

/// `/annotate`, `/gate` and `/guard`.
pub fn router<D: Decisions>(reviews: Arc<Reviews<D>>, readiness: Arc<Readiness>) -> Router {
    let route = |webhook| {
        post(
            move |State(shared): State<Shared<D>>, request: Request<Body>| async move {
                answer(&shared, webhook, request).await
            },
        )
    };
    Router::new()
        .route(Webhook::annotate.path(), route(Webhook::annotate))
        .route(Webhook::gate.path(), route(Webhook::gate))
        .route(Webhook::guard.path(), route(Webhook::guard))
        .with_state(Shared { reviews, readiness })
}

async fn answer<D: Decisions>(shared: &Shared<D>, webhook: Webhook, request: Request<Body>) -> Response {
    let began = Instant::now();
    let deadline = began + allowed_time(webhook, request.uri().query());
    let version = request.version();
    let body = request.into_body();
    let mut response = match shared.reviews.answer(webhook, body, began, deadline).await {
        Ok(bytes) => ([(CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(refusal) => refuse(&refusal),
    };
    // HTTP/2 says goodbye by itself; an idle HTTP/1.1 connection would be cut while a request is on its way.
    if version < Version::HTTP_2 && shared.readiness.is_draining() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}

fn refuse(refusal: &Refusal) -> Response {
    let status = match refusal {
        Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Slow => StatusCode::REQUEST_TIMEOUT,
        Refusal::Cut | Refusal::NoReview(_) => StatusCode::BAD_REQUEST,
    };
    (status, format!("{refusal}\n")).into_response()
}

/// The API server tells its patience in the query: `?timeout=2s`. We answer before it is at an end.
fn allowed_time(webhook: Webhook, query: Option<&str>) -> Duration {
    let patience = query
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("timeout="))
        .and_then(|text| GoDuration::parse(text).ok())
        .map(|GoDuration(patience)| patience * 3 / 4);
    let own = webhook.deadline();
    patience.map_or(own, |patience| patience.min(own))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Webhook, allowed_time};

    #[test]
    fn we_answer_before_the_api_server_loses_patience() {
        for (webhook, query, milliseconds) in [
            (Webhook::annotate, None, 1500),
            (Webhook::annotate, Some("timeout=2s"), 1500),
            (Webhook::annotate, Some("timeout=1s"), 750),
            (Webhook::annotate, Some("timeout=30s"), 1500),
            (Webhook::gate, Some("timeout=5s"), 3750),
            (Webhook::gate, Some("a=b&timeout=10s"), 4000),
            (Webhook::guard, Some("timeout=soon"), 4000),
        ] {
            let time = allowed_time(webhook, query);
            assert_eq!(time, Duration::from_millis(milliseconds), "{webhook:?} {query:?}");
        }
    }
}
