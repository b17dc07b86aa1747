//! Takes the parts away, in the order in which nothing gets stuck.
//!
//! Doors first, since with nobody behind them they refuse; then the policies that keep definitions and namespaces from
//! being deleted; then what runs, and rights; our namespace with all that is in it; definitions last. What is not there is no
//! error, so that half an installation goes like a whole one. Whether it may go at all is the caller's question.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{LifecycleError, shipped};
use crate::{
    api::{ApiClient, ApiError, ListRequest},
    jobs::list,
    schedule::{NAMESPACE, kind, objects::APP, path_of},
};

const AGAIN: Duration = Duration::from_millis(500);

/// The API server forgets doors and policies a moment after they are gone.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(30);

/// What was shipped, in the order in which it goes.
///
/// # Errors
/// [`LifecycleError::Manifest`].
pub fn order() -> Result<Vec<Value>, LifecycleError> {
    let mut objects = shipped::everything()?;
    objects.sort_by_key(rank);
    Ok(objects)
}

fn rank(object: &Value) -> u8 {
    match object["kind"].as_str() {
        Some("MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => 0,
        Some("ValidatingAdmissionPolicyBinding") => 1,
        Some("ValidatingAdmissionPolicy") => 2,
        Some("Deployment" | "DaemonSet") => 3,
        Some("Namespace") => 5,
        Some("CustomResourceDefinition") => 6,
        _ => 4,
    }
}

/// A cluster that loses its parts.
pub struct Removal<'a> {
    api: &'a ApiClient,
    patience: Duration,
}

impl<'a> Removal<'a> {
    /// Waits this long for what takes its time to go.
    pub fn new(api: &'a ApiClient, patience: Duration) -> Self {
        Self { api, patience }
    }

    /// Removes the CronJobs of ours, so that no run begins any more; gives how many there were.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn stop(&self) -> Result<usize, LifecycleError> {
        let cron_jobs = kind("batch", "cronjobs", "CronJob", true);
        let names = self.names(&cron_jobs, Some(NAMESPACE)).await?;
        let options = json!({ "propagationPolicy": "Foreground" });
        for name in &names {
            let path = crate::api::object_path(&cron_jobs, Some(NAMESPACE), name);
            self.api.delete_with(&path, options.to_string().into()).await?;
            self.wait_until_gone(&path, &format!("CronJob {NAMESPACE}/{name}"))
                .await?;
        }
        Ok(names.len())
    }

    /// Removes all that was shipped and what schedules and runs were given; `gone` hears of each object that was there.
    ///
    /// # Errors
    /// When the server refuses one or it does not go; the same call goes on from there.
    pub async fn remove(&self, mut gone: impl FnMut(&str)) -> Result<(), LifecycleError> {
        let mut rights_are_gone = false;
        for object in order()? {
            if rank(&object) > 4 && !rights_are_gone {
                self.remove_rights(&mut gone).await?;
                rights_are_gone = true;
            }
            self.remove_one(&object, &mut gone).await?;
        }
        Ok(())
    }

    /// Removes one object, and waits where others depend on its end.
    pub(super) async fn remove_one(
        &self,
        object: &Value,
        gone: &mut impl FnMut(&str),
    ) -> Result<(), LifecycleError> {
        let (path, what) = (path_of(object), shipped::describe(object));
        let is_there = match self.api.get(&path).await {
            Ok(found) => found.is_some(),
            // Where a kind is not served there is no object of it.
            Err(error) if error.is_not_found() => false,
            Err(error) => return Err(error.into()),
        };
        if !is_there {
            return Ok(());
        }
        self.delete(&path).await?;
        if rank(object) != 4 {
            self.wait_until_gone(&path, &what).await?;
        }
        gone(&what);
        Ok(())
    }

    /// Waits until no pod is left that matches.
    pub(super) async fn wait_for_pods(&self, namespace: &str, selector: &str) -> Result<(), LifecycleError> {
        let begun = Instant::now();
        loop {
            let pods = list(self.api, "", "pods", "Pod", Some(namespace), selector).await?;
            let Some(pod) = pods.first() else {
                return Ok(());
            };
            if begun.elapsed() > self.patience {
                let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                return Err(LifecycleError::Late {
                    what: format!("the end of Pod {namespace}/{name}"),
                    why: why_it_stays(pod),
                    seconds: self.patience.as_secs(),
                });
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    pub(super) fn api(&self) -> &ApiClient {
        self.api
    }

    /// Cluster-wide rights that were made with schedules, runs and retention.
    async fn remove_rights(&self, gone: &mut impl FnMut(&str)) -> Result<(), LifecycleError> {
        for (plural, name) in [
            ("clusterrolebindings", "ClusterRoleBinding"),
            ("clusterroles", "ClusterRole"),
        ] {
            let rights = kind("rbac.authorization.k8s.io", plural, name, false);
            for found in self.names(&rights, None).await? {
                self.api
                    .delete(&crate::api::object_path(&rights, None, &found))
                    .await?;
                gone(&format!("{name} {found}"));
            }
        }
        Ok(())
    }

    async fn names(
        &self,
        kind: &velero_model::resource::ApiKind,
        namespace: Option<&str>,
    ) -> Result<Vec<String>, ApiError> {
        let mut pages = self.api.list(ListRequest {
            kind: kind.clone(),
            namespace: namespace.map(str::to_owned),
            selector: format!("{}={}", APP.0, APP.1),
            metadata_only: true,
        });
        let mut names = Vec::new();
        while let Some(page) = pages.next().await? {
            for (raw, _) in page.objects() {
                let object: Value = super::install::parse(&kind.collection_path(namespace), raw)?;
                names.extend(object["metadata"]["name"].as_str().map(str::to_owned));
            }
        }
        Ok(names)
    }

    async fn delete(&self, path: &str) -> Result<(), ApiError> {
        let begun = Instant::now();
        loop {
            match self.api.delete(path).await {
                Err(error) if error.is_forbidden() && begun.elapsed() < FORGOTTEN_WITHIN => {
                    tokio::time::sleep(AGAIN).await;
                }
                other => return other,
            }
        }
    }

    async fn wait_until_gone(&self, path: &str, what: &str) -> Result<(), LifecycleError> {
        let begun = Instant::now();
        loop {
            let Some(body) = self.api.get(path).await? else {
                return Ok(());
            };
            if begun.elapsed() > self.patience {
                return Err(LifecycleError::Late {
                    what: format!("the end of {what}"),
                    why: why_it_stays(&super::install::parse(path, &body)?),
                    seconds: self.patience.as_secs(),
                });
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

fn why_it_stays(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array();
    let says = conditions
        .into_iter()
        .flatten()
        .filter(|condition| condition["status"] == "True")
        .filter_map(|condition| condition["message"].as_str())
        .next_back();
    let finalizers = object["metadata"]["finalizers"].as_array();
    match (says, finalizers) {
        (Some(says), _) => says.to_owned(),
        (None, Some(held)) if !held.is_empty() => format!("it is held by {}", Value::from(held.clone())),
        _ => "the API server is still at work".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_go_first_and_definitions_last() {
        let order = order().unwrap();
        let kinds: Vec<&str> = order
            .iter()
            .map(|object| object["kind"].as_str().unwrap())
            .collect();
        assert!(
            kinds[..3]
                .iter()
                .all(|kind| kind.ends_with("WebhookConfiguration"))
        );
        assert_eq!(kinds[kinds.len() - 2..], ["CustomResourceDefinition"; 2]);
        let at = |kind: &str| kinds.iter().position(|found| *found == kind).unwrap();
        assert!(at("ValidatingAdmissionPolicyBinding") < at("ValidatingAdmissionPolicy"));
        assert!(at("ValidatingAdmissionPolicy") < at("Deployment"));
        assert!(at("Deployment") < at("ClusterRole"));
        assert!(at("ClusterRole") < at("Namespace"));
    }
}
