//! Which volumes a backup reads, and through which pod.
//!
//! In come a filter and whether volumes are opted in or out; out go [`Move`]s, one for each claim however many pods use it,
//! and an account of what was asked for and cannot be read, with the reason. What a pod opts in by its annotation counts, as
//! for Velero; unlike for Velero, a claim whose volume is a folder of the node is read too, and so is one whose pod does not
//! run.

use std::collections::BTreeMap;

use backup_plan::{
    hooks::{self, Phase, Read},
    scope::{Filter, KindDecision},
    volumes::{ClaimFacts, NamespaceFacts, PodFacts, Rules, Skip},
};
use serde_json::Value;
use velero_model::{item::Head, outcome::VolumeOutcome};

use super::{Within, kind, look};
use crate::api::{ApiClient, ApiError};

/// Which volumes are meant where nobody says anything about one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptIn {
    /// Those that a pod's annotation lists.
    Listed,
    /// All but those that a pod's annotation keeps out.
    AllButExcluded,
}

/// A volume to be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    /// Namespace of pod and claim.
    pub namespace: String,
    /// The pod that opted it in.
    pub pod: String,
    /// Its UID.
    pub pod_uid: String,
    /// Name of the volume in the pod.
    pub volume: String,
    /// The claim.
    pub claim: String,
    /// Its UID.
    pub claim_uid: String,
    /// Name of its PersistentVolume.
    pub persistent_volume: String,
    /// The node on which the pod runs; empty where it does not.
    pub node: String,
    /// Under which user and groups the pod runs, as a securityContext.
    pub security_context: Value,
}

/// The hooks of a pod that runs.
#[derive(Debug, Clone)]
pub struct PodHooks {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub pod: String,
    /// Before its volumes are read.
    pub pre: Option<Read>,
    /// After that.
    pub post: Option<Read>,
}

/// What a backup does with volumes and around them.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// To be read.
    pub moves: Vec<Move>,
    /// Asked for and not read.
    pub left: Vec<VolumeOutcome>,
    /// Hooks of pods that run.
    pub hooks: Vec<PodHooks>,
}

impl Plan {
    /// Whether there is nothing to do and nothing to say.
    pub fn is_empty(&self) -> bool {
        self.moves.is_empty() && self.left.is_empty() && self.hooks.is_empty()
    }
}

/// Looks at the pods in scope.
///
/// # Errors
/// When pods or claims cannot be read.
pub async fn plan(
    api: &ApiClient,
    filter: &Filter,
    within: &Within,
    opt_in: OptIn,
) -> Result<Plan, ApiError> {
    let takes_claims = !matches!(filter.decide_kind(&kind::claims()), KindDecision::Skip(_));
    let rules = Rules::default();
    let (mut moves, mut left, mut hooks) = (BTreeMap::new(), Vec::new(), Vec::new());
    look::pods(api, within, |raw| {
        let Ok(head) = Head::parse(raw) else {
            return;
        };
        if !filter.decide_object(&kind::pods(), &head).is_take() {
            return;
        }
        let Ok(facts) = PodFacts::parse(raw) else {
            return;
        };
        let namespace = NamespaceFacts {
            name: &facts.namespace,
            labels: None,
        };
        let decision = rules.decide(&facts, namespace, &|_| Some(ClaimFacts::default()));
        let pod: Value = serde_json::from_slice(raw).unwrap_or_default();
        if facts.is_running() {
            hooks.extend(hooks_of(&facts, &pod));
        }
        for volume in decision.volumes.iter().filter(|_| takes_claims) {
            let is_meant = match opt_in {
                OptIn::Listed => volume.is_listed,
                OptIn::AllButExcluded => volume.is_taken_by_default(),
            };
            if !is_meant {
                continue;
            }
            let reason = match (&volume.claim_name, volume.skip) {
                // Velero reads through the node and cannot tell it from any other folder there; a mover mounts the claim.
                (Some(_), None | Some(Skip::HostPathVolume)) => None,
                (_, Some(skip)) => Some((skip.id(), skip.to_string())),
                (None, None) => Some((
                    "no-claim",
                    "it has no claim, so that no other pod can mount it; keep such data in a claim, or use engine velero"
                        .to_owned(),
                )),
            };
            let name = volume.volume.name.to_string();
            let claim = volume.claim_name.as_deref().map(str::to_owned);
            if let (Some(claim), None) = (&claim, &reason) {
                let found = of(&facts, &pod, &name, claim);
                let key = (found.namespace.clone(), found.claim.clone());
                // The pod that runs is where the volume is.
                let is_better = |before: &Move| before.node.is_empty() && !found.node.is_empty();
                if moves.get(&key).is_none_or(is_better) {
                    moves.insert(key, found);
                }
            } else if let Some((rule, reason)) = reason {
                left.push(VolumeOutcome {
                    namespace: facts.namespace.to_string(),
                    pod: Some(facts.name.to_string()),
                    volume: Some(name),
                    claim,
                    rule: rule.to_owned(),
                    snapshot: None,
                    bytes: 0,
                    new_bytes: 0,
                    failed_files: 0,
                    // In opt-out mode nobody has asked for it by name.
                    error: (opt_in == OptIn::Listed).then(|| format!("it is opted in and not read: {reason}")),
                });
            }
        }
    })
    .await?;
    let mut moves: Vec<Move> = moves.into_values().collect();
    if !moves.is_empty() {
        identify(api, within, &mut moves).await?;
    }
    Ok(Plan { moves, left, hooks })
}

fn hooks_of(facts: &PodFacts<'_>, pod: &Value) -> Option<PodHooks> {
    let annotations: BTreeMap<String, String> = pod["metadata"]["annotations"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.contains("hook.backup.velero.io/"))
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    if annotations.is_empty() {
        return None;
    }
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let containers: Vec<String> = containers
        .into_iter()
        .flatten()
        .filter_map(|container| container["name"].as_str().map(str::to_owned))
        .collect();
    let pre = hooks::of_pod(&annotations, &containers, Phase::Pre);
    let post = hooks::of_pod(&annotations, &containers, Phase::Post);
    (pre.is_some() || post.is_some()).then(|| PodHooks {
        namespace: facts.namespace.to_string(),
        pod: facts.name.to_string(),
        pre,
        post,
    })
}

fn of(facts: &PodFacts<'_>, pod: &Value, volume: &str, claim: &str) -> Move {
    let text = |pointer: &str| {
        let found = pod.pointer(pointer).and_then(Value::as_str);
        found.unwrap_or_default().to_owned()
    };
    let mut security_context = pod
        .pointer("/spec/securityContext")
        .cloned()
        .filter(Value::is_object)
        .unwrap_or_else(|| serde_json::json!({}));
    // The container that mounts it may say otherwise than the pod.
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let mounting = containers.into_iter().flatten().find(|container| {
        let mounts = container["volumeMounts"].as_array();
        mounts.into_iter().flatten().any(|mount| mount["name"] == volume)
    });
    for key in ["runAsUser", "runAsGroup"] {
        if let Some(value) = mounting.map(|container| &container["securityContext"][key])
            && !value.is_null()
        {
            security_context[key] = value.clone();
        }
    }
    Move {
        namespace: facts.namespace.to_string(),
        pod: facts.name.to_string(),
        pod_uid: text("/metadata/uid"),
        volume: volume.to_owned(),
        claim: claim.to_owned(),
        claim_uid: String::new(),
        persistent_volume: String::new(),
        node: if facts.is_running() {
            text("/spec/nodeName")
        } else {
            String::new()
        },
        security_context,
    }
}

/// Fills in what the claims say.
async fn identify(api: &ApiClient, within: &Within, moves: &mut [Move]) -> Result<(), ApiError> {
    let mut known = BTreeMap::new();
    for place in within.places() {
        for claim in api.objects(kind::claims(), place, "").await? {
            let text = |pointer: &str| {
                let found = claim.pointer(pointer).and_then(Value::as_str);
                found.unwrap_or_default().to_owned()
            };
            let key = (text("/metadata/namespace"), text("/metadata/name"));
            known.insert(key, (text("/metadata/uid"), text("/spec/volumeName")));
        }
    }
    for found in moves {
        let key = (found.namespace.clone(), found.claim.clone());
        if let Some((uid, volume)) = known.get(&key) {
            found.claim_uid.clone_from(uid);
            found.persistent_volume.clone_from(volume);
        }
    }
    Ok(())
}
