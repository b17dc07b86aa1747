//! Cluster API's runtime hooks: which there are, and whether a cluster's machines may be taken down.
//!
//! The protocol is that of the Runtime SDK, group `hooks.runtime.cluster.x-k8s.io`, version `v1alpha1`: JSON objects over
//! HTTPS at fixed paths. What is no request of it is answered with status `Failure`, upon which Cluster API goes no further.

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use backup_plan::disposition::{BeforeDelete, Cluster, before_delete};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::reviews::MAX_BODY;

const VERSION: &str = "hooks.runtime.cluster.x-k8s.io/v1alpha1";
const HOOK: &str = "BeforeClusterDelete";
/// Our handler. Cluster API knows it as this name and that of the ExtensionConfig.
const HANDLER: &str = "backup-storage";
/// Cluster API asks again after this.
const RETRY_SECONDS: u32 = 10;

/// The two paths.
pub fn router() -> Router {
    let asked = format!("/{VERSION}/{}/{HANDLER}", HOOK.to_lowercase());
    Router::new()
        .route(
            &format!("/{VERSION}/discovery"),
            post(async || axum::Json(discovery())),
        )
        .route(&asked, post(async |body: Bytes| axum::Json(answer(&body))))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

fn discovery() -> Value {
    json!({
        "apiVersion": VERSION, "kind": "DiscoveryResponse", "status": "Success",
        "handlers": [{
            "name": HANDLER,
            "requestHook": { "apiVersion": VERSION, "hook": HOOK },
            "timeoutSeconds": 10,
            "failurePolicy": "Fail",
        }],
    })
}

fn answer(body: &[u8]) -> Value {
    #[derive(Deserialize)]
    struct Asked<'b> {
        #[serde(borrow)]
        cluster: &'b RawValue,
    }
    let read = |body| {
        let asked: Asked<'_> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let cluster = Cluster::read("cluster.x-k8s.io", "Cluster", asked.cluster.get());
        let cluster = cluster.map_err(|error| error.to_string())?;
        if cluster.name.is_empty() {
            return Err("its cluster has no name".to_owned());
        }
        Ok(cluster)
    };
    let (status, message, retry) = match read(body) {
        Ok(cluster) => match before_delete(&cluster) {
            BeforeDelete::Go => ("Success", String::new(), 0),
            BeforeDelete::Wait(why) => ("Success", why, RETRY_SECONDS),
        },
        Err(error) => ("Failure", format!("this is no {HOOK}Request: {error}"), 0),
    };
    json!({
        "apiVersion": VERSION, "kind": format!("{HOOK}Response"), "status": status, "message": message,
        "retryAfterSeconds": retry,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_request_is_a_failure_and_never_a_go() {
        for body in ["", "{}", "[]", "{\"cluster\": 3}", "{\"cluster\": {}}"] {
            let answer = answer(body.as_bytes());
            assert_eq!(answer["status"], "Failure", "{body}: {answer}");
        }
    }
}
