//! Which of our parts a cluster has, and with which image: what nobody asks to change stays as it is.
//!
//! In comes a connection; out goes [`InUse`]. Nothing is written.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{RETENTION_LABEL, install::Installer, shipped::Component};
use crate::{api::ApiError, schedule::NAMESPACE};

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct InUse {
    /// Parts that are there.
    pub components: BTreeSet<Component>,
    /// CronJobs of ours: schedules and retention.
    pub cron_jobs: Vec<Value>,
    /// Locations whose expired backups are removed in the cluster.
    pub retained: BTreeSet<String>,
    /// Image of our pods.
    pub image: Option<String>,
    /// Secret to pull it with.
    pub image_pull_secret: Option<String>,
}

/// Looks. A cluster without our namespace has nothing.
///
/// # Errors
/// When it cannot be asked.
pub async fn look(installer: &Installer<'_>, has_namespace: bool) -> Result<InUse, ApiError> {
    if !has_namespace {
        return Ok(InUse::default());
    }
    let mut in_use = InUse::default();
    let mut pods = Vec::new();
    for (name, component) in [
        ("backup-webhook", Component::Admission),
        ("backup-metrics", Component::Metrics),
    ] {
        let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}");
        let found = installer.get(&path).await?;
        in_use.components.extend(found.as_ref().map(|_| component));
        pods.extend(found.and_then(|found| found.pointer("/spec/template/spec").cloned()));
    }
    in_use.cron_jobs = installer.cron_jobs().await?;
    for job in &in_use.cron_jobs {
        let location = job["metadata"]["labels"][RETENTION_LABEL].as_str();
        in_use.retained.extend(location.map(str::to_owned));
        pods.extend(job.pointer("/spec/jobTemplate/spec/template/spec").cloned());
    }
    if !in_use.retained.is_empty() {
        in_use.components.insert(Component::Retention);
    }
    let first = |pointer: &str| {
        pods.iter()
            .find_map(|pod| pod.pointer(pointer).and_then(Value::as_str))
            .map(str::to_owned)
    };
    in_use.image = first("/containers/0/image");
    in_use.image_pull_secret = first("/imagePullSecrets/0/name");
    Ok(in_use)
}
