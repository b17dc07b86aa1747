//! What most cases begin with: a bucket that backups go into and restores come out of, through the engine itself, and the
//! short forms of objects and paths.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use backup_engine::{
    api::{ApiClient, ConnectOptions},
    backup::{self, BackupRequest},
    catalog,
    progress::Progress,
    restore::{self, ObjectRef, RestoreError, RestorePlan, RestoreRequest, RestoreSummary},
    storage::{Bucket, memory::Memory},
};
use backup_plan::{compare::Secrets, restore::planned::PlannedObject, scope::Scope};
use backup_tests::cluster::{Cluster, Namespace};
use backup_tests::runtime;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use velero_model::{name::BackupName, phase::Phase};

/// A bucket and the clusters around it.
pub(crate) struct Site {
    pub(crate) bucket: Arc<dyn Bucket>,
}

fn name(text: &str) -> BackupName {
    BackupName::parse(text).expect("names in tests are good")
}

pub(crate) async fn client(kubeconfig: PathBuf) -> Result<ApiClient> {
    let options = ConnectOptions {
        kubeconfig: Some(kubeconfig),
        ..ConnectOptions::default()
    };
    Ok(ApiClient::connect(&options).await?)
}

pub(crate) fn of_namespaces(namespaces: &[&str]) -> Scope {
    Scope {
        included_namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        ..Scope::default()
    }
}

impl Site {
    pub(crate) fn new() -> Self {
        Self {
            bucket: Arc::new(Memory::new()),
        }
    }

    pub(crate) fn back_up(&self, cluster: &Cluster, backup: &str, scope: Scope) -> Result<()> {
        let request = BackupRequest {
            name: name(backup),
            scope,
            ttl: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            schedule: None,
            lock_until: None,
            velero_namespace: "velero".into(),
            storage_location: "default".into(),
            tool_version: "test".into(),
            lists_in_flight: 4,
            volumes: None,
            velero_spec: serde_json::Map::new(),
        };
        let (bucket, kubeconfig) = (Arc::clone(&self.bucket), cluster.kubeconfig().to_owned());
        runtime::run(async move {
            let api = client(kubeconfig).await?;
            let (progress, cancel) = (Arc::default(), CancellationToken::new());
            let summary = backup::create(&api, bucket, &request, &progress, &cancel).await?;
            anyhow::ensure!(summary.phase == Phase::Completed, "{:?}", summary.errors);
            Ok(())
        })
    }

    /// Restores, or gives the restore's own error.
    pub(crate) fn try_restore(
        &self,
        cluster: &Cluster,
        backup: &str,
        request: RestoreRequest,
        cancel: CancellationToken,
    ) -> Result<Result<RestoreSummary, RestoreError>> {
        let (bucket, kubeconfig) = (Arc::clone(&self.bucket), cluster.kubeconfig().to_owned());
        let backup = name(backup);
        runtime::run(async move {
            let api = client(kubeconfig).await?;
            let open = catalog::open(&bucket, &backup).await?;
            let progress: Arc<Progress> = Arc::default();
            Ok(restore::run(&api, &bucket, &open, &request, &progress, &cancel).await)
        })
    }

    pub(crate) fn restore(
        &self,
        cluster: &Cluster,
        backup: &str,
        request: RestoreRequest,
    ) -> Result<RestoreSummary> {
        Ok(self.try_restore(cluster, backup, request, CancellationToken::new())??)
    }

    /// Plans a restore.
    pub(crate) fn plan(
        &self,
        cluster: &Cluster,
        backup: &str,
        request: RestoreRequest,
    ) -> Result<RestorePlan> {
        let (bucket, kubeconfig) = (Arc::clone(&self.bucket), cluster.kubeconfig().to_owned());
        let backup = name(backup);
        runtime::run(async move {
            let api = client(kubeconfig).await?;
            let open = catalog::open(&bucket, &backup).await?;
            let (progress, cancel) = (Arc::default(), CancellationToken::new());
            Ok(restore::plan(&api, &open, &request, Secrets::Masked, &progress, &cancel).await?)
        })
    }

    /// The names of all files of the location.
    pub(crate) fn keys(&self) -> Result<Vec<String>> {
        let bucket = Arc::clone(&self.bucket);
        runtime::run(async move {
            let files = bucket.list_all("").await?;
            Ok(files.into_iter().map(|file| file.key).collect())
        })
    }

    pub(crate) fn stored(&self, key: &str) -> Result<Vec<u8>> {
        let (bucket, key) = (Arc::clone(&self.bucket), key.to_owned());
        runtime::run(async move {
            let (bytes, _) = bucket.get(&key, 1 << 30).await?.context(key)?;
            Ok(bytes.to_vec())
        })
    }
}

/// All objects of a plan.
pub(crate) fn objects(plan: &RestorePlan) -> Result<Vec<PlannedObject>> {
    Ok(plan.objects()?.collect::<std::io::Result<_>>()?)
}

/// The object of this kind and name.
pub(crate) fn planned<'p>(
    objects: &'p [PlannedObject],
    resource: &str,
    name: &str,
) -> Result<&'p PlannedObject> {
    let found = objects
        .iter()
        .find(|object| object.resource == resource && object.name == name);
    found.with_context(|| format!("{resource} {name} is not in the plan: {objects:#?}"))
}

pub(crate) fn request(restore: &str) -> RestoreRequest {
    RestoreRequest::new(name(restore))
}

/// Of all objects, only the one of this kind and name.
pub(crate) fn only(restore: &str, resource: &str, name: &str) -> RestoreRequest {
    RestoreRequest {
        only: vec![ObjectRef {
            resource: resource.into(),
            namespace: None,
            name: name.into(),
        }],
        ..request(restore)
    }
}

#[track_caller]
pub(crate) fn assert_completed(summary: &RestoreSummary) {
    assert_eq!(
        (&summary.record.phase, summary.record.errors),
        (&Phase::Completed, 0),
        "{:?}",
        summary.failures
    );
}

pub(crate) fn delete_namespace(cluster: &Cluster, namespace: &str) -> Result<()> {
    let path = format!("/api/v1/namespaces/{namespace}");
    cluster.delete(&path)?;
    cluster.wait_until_gone(&path)
}

pub(crate) fn config_map(namespace: &Namespace, name: &str, value: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": namespace.name() },
        "data": { "a": value } })
}

pub(crate) fn path(namespace: &str, resource: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/{resource}/{name}")
}

pub(crate) fn object(cluster: &Cluster, path: &str) -> Result<Value> {
    cluster.get(path)?.with_context(|| format!("{path} is not there"))
}

pub(crate) fn uid(object: &Value) -> Value {
    object["metadata"]["uid"].clone()
}
