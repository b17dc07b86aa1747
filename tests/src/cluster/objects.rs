//! Objects in the API server, as plain JSON values.
//!
//! Paths are the API server's own (`/api/v1/namespaces/shop/configmaps/prices`); for new objects the path follows from
//! their apiVersion and kind. Every call blocks. Nothing here uses the product's engine, so it may judge the product.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::{Method, Request, StatusCode};
use kube::client::Body;
use serde_json::Value;

use super::Cluster;
use crate::process::READY_WITHIN;
use crate::runtime;

/// Where objects of a kind are posted to: plural name, and whether they live in namespaces.
type Kinds = Arc<Mutex<HashMap<(String, String), (String, bool)>>>;

/// Raw requests to one API server.
#[derive(Clone)]
pub(crate) struct Requests {
    client: kube::Client,
    kinds: Kinds,
}

impl Requests {
    pub(super) fn new(client: kube::Client) -> Self {
        Self {
            client,
            kinds: Kinds::default(),
        }
    }

    /// Sends one request and reads the whole answer. "Too busy" is answered before anything is done, for instance while
    /// the storage of a new kind is made ready; it is asked again.
    pub(crate) async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes)> {
        let begun = Instant::now();
        loop {
            let answer = self.exchange_once(method.clone(), path, body).await?;
            if answer.0 != StatusCode::TOO_MANY_REQUESTS || begun.elapsed() > READY_WITHIN {
                return Ok(answer);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn exchange_once(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes)> {
        let content_type = if method == Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let what = format!("{method} {path}");
        let bytes = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .header("accept", "application/json")
            .body(Body::from(bytes))?;
        let answer = self
            .client
            .send(request)
            .await
            .with_context(|| format!("{what} got no answer"))?;
        let status = answer.status();
        let bytes = answer
            .into_body()
            .collect_bytes()
            .await
            .with_context(|| format!("{what} was cut"))?;
        Ok((status, bytes))
    }

    /// As [`Requests::exchange`]; a missing object is `None` and any other refusal an error with the server's words.
    pub(crate) async fn value(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Option<Value>> {
        let (status, bytes) = self.exchange(method.clone(), path, body).await?;
        if status == StatusCode::NOT_FOUND && method != Method::POST {
            return Ok(None);
        }
        if !status.is_success() {
            bail!(
                "{method} {path} was answered {status}: {}",
                String::from_utf8_lossy(&bytes)
            );
        }
        Ok(Some(serde_json::from_slice(&bytes).with_context(|| {
            format!("{method} {path} was answered with no JSON")
        })?))
    }

    /// All objects of a collection, page by page.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let mut objects = Vec::new();
        let mut token = String::new();
        loop {
            let page = format!("{path}?limit=500&continue={token}");
            let mut page = self
                .value(Method::GET, &page, None)
                .await?
                .with_context(|| format!("{path} is not served"))?;
            page.pointer("/metadata/continue")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .clone_into(&mut token);
            match page.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => objects.extend(items),
                _ => bail!("{path} was answered without items"),
            }
            if token.is_empty() {
                return Ok(objects);
            }
        }
    }

    /// The collection that an object belongs to.
    async fn collection(&self, object: &Value) -> Result<String> {
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (version, kind, namespace) = (text("/apiVersion"), text("/kind"), text("/metadata/namespace"));
        let base = if version.contains('/') {
            format!("/apis/{version}")
        } else {
            format!("/api/{version}")
        };
        let (plural, namespaced) = self.kind(&base, &version, &kind).await?;
        Ok(match (namespaced, namespace.as_str()) {
            (false, _) => format!("{base}/{plural}"),
            (true, "") => format!("{base}/namespaces/default/{plural}"),
            (true, namespace) => format!("{base}/namespaces/{namespace}/{plural}"),
        })
    }

    async fn kind(&self, base: &str, version: &str, kind: &str) -> Result<(String, bool)> {
        let key = (version.to_owned(), kind.to_owned());
        if let Some(found) = self
            .kinds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
        {
            return Ok(found.clone());
        }
        let served = self
            .value(Method::GET, base, None)
            .await?
            .with_context(|| format!("{version} is not served"))?;
        let resources = served
            .get("resources")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let found = resources.iter().find_map(|resource| {
            let name = resource.get("name")?.as_str()?;
            let matches = resource.get("kind")?.as_str()? == kind && !name.contains('/');
            matches.then(|| {
                (
                    name.to_owned(),
                    resource.get("namespaced") == Some(&Value::Bool(true)),
                )
            })
        });
        let found = found.with_context(|| format!("{version} has no kind {kind}"))?;
        self.kinds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, found.clone());
        Ok(found)
    }

    /// Creates one object. A server that is too busy (429) is asked again, since it did nothing.
    async fn create(&self, object: &Value) -> Result<Value> {
        self.create_with(object, "").await
    }

    async fn create_with(&self, object: &Value, query: &str) -> Result<Value> {
        let path = format!("{}{query}", self.collection(object).await?);
        loop {
            let (status, bytes) = self.exchange(Method::POST, &path, Some(object)).await?;
            if status == StatusCode::TOO_MANY_REQUESTS {
                tokio::time::sleep(Duration::from_secs(1)).await;
            } else if status.is_success() {
                return serde_json::from_slice(&bytes)
                    .with_context(|| format!("POST {path} was answered with no JSON"));
            } else {
                bail!(
                    "POST {path} was answered {status}: {}",
                    String::from_utf8_lossy(&bytes)
                );
            }
        }
    }
}

impl Cluster {
    /// The object at a path of the API server, or `None` if there is none.
    pub fn get(&self, path: &str) -> Result<Option<Value>> {
        let (requests, path) = (self.requests.clone(), path.to_owned());
        runtime::run(async move { requests.value(Method::GET, &path, None).await })
    }

    /// All objects of the collection at a path.
    pub fn list(&self, path: &str) -> Result<Vec<Value>> {
        let (requests, path) = (self.requests.clone(), path.to_owned());
        runtime::run(async move { requests.list(&path).await })
    }

    /// Creates an object (in namespace `default` if it names none) and gives what the server made of it.
    pub fn create(&self, object: Value) -> Result<Value> {
        let requests = self.requests.clone();
        runtime::run(async move { requests.create(&object).await })
    }

    /// Asks whether an object would be created; a refusal is an error.
    pub fn create_dry(&self, object: Value) -> Result<Value> {
        let requests = self.requests.clone();
        runtime::run(async move { requests.create_with(&object, "?dryRun=All").await })
    }

    /// Creates `count` objects, 32 at a time, and gives how long that took.
    pub fn create_many(
        &self,
        count: usize,
        make: impl Fn(usize) -> Value + Send + 'static,
    ) -> Result<Duration> {
        let requests = self.requests.clone();
        let begun = Instant::now();
        runtime::run(async move {
            futures::stream::iter((0..count).map(move |number| {
                let (requests, object) = (requests.clone(), make(number));
                async move { requests.create(&object).await.map(drop) }
            }))
            .buffer_unordered(32)
            .try_collect::<()>()
            .await
        })?;
        Ok(begun.elapsed())
    }

    /// Changes the object at a path by a JSON merge patch.
    pub fn patch(&self, path: &str, patch: Value) -> Result<Value> {
        let (requests, path) = (self.requests.clone(), path.to_owned());
        runtime::run(async move {
            let changed = requests.value(Method::PATCH, &path, Some(&patch)).await?;
            changed.with_context(|| format!("{path} is not there"))
        })
    }

    /// Deletes the object at a path; one that is not there is fine.
    pub fn delete(&self, path: &str) -> Result<()> {
        let (requests, path) = (self.requests.clone(), path.to_owned());
        runtime::run(async move { requests.value(Method::DELETE, &path, None).await.map(drop) })
    }

    /// Waits until `done` says so.
    pub fn wait_until(&self, what: &str, mut done: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while !done(self)? {
            if Instant::now() > deadline {
                bail!(
                    "still waiting after {} s: {what}\n{}",
                    READY_WITHIN.as_secs(),
                    self.log_tails()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Waits until there is no object at a path any more.
    pub fn wait_until_gone(&self, path: &str) -> Result<()> {
        self.wait_until(&format!("{path} to be gone"), |cluster| {
            Ok(cluster.get(path)?.is_none())
        })
    }
}
