//! What most cases begin with: a namespace with a handful of objects, a store, and the plugin for both.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use backup_tests::cluster::{Cluster, Namespace, base64};
use backup_tests::plugin::Plugin;
use backup_tests::store::Store;
use serde_json::{Value, json};

/// Value of the Secret that every site has.
pub(crate) const PASSWORD: &str = "correct-horse-battery";

pub(crate) struct Site {
    pub(crate) cluster: &'static Cluster,
    pub(crate) namespace: Namespace,
    pub(crate) store: Store,
    pub(crate) plugin: Plugin,
}

impl Site {
    /// Three ConfigMaps, a Secret and a Service in a new namespace.
    pub(crate) fn on(store: Store) -> Result<Self> {
        let cluster = Cluster::shared()?;
        let namespace = cluster.namespace()?;
        // The namespace's own ConfigMap and ServiceAccount come a moment later.
        cluster.wait_until("the namespace to be furnished", |cluster| {
            let path = |rest| format!("/api/v1/namespaces/{namespace}/{rest}");
            let root = cluster.get(&path("configmaps/kube-root-ca.crt"))?;
            Ok(root.is_some() && cluster.get(&path("serviceaccounts/default"))?.is_some())
        })?;
        for (name, app) in [("prices", "web"), ("banner", "web"), ("settings", "db")] {
            cluster.create(config_map(namespace.name(), name, app))?;
        }
        cluster.create(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": { "name": "login", "namespace": namespace.name(), "labels": { "app": "web" } },
            "data": { "password": base64(PASSWORD.as_bytes()) }
        }))?;
        cluster.create(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "web", "namespace": namespace.name() },
            "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] }
        }))?;
        let plugin = Plugin::new(cluster, &store)?;
        Ok(Self {
            cluster,
            namespace,
            store,
            plugin,
        })
    }

    /// As [`Site::on`], backed up under `name`.
    pub(crate) fn with_backup(store: Store, name: &str) -> Result<Self> {
        let site = Self::on(store)?;
        site.back_up(name)?;
        Ok(site)
    }

    pub(crate) fn back_up(&self, name: &str) -> Result<()> {
        // Events come and go by themselves.
        let words = [
            "create",
            name,
            "-n",
            self.namespace.name(),
            "--exclude-resources",
            "events",
        ];
        self.plugin.run(words)?.ok();
        Ok(())
    }

    /// Where a file of a backup lies.
    pub(crate) fn file(&self, backup: &str, file: &str) -> PathBuf {
        self.store.path().join("backups").join(backup).join(file)
    }
}

/// A folder and a bucket.
pub(crate) fn stores() -> Result<[Store; 2]> {
    Ok([Store::folder()?, Store::shared_versitygw()?])
}

pub(crate) fn config_map(namespace: &str, name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": namespace, "labels": { "app": app } }, "data": { "of": app }
    })
}

/// The last words of `-o name` lines, in their order.
pub(crate) fn names(stdout: &str) -> Vec<&str> {
    let name = |line: &'_ str| line.rsplit_once('/').map_or(0, |(kind, _)| kind.len() + 1);
    stdout.lines().map(|line| &line[name(line)..]).collect()
}

/// A field of every item of a list document.
pub(crate) fn fields<'d>(document: &'d Value, field: &str) -> Vec<&'d str> {
    let items = document["items"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    items.iter().filter_map(|item| item[field].as_str()).collect()
}

/// Changes a JSON file in the store.
pub(crate) fn edit(file: &Path, change: impl FnOnce(&mut Value)) -> Result<()> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    let mut document = serde_json::from_slice(&bytes)?;
    change(&mut document);
    Ok(fs::write(file, document.to_string())?)
}

/// A claim of a run whose last sign of life was at this time.
pub(crate) fn claim(heartbeat: &str) -> String {
    json!({
        "version": 1, "runId": "2f1c0b5e-0000-4000-8000-000000000000", "host": "elsewhere", "toolVersion": "0.1.0",
        "started": heartbeat, "heartbeat": heartbeat
    })
    .to_string()
}

/// All files of one backup by name, from a folder or the folder behind a bucket.
pub(crate) fn files(store: &Store, backup: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let prefix = format!("backups/{backup}/");
    let keys = store.keys()?.into_iter().filter(|key| key.starts_with(&prefix));
    keys.map(|key| {
        let bytes = fs::read(store.path().join(&key)).with_context(|| key.clone())?;
        Ok((key, bytes))
    })
    .collect()
}
