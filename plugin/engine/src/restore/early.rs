//! ReplicaSets whose Deployment is still to be made come before it.
//!
//! A Deployment that finds no ReplicaSet of its own makes one at once, named after a hash of the pod template as its
//! version of Kubernetes knows it. Where the backup comes from the same version that is the name that the backup holds, and
//! nobody notices. From any other version the Deployment gets a second ReplicaSet for the same template, and rolls out once
//! more. So they are made first, without an owner: the controller adopts them, as it does with Velero's, and their reference
//! is written at the end like all whose owner comes later. Where the Deployment is in the cluster they keep their place
//! behind it, since recreating a Deployment deletes what it owns.

use std::sync::{Arc, PoisonError};

use backup_plan::restore::transform::owners_of;
use serde_json::Value;
use velero_model::{index::Entry, resource::ApiKind};

use super::{
    RestoreError,
    apply::{self, Refusal},
    owners::State,
    run::Run,
    window::{Item, Window, read_ahead},
};
use crate::api::object_path;

const DEPLOYMENTS: &str = "deployments.apps";
const REPLICA_SETS: &str = "replicasets.apps";

/// Makes them, if the kinds of the step that comes next hold Deployments. A plan has one place for a kind, and makes nothing.
pub(super) async fn replica_sets(run: &Arc<Run>, kinds: &[String]) -> Result<(), RestoreError> {
    let is_wanted = run.plan.is_none()
        && kinds.iter().any(|kind| kind == DEPLOYMENTS)
        && run.selection.kinds.contains_key(REPLICA_SETS);
    if !is_wanted {
        return Ok(());
    }
    run.check_interrupted()?;
    let (mut items, reading) = read_ahead(run, vec![REPLICA_SETS.to_owned()]);
    let mut window = Window::new(run);
    while let Some(item) = items.recv().await {
        if !window.start(|run| make(run, item)).await {
            break;
        }
    }
    drop(items);
    window.finish().await?;
    match reading
        .await
        .map_err(|error| RestoreError::Task(error.to_string()))?
    {
        Err(error) if !error.is_damage() => return Err(error.into()),
        // Damage is told where the kind has its place.
        _ => {}
    }
    run.check_interrupted()
}

/// Whether an object was made before its place.
pub(super) fn is_made(run: &Run, entry: &Entry) -> bool {
    entry.resource_group == REPLICA_SETS && {
        let early = run.early.lock().unwrap_or_else(PoisonError::into_inner);
        early.contains(&key(entry))
    }
}

/// How many objects of a kind were made before their place.
pub(super) fn count(run: &Run, resource_group: &str) -> u64 {
    if resource_group != REPLICA_SETS {
        return 0;
    }
    let early = run.early.lock().unwrap_or_else(PoisonError::into_inner);
    early.len() as u64
}

fn key(entry: &Entry) -> (String, String) {
    (entry.namespace.clone().unwrap_or_default(), entry.name.clone())
}

async fn make(run: Arc<Run>, item: Item) -> Result<(), RestoreError> {
    let Some(chosen) = run.selection.kinds.get(&item.entry.resource_group) else {
        return Ok(());
    };
    let object: Option<Value> = item
        .json
        .as_ref()
        .ok()
        .and_then(|json| serde_json::from_slice(json).ok());
    let is_new = match object {
        Some(object) => deployment_is_to_be_made(&run, &chosen.kind, &item.entry, &object).await,
        None => Ok(false),
    };
    match is_new {
        Ok(true) => {}
        // Who may not read it finds out what that means where the kind has its place.
        Ok(false) | Err(Refusal::Object(_)) => return Ok(()),
        Err(Refusal::Run(error)) => return Err(error),
    }
    {
        let mut early = run.early.lock().unwrap_or_else(PoisonError::into_inner);
        early.insert(key(&item.entry));
    }
    apply::entry(&run, &chosen.kind, &item.entry, item.json).await
}

async fn deployment_is_to_be_made(
    run: &Run,
    kind: &ApiKind,
    entry: &Entry,
    object: &Value,
) -> Result<bool, Refusal> {
    let owners = owners_of(object);
    let Some(owner) = owners.iter().find(|owner| {
        owner.controller == Some(true)
            && owner.kind == "Deployment"
            && run.selection.owners.state(&owner.uid) == State::Expected
    }) else {
        return Ok(false);
    };
    let served = run.served();
    let Some(deployments) = served.by_reference(&owner.api_version, &owner.kind) else {
        return Ok(false);
    };
    let namespace = run.subject(kind, entry).namespace;
    let path = object_path(deployments, namespace.as_deref(), &owner.name);
    Ok(run.get(&path).await?.is_none())
}
