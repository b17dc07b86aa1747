//! Somebody who asks the API server under a name of their own, with the rights that a case gives them.
//!
//! Answers are values, refusals too: what a case is about is often the very words of a refusal.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use http::{Method, Request};
use kube::client::Body;
use serde_json::{Value, json};

use super::{Cluster, client_from};
use crate::runtime;

/// A user, or a ServiceAccount by its user name.
pub struct Person {
    name: String,
    kubeconfig: PathBuf,
    client: kube::Client,
}

/// What the API server answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// The object, or the Status of a refusal.
    pub body: Value,
    /// `Warning` headers, without code and agent.
    pub warnings: Vec<String>,
}

impl Cluster {
    /// Somebody of this name, who may do nothing yet.
    pub fn person(&self, name: &str) -> Result<Person> {
        let kubeconfig = self.kubeconfig_as(name)?;
        Ok(Person {
            name: name.to_owned(),
            client: client_from(&kubeconfig)?,
            kubeconfig,
        })
    }

    /// The administrator, who may do everything.
    pub fn admin(&self) -> Result<Person> {
        Ok(Person {
            name: "admin".to_owned(),
            client: self.client()?,
            kubeconfig: self.kubeconfig().to_owned(),
        })
    }
}

impl Person {
    /// Lets them do what the rules of a ClusterRole say, everywhere. When it returns, the API server knows it.
    pub fn may(self, cluster: &Cluster, rules: &Value) -> Result<Self> {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("case-{unique}");
        cluster.create(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": name },
            "rules": rules,
        }))?;
        cluster.create(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": self.name }],
        }))?;
        for rule in rules.as_array().into_iter().flatten() {
            let first = |list: &str, any: &str| match rule[list][0].as_str() {
                Some("*") | None => any.to_owned(),
                Some(word) => word.to_owned(),
            };
            let right = json!({
                "verb": first("verbs", "get"),
                "group": first("apiGroups", "kubectl-backup.io"),
                "resource": first("resources", "storagedispositions"),
            });
            // Authorization reads roles from a watch of its own.
            cluster.wait_until(&format!("{} to have {right}", self.name), |_| self.has(&right))?;
        }
        Ok(self)
    }

    /// Whether the API server says that they have a right, whatever the object's name.
    fn has(&self, right: &Value) -> Result<bool> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": right },
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = self.create(path, &review)?;
        Ok(answer.body["status"]["allowed"] == true)
    }

    /// Their name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A kubeconfig file of theirs.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Sends one request.
    pub fn ask(&self, method: Method, path: &str, content_type: &str, body: &Value) -> Result<Answer> {
        let bytes = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .header("accept", "application/json")
            .body(Body::from(bytes))?;
        let client = self.client.clone();
        runtime::run(async move {
            let answer = client.send(request).await?;
            let code = answer.status().as_u16();
            let headers = answer.headers().get_all("warning").into_iter();
            let warnings = headers
                .filter_map(|value| value.to_str().ok())
                .filter_map(|value| Some(value.split_once('"')?.1.trim_end_matches('"').to_owned()))
                .collect();
            let bytes = answer.into_body().collect_bytes().await?;
            Ok(Answer {
                code,
                body: serde_json::from_slice(&bytes).unwrap_or_default(),
                warnings,
            })
        })
    }

    /// Creates an object below a collection.
    pub fn create(&self, collection: &str, object: &Value) -> Result<Answer> {
        self.ask(Method::POST, collection, "application/json", object)
    }

    /// Changes an object by a JSON merge patch.
    pub fn patch(&self, path: &str, patch: &Value) -> Result<Answer> {
        self.ask(Method::PATCH, path, "application/merge-patch+json", patch)
    }

    /// Changes an object by a JSON patch.
    pub fn json_patch(&self, path: &str, operations: &Value) -> Result<Answer> {
        self.ask(Method::PATCH, path, "application/json-patch+json", operations)
    }

    /// Sets (or, with null, removes) one annotation.
    pub fn annotate(&self, path: &str, key: &str, value: impl Into<Value>) -> Result<Answer> {
        self.patch(
            path,
            &json!({ "metadata": { "annotations": { key: value.into() } } }),
        )
    }

    /// Deletes what is at a path, an object or a collection.
    pub fn delete(&self, path: &str) -> Result<Answer> {
        self.ask(Method::DELETE, path, "application/json", &Value::Null)
    }

    /// Deletes with `DeleteOptions`.
    pub fn delete_with(&self, path: &str, options: &Value) -> Result<Answer> {
        self.ask(Method::DELETE, path, "application/json", options)
    }
}

impl Answer {
    /// The words of a refusal.
    pub fn message(&self) -> &str {
        self.body
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Must be a yes.
    pub fn ok(self) -> Result<Value> {
        ensure!((200..300).contains(&self.code), "{self}");
        Ok(self.body)
    }

    /// Must be a 403 with reason Forbidden whose message holds all of these words.
    pub fn forbidden(self, words: &[&str]) -> Result<String> {
        ensure!(self.code == 403, "expected 403, got {self}");
        ensure!(
            self.body.get("reason").and_then(Value::as_str) == Some("Forbidden"),
            "expected reason Forbidden: {self}"
        );
        for word in words {
            ensure!(self.message().contains(word), "{word:?} is not in {self}");
        }
        Ok(self.message().to_owned())
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = if self.message().is_empty() {
            self.body.to_string()
        } else {
            self.message().to_owned()
        };
        write!(formatter, "{}: {body} {:?}", self.code, self.warnings)
    }
}
