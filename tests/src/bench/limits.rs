//! What the servers give at best: bare lists and bare creates with the client that the product uses, and nothing else.
//!
//! A list reads every body to its end and looks at nothing but the continue token, a create sends bodies that were made
//! before the clock started. So a ratio to these figures holds all that the product does on top.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use backup_engine::api::{ApiClient, ConnectOptions};
use backup_plan::kinds;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;

use crate::applications::ballast_object;
use crate::runtime;

/// Objects of a page, as the product's largest.
const PAGE: usize = 500;

/// Creates in flight, as the product's.
const IN_FLIGHT: usize = 32;

/// A connection of the product's client, and the collections that a backup of everything lists.
#[derive(Clone)]
pub(super) struct Limits {
    api: ApiClient,
    collections: Vec<String>,
}

impl Limits {
    pub(super) fn connect(kubeconfig: &Path) -> Result<Self> {
        let options = ConnectOptions {
            kubeconfig: Some(kubeconfig.to_owned()),
            ..ConnectOptions::default()
        };
        runtime::run(async move {
            let api = ApiClient::connect(&options).await?;
            let discovery = api.discover().await?;
            let taken = kinds::choose(&discovery.kinds).taken;
            let collections = taken.iter().map(|kind| kind.api.collection_path(None)).collect();
            Ok(Self { api, collections })
        })
    }

    /// Lists everything, so many collections at once. Gives the time and the bytes.
    pub(super) fn list(&self, in_flight: usize) -> Result<(Duration, u64)> {
        let Self { api, collections } = self.clone();
        let begun = Instant::now();
        let bytes = runtime::run(async move {
            futures::stream::iter(collections.into_iter().map(|collection| {
                let api = api.clone();
                async move { list(&api, &collection).await }
            }))
            .buffer_unordered(in_flight)
            .try_fold(0, |sum, bytes| async move { Ok(sum + bytes) })
            .await
        })?;
        Ok((begun.elapsed(), bytes))
    }

    /// Creates the ballast in fresh namespaces and gives the time of the objects alone.
    pub(super) fn create_ballast(&self, count: usize, namespaces: usize) -> Result<Duration> {
        let prepared = (0..namespaces).map(|number| {
            let name = format!("ballast-{number}");
            let object =
                serde_json::json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
            ("/api/v1/namespaces".to_owned(), Bytes::from(object.to_string()))
        });
        self.create(prepared.collect())?;
        self.create(
            (0..count)
                .map(|number| posted(&ballast_object(number, namespaces)))
                .collect(),
        )
    }

    fn create(&self, prepared: Vec<(String, Bytes)>) -> Result<Duration> {
        let api = self.api.clone();
        let begun = Instant::now();
        runtime::run(async move {
            futures::stream::iter(prepared.into_iter().map(|(collection, body)| {
                let api = api.clone();
                async move { api.create(&collection, body).await.map(drop) }
            }))
            .buffer_unordered(IN_FLIGHT)
            .try_collect::<()>()
            .await?;
            Ok(())
        })?;
        Ok(begun.elapsed())
    }

    /// Fails unless the kinds of the ballast count at least so many objects.
    pub(super) fn ensure_objects(&self, wanted: usize) -> Result<()> {
        let api = self.api.clone();
        let paths = [
            "/api/v1/configmaps",
            "/api/v1/secrets",
            "/apis/rbac.authorization.k8s.io/v1/roles",
        ];
        let found = runtime::run(async move {
            let mut found = 0;
            for path in paths {
                let body = api
                    .get(&format!("{path}?limit=1"))
                    .await?
                    .with_context(|| format!("{path} is not served"))?;
                let list: Value = serde_json::from_slice(&body)?;
                let more = list
                    .pointer("/metadata/remainingItemCount")
                    .and_then(Value::as_u64)
                    .unwrap_or_default();
                let first = list.get("items").and_then(Value::as_array).map_or(0, Vec::len) as u64;
                found += first + more;
            }
            Ok(found)
        })?;
        ensure!(found >= wanted as u64, "{found} objects came back of {wanted}");
        Ok(())
    }
}

async fn list(api: &ApiClient, collection: &str) -> Result<u64> {
    let (mut bytes, mut token) = (0, String::new());
    loop {
        let path = format!("{collection}?limit={PAGE}&continue={token}");
        let body = api
            .get(&path)
            .await?
            .with_context(|| format!("{collection} is not served"))?;
        bytes += body.len() as u64;
        token = continue_token(&body);
        if token.is_empty() {
            return Ok(bytes);
        }
    }
}

/// The token stands before the first item. It is base64 for URLs and needs no escapes.
fn continue_token(body: &[u8]) -> String {
    let head = String::from_utf8_lossy(body.get(..2_048).unwrap_or(body));
    let head = head.split("\"items\":").next().unwrap_or_default();
    head.split("\"continue\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_default()
        .to_owned()
}

/// Where an object of the ballast is posted to, and its bytes.
fn posted(object: &Value) -> (String, Bytes) {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let namespace = text("/metadata/namespace");
    let collection = match text("/kind") {
        "Role" => format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles"),
        kind => format!("/api/v1/namespaces/{namespace}/{}s", kind.to_lowercase()),
    };
    (collection, Bytes::from(object.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_before_the_items_only() {
        for (body, token) in [
            (
                r#"{"kind":"PodList","metadata":{"resourceVersion":"7","continue":"eyJ2","remainingItemCount":9},"items":[]}"#,
                "eyJ2",
            ),
            (
                r#"{"kind":"PodList","metadata":{"resourceVersion":"7"},"items":[{"data":{"continue":"x"}}]}"#,
                "",
            ),
            ("", ""),
        ] {
            assert_eq!(continue_token(body.as_bytes()), token);
        }
    }

    #[test]
    fn every_kind_of_ballast_is_posted_to_its_own_collection() {
        for (number, collection) in [
            (0, "/api/v1/namespaces/ballast-0/configmaps"),
            (7, "/api/v1/namespaces/ballast-1/secrets"),
            (9, "/apis/rbac.authorization.k8s.io/v1/namespaces/ballast-1/roles"),
        ] {
            assert_eq!(posted(&ballast_object(number, 2)).0, collection);
        }
    }
}
