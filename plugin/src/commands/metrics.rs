//! `metrics serve`: looks at the cluster and its locations again and again, and serves what it saw.
//!
//! A scrape reads memory alone. What was seen last stays where a look fails, and gauges say how old it is; a location that
//! does not answer keeps its figures and is called unavailable.

mod families;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use backup_engine::{
    api::ApiClient,
    clock,
    overview::{self, Contents, Overview},
};
use backup_plan::tally::Tally;
use tokio::net::TcpListener;

use self::families::Families;
use super::volumes;
use crate::{
    exit::{Exit, Failure},
    session::Session,
    view,
};

/// What scrapes are answered from.
#[derive(Default)]
struct Shown {
    text: Mutex<Option<String>>,
}

pub(crate) async fn serve(session: &Session, bind: SocketAddr, interval: Duration) -> Result<Exit, Failure> {
    let api = session.api().await?;
    let fail = |source| Failure::Local {
        what: format!("nothing can be served at {bind}"),
        source,
    };
    let listener = TcpListener::bind(bind).await.map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    view::say(&format!(
        "metrics at http://{address}/metrics, looked at every {} s",
        interval.as_secs()
    ));
    let shown = Arc::new(Shown::default());
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(&shown));
    let served =
        axum::serve(listener, router).with_graceful_shutdown(session.cancel.clone().cancelled_owned());
    tokio::select! {
        served = async { served.await } => served.map_err(fail)?,
        () = look_again_and_again(session, &api, interval, &shown) => {}
    }
    // Ending it is how it ends.
    Ok(Exit::Done)
}

async fn look_again_and_again(session: &Session, api: &ApiClient, interval: Duration, shown: &Shown) {
    let mut tally = Tally::new(clock::now());
    let mut restores = Tally::new(clock::now());
    let mut last = BTreeMap::new();
    let families = Families::new();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match overview::look(api).await {
            Ok(mut seen) => {
                families.locations(&seen);
                remember(&mut last, &mut seen);
                families.update(&seen, &mut tally, &mut restores);
            }
            Err(error) => {
                view::warn(&format!("the cluster cannot be looked at: {error}"));
                families.failed();
            }
        }
        match Box::pin(volumes::unprotected(session, api)).await {
            Ok(seen) => families.claims(Some(seen)),
            Err(error) => {
                view::warn(&format!("the claims of the cluster cannot be looked at: {error}"));
                families.claims(None);
            }
        }
        let mut text = shown.text.lock().unwrap_or_else(PoisonError::into_inner);
        *text = Some(families.text());
    }
}

/// Puts what was last seen in a location where now nothing is seen.
fn remember(last: &mut BTreeMap<String, Contents>, seen: &mut Overview) {
    last.retain(|name, _| seen.locations.iter().any(|location| location.name == *name));
    for location in &mut seen.locations {
        match &location.contents {
            Ok(contents) => {
                last.insert(location.name.clone(), contents.clone());
            }
            Err(problem) => {
                view::warn(&format!("location {}: {problem}", location.name));
                if let Some(contents) = last.get(&location.name) {
                    location.contents = Ok(contents.clone());
                }
            }
        }
    }
}

/// Ready once the first look is done: until then every figure would be a lie.
async fn readyz(State(shown): State<Arc<Shown>>) -> impl IntoResponse {
    let text = shown.text.lock().unwrap_or_else(PoisonError::into_inner);
    match *text {
        Some(_) => (StatusCode::OK, "ok\n"),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the first look is not done\n"),
    }
}

async fn metrics(State(shown): State<Arc<Shown>>) -> impl IntoResponse {
    let text = shown.text.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match text {
        Some(text) => (StatusCode::OK, [(CONTENT_TYPE, kind)], text),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            [(CONTENT_TYPE, "text/plain; charset=utf-8")],
            "the first look is not done\n".to_owned(),
        ),
    }
}
