//! What the leader keeps in order: accepted choices mirrored onto clusters, the finalizer, conditions, labels.
//!
//! [`step`] is pure: what is seen in, writes out. Here the writes are done, each bound to the state it was decided from,
//! so that nothing is written over a change that was not seen, by one leader or two. What is watched says where to look;
//! what is written is decided from what the API server says then.

mod condition;
pub mod policy_status;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backup_plan::disposition::Kind;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use velero_model::api::{ACCEPTED, HOLDS_CLUSTERS, StorageDisposition};

pub use step::{Observed, Write, step};

use crate::decide::Context;
use crate::decide::world::World;
use crate::lease::Leadership;
use crate::observe::clusters::served;

/// An annotation is mirrored within this, and an expiry seen.
const EVERY: Duration = Duration::from_millis(250);
/// After a failure.
const PAUSE: Duration = Duration::from_secs(2);

/// Reconciles while this replica leads; never ends.
pub async fn run(context: Context, mut leadership: Leadership) {
    loop {
        leadership.leads().await;
        let pause = match round(&context, &leadership).await {
            Ok(()) => EVERY,
            Err(error) => {
                tracing::warn!(%error, "decisions could not be kept in order; trying again");
                PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    /// Nothing was decided.
    #[error("clusters and decisions of namespace {namespace} could not be read: {why}")]
    Read {
        /// Which.
        namespace: String,
        /// Why.
        why: String,
    },
    /// A write did not happen.
    #[error("{what}: {source}")]
    Write {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: kube::Error,
    },
}

async fn round(context: &Context, leadership: &Leadership) -> Result<(), RoundError> {
    let Some(known) = context.cached(None) else {
        return Ok(());
    };
    let settings = &context.gate.settings;
    let labels = labels(context);
    let seen = Observed { known, labels };
    let places: BTreeSet<String> = step(&seen, settings, context.now())
        .iter()
        .map(|write| write.namespace().to_owned())
        .collect();
    let mut failed = None;
    for namespace in places {
        let known = context
            .live(Some(&namespace))
            .await
            .map_err(|why| RoundError::Read {
                namespace: namespace.clone(),
                why,
            })?;
        let label = seen.labels.get_key_value(&namespace);
        let fresh = Observed {
            known,
            labels: label
                .map(|(namespace, label)| (namespace.clone(), label.clone()))
                .into_iter()
                .collect(),
        };
        for write in step(&fresh, settings, context.now()) {
            if !leadership.is_leader() {
                return Ok(());
            }
            if let Err(error) = apply(&context.client, &settings.kinds, &write).await {
                failed = Some(error);
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Namespaces, with our label's value.
fn labels(context: &Context) -> BTreeMap<String, Option<String>> {
    let names = context.snapshot.namespaces.in_namespace("").into_iter();
    names
        .map(|(name, labels)| (name.into_string(), labels.get(HOLDS_CLUSTERS).cloned()))
        .collect()
}

async fn apply(client: &Client, kinds: &[Kind], write: &Write) -> Result<(), RoundError> {
    let what = write.to_string();
    let done = match write {
        Write::Cluster { group, kind, .. } => {
            let known = kinds
                .iter()
                .find(|known| known.group == *group && known.kind == *kind);
            match known {
                Some(known) => cluster(client, known, write).await,
                None => Ok(()),
            }
        }
        Write::Status {
            namespace,
            name,
            resource_version,
            status,
            ..
        } => {
            let api: Api<StorageDisposition> = Api::namespaced(client.clone(), namespace);
            let patch = json!({ "metadata": { "resourceVersion": resource_version }, "status": status });
            let patched = api
                .patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
                .await;
            patched.map(|_| ())
        }
        Write::Label { namespace, value } => {
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &namespaces());
            let patch = json!({ "metadata": { "labels": { HOLDS_CLUSTERS: value } } });
            let patched = api
                .patch_metadata(namespace, &PatchParams::default(), &Patch::Merge(&patch))
                .await;
            patched.map(|_| ())
        }
    };
    match done {
        Ok(()) => {
            tracing::info!(write = what, "written");
            Ok(())
        }
        // Somebody was quicker, or it is gone: the next round sees it.
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(()),
        Err(source) => Err(RoundError::Write { what, source }),
    }
}

async fn cluster(client: &Client, kind: &Kind, write: &Write) -> kube::Result<()> {
    let (Some(resource), Some((name, patch))) = (served(client, kind).await?, merge_patch(write)) else {
        return Ok(());
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), write.namespace(), &resource);
    let kept = api
        .patch_metadata(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    let wanted = patch["metadata"]["annotations"][ACCEPTED].as_str();
    let found = kept
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(ACCEPTED));
    if wanted.is_some() && found.map(String::as_str) != wanted {
        // The guard knows our ServiceAccounts by their namespace.
        tracing::warn!(write = %write, "not kept: the guard does not know us; run in the namespace of --namespace");
    }
    Ok(())
}

/// The name and the JSON merge patch of a write to a cluster, bound to the state that was seen.
fn merge_patch(write: &Write) -> Option<(&str, Value)> {
    let Write::Cluster {
        name,
        uid,
        resource_version,
        accepted,
        finalizers,
        ..
    } = write
    else {
        return None;
    };
    let mut metadata = json!({ "uid": uid, "resourceVersion": resource_version });
    if let Some(accepted) = accepted {
        metadata["annotations"] = json!({ ACCEPTED: accepted });
    }
    if let Some(finalizers) = finalizers {
        metadata["finalizers"] = json!(finalizers);
    }
    Some((name, json!({ "metadata": metadata })))
}

fn namespaces() -> ApiResource {
    ApiResource::erase::<k8s_openapi::api::core::v1::Namespace>(&())
}
