//! What the leader keeps in order: accepted choices mirrored onto clusters, the finalizer, conditions, labels, and the work
//! on the storage of clusters that are going.
//!
//! [`step`] is pure: what is seen in, writes out. Here the writes are done, each bound to the state it was decided from,
//! so that nothing is written over a change that was not seen, by one leader or two. What is watched says where to look;
//! what is written is decided from what the API server says then.

mod condition;
pub mod policy_status;
mod step;
mod work;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use backup_plan::disposition::Kind;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use velero_model::api::{ACCEPTED, HOLDS_CLUSTERS, StorageDisposition};

pub use step::{Observed, Write, step};
pub use work::{JobEnd, JobSeen, OrderSeen, Work};

use crate::decide::Context;
use crate::decide::world::{Known, World};
use crate::lease::Leadership;
use crate::observe::clusters::served;

/// An annotation is mirrored within this, and an expiry seen.
const EVERY: Duration = Duration::from_millis(250);
/// After a failure.
const PAUSE: Duration = Duration::from_secs(2);

/// While a cluster is held or a Job is at work, the work on its storage is looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// While none is, Jobs that nobody needs are looked for this often.
const LOOK_FOR_ORPHANS: Duration = Duration::from_secs(30);

/// Who works on storage.
#[derive(Debug, Clone, Default)]
pub struct Carrier {
    /// Where orders and Jobs lie.
    pub namespace: String,
    /// The image of Jobs; without one nothing is carried out.
    pub image: Option<String>,
    /// The Secret to pull it with.
    pub pull_secret: Option<String>,
}

/// What a leader remembers; it can be lost.
#[derive(Debug, Default)]
struct Memory {
    /// When the work was looked at.
    looked: Option<Instant>,
    /// Whether a Job was at work then.
    is_busy: bool,
    /// Events that were said.
    said: BTreeSet<String>,
}

/// Reconciles while this replica leads; never ends.
pub async fn run(context: Context, carrier: Carrier, mut leadership: Leadership) {
    let mut memory = Memory::default();
    loop {
        leadership.leads().await;
        let pause = match round(&context, &carrier, &mut memory, &leadership).await {
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

async fn round(
    context: &Context,
    carrier: &Carrier,
    memory: &mut Memory,
    leadership: &Leadership,
) -> Result<(), RoundError> {
    let Some(known) = context.cached(None) else {
        return Ok(());
    };
    let settings = &context.gate.settings;
    let held: BTreeSet<String> = known
        .clusters
        .iter()
        .filter(|cluster| cluster.is_dying() && cluster.has_finalizer())
        .map(|cluster| cluster.namespace.clone())
        .collect();
    let work = look(context, carrier, memory, !held.is_empty()).await?;
    if let Some(work) = &work {
        memory.is_busy = work.jobs.values().any(|job| job.end.is_none());
        stop_orphans(context, carrier, work, &known, leadership).await?;
    }
    let seen = Observed {
        known,
        labels: labels(context),
        // Without an image there is nothing to look at, and that is said wherever a cluster is held.
        work: carrier.image.is_none().then(Work::default),
    };
    let mut places: BTreeSet<String> = step(&seen, settings, context.now())
        .iter()
        .map(|write| write.namespace().to_owned())
        .collect();
    if work.is_some() {
        places.extend(held);
    }
    let work = work.or(seen.work);
    let mut failed = None;
    for namespace in places {
        let known = live(context, Some(&namespace)).await?;
        let label = seen.labels.get_key_value(&namespace);
        let fresh = Observed {
            known,
            labels: label
                .map(|(namespace, label)| (namespace.clone(), label.clone()))
                .into_iter()
                .collect(),
            work: work.clone(),
        };
        for write in step(&fresh, settings, context.now()) {
            if !leadership.is_leader() {
                return Ok(());
            }
            let said = match &write {
                Write::Event { name, .. } => Some(name.clone()),
                _ => None,
            };
            if said.as_ref().is_some_and(|name| memory.said.contains(name)) {
                continue;
            }
            match apply(&context.client, carrier, &settings.kinds, &write).await {
                Ok(()) => memory.said.extend(said),
                // An event that cannot be written, in a namespace that goes, holds nothing up.
                Err(error) if said.is_some() => {
                    tracing::warn!(%error, "not said");
                    memory.said.extend(said);
                }
                Err(error) => failed = Some(error),
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The work, if it is time to look.
async fn look(
    context: &Context,
    carrier: &Carrier,
    memory: &mut Memory,
    is_held: bool,
) -> Result<Option<Work>, RoundError> {
    let Some(image) = &carrier.image else {
        return Ok(None);
    };
    let every = if is_held || memory.is_busy {
        LOOK
    } else {
        LOOK_FOR_ORPHANS
    };
    if memory.looked.is_some_and(|looked| looked.elapsed() < every) {
        return Ok(None);
    }
    memory.looked = Some(Instant::now());
    let read = work::read(&context.client, &carrier.namespace, image).await;
    read.map(Some).map_err(|error| RoundError::Read {
        namespace: carrier.namespace.clone(),
        why: error.to_string(),
    })
}

async fn live(context: &Context, namespace: Option<&str>) -> Result<Known, RoundError> {
    context.live(namespace).await.map_err(|why| RoundError::Read {
        namespace: namespace.unwrap_or("any").to_owned(),
        why,
    })
}

/// Jobs of clusters that are not held go; decided from a fresh read of all clusters.
async fn stop_orphans(
    context: &Context,
    carrier: &Carrier,
    work: &Work,
    known: &Known,
    leadership: &Leadership,
) -> Result<(), RoundError> {
    if work::orphans(known, work).is_empty() {
        return Ok(());
    }
    for write in work::orphans(&live(context, None).await?, work) {
        if leadership.is_leader() {
            apply(&context.client, carrier, &context.gate.settings.kinds, &write).await?;
        }
    }
    Ok(())
}

/// Namespaces, with our label's value.
fn labels(context: &Context) -> BTreeMap<String, Option<String>> {
    let names = context.snapshot.namespaces.in_namespace("").into_iter();
    names
        .map(|(name, labels)| (name.into_string(), labels.get(HOLDS_CLUSTERS).cloned()))
        .collect()
}

async fn apply(client: &Client, carrier: &Carrier, kinds: &[Kind], write: &Write) -> Result<(), RoundError> {
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
        Write::Release { .. } | Write::Event { .. } => write::about_cluster(client, kinds, write).await,
        Write::Order { .. } | Write::Record { .. } | Write::Job { .. } | Write::StopJob { .. } => {
            write::of_ours(client, carrier, write).await
        }
    };
    match done {
        Ok(()) => {
            tracing::info!(write = what, "written");
            Ok(())
        }
        // Somebody was quicker, or it is gone: the next round sees it.
        Err(kube::Error::Api(status))
            if status.is_conflict() || status.is_not_found() || status.is_already_exists() =>
        {
            Ok(())
        }
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
