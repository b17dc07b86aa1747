//! Which volumes a backup reads, and through which pod.
//!
//! In come a filter and whether volumes are opted in or out; out go [`Move`]s, one for each claim however many pods use it,
//! and an account of what was asked for and cannot be read, with the reason. What a pod opts in by its annotation counts, as
//! for Velero; unlike for Velero, a claim whose volume is a folder of the node is read too, and so is one whose pod does not
//! run.

use std::collections::BTreeMap;

use backup_plan::{
    hooks::{self, HookedPod, Phase, Read, Spec},
    scope::{Filter, KindDecision},
    volumes::{
        Action, ClaimFacts, NamespaceFacts, PodFacts, ResourcePolicies, Rules, Skip, VolumeDecision,
        VolumeView,
    },
};
use serde_json::Value;
use velero_model::{item::Head, outcome::VolumeOutcome};

use super::{Within, kind, look};
use crate::{
    api::{ApiClient, ApiError},
    mover::crew::is_restricted,
};

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

impl Move {
    /// An entry for an account, without anything done.
    pub(crate) fn outcome(&self, rule: &str) -> VolumeOutcome {
        VolumeOutcome {
            namespace: self.namespace.clone(),
            pod: Some(self.pod.clone()),
            volume: Some(self.volume.clone()),
            claim: Some(self.claim.clone()),
            rule: rule.to_owned(),
            ..VolumeOutcome::default()
        }
    }
}

/// The hooks of a pod that runs.
#[derive(Debug, Clone)]
pub struct PodHooks {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub pod: String,
    /// Before its volumes are read.
    pub pre: Vec<Read>,
    /// After that.
    pub post: Vec<Read>,
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
    /// What somebody should know beforehand.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Whether there is nothing to do and nothing to say.
    pub fn is_empty(&self) -> bool {
        self.moves.is_empty() && self.left.is_empty() && self.hooks.is_empty()
    }

    /// Reads none of the volumes, for a reason that concerns them all.
    pub fn leave_all(&mut self, rule: &str, reason: &str) {
        let moves = std::mem::take(&mut self.moves);
        self.left.extend(moves.into_iter().map(|found| VolumeOutcome {
            error: Some(format!("it is opted in and not read: {reason}")),
            ..found.outcome(rule)
        }));
    }
}

/// What a backup wants of volumes.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// Which volumes are meant where no policy says anything.
    pub opt_in: OptIn,
    /// `spec.hooks`, beside what pods say themselves.
    pub hooks: Option<&'a Spec>,
    /// Velero's resource policies, which come before what pods say.
    pub policies: Option<&'a ResourcePolicies>,
}

/// Looks at the pods in scope.
///
/// # Errors
/// When pods or claims cannot be read.
pub async fn plan(
    api: &ApiClient,
    filter: &Filter,
    within: &Within,
    wish: Wish<'_>,
) -> Result<Plan, ApiError> {
    let takes_claims = !matches!(filter.decide_kind(&kind::claims()), KindDecision::Skip(_));
    let surroundings = match wish.policies {
        Some(_) => Surroundings::look(api, within).await?,
        None => Surroundings::default(),
    };
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
        let has_hooks = wish.hooks.is_some() || has_hooks_itself(&head);
        let may_be_meant = takes_claims
            && !facts.volumes.is_empty()
            && (wish.policies.is_some() || wish.opt_in != OptIn::Listed || facts.backup_volumes.is_some());
        if !has_hooks && !may_be_meant {
            return;
        }
        let pod: Value = serde_json::from_slice(raw).unwrap_or_default();
        if has_hooks && facts.is_running() {
            hooks.extend(hooks_of(&pod, wish.hooks));
        }
        if !may_be_meant {
            return;
        }
        let namespace = NamespaceFacts {
            name: &facts.namespace,
            labels: None,
        };
        let decision = rules.decide(&facts, namespace, &|_| Some(ClaimFacts::default()));
        for volume in &decision.volumes {
            match verdict(volume, wish, &surroundings.view(&facts, &pod, volume)) {
                Verdict::NotMeant => {}
                Verdict::Left { rule, error } => left.push(VolumeOutcome {
                    namespace: facts.namespace.to_string(),
                    pod: Some(facts.name.to_string()),
                    volume: Some(volume.volume.name.to_string()),
                    claim: volume.claim_name.as_deref().map(str::to_owned),
                    rule: rule.to_owned(),
                    error,
                    ..VolumeOutcome::default()
                }),
                Verdict::Read(claim) => {
                    let found = of(&facts, &pod, &volume.volume.name, claim);
                    let key = (found.namespace.clone(), found.claim.clone());
                    // The pod that runs is where the volume is.
                    let is_better = |before: &Move| before.node.is_empty() && !found.node.is_empty();
                    if moves.get(&key).is_none_or(is_better) {
                        moves.insert(key, found);
                    }
                }
            }
        }
    })
    .await?;
    let mut moves: Vec<Move> = moves.into_values().collect();
    if !moves.is_empty() {
        identify(api, within, &mut moves).await?;
    }
    let warnings = what_pod_security_forbids(api, &moves).await;
    Ok(Plan {
        moves,
        left,
        hooks,
        warnings,
    })
}

/// What becomes of a volume.
enum Verdict<'a> {
    /// Nobody asks for it.
    NotMeant,
    /// It is asked for, or a policy speaks about it, and it is not read.
    Left {
        rule: &'static str,
        error: Option<String>,
    },
    /// The data of this claim is read.
    Read(&'a str),
}

fn verdict<'a>(volume: &'a VolumeDecision<'_>, wish: Wish<'_>, view: &VolumeView<'_>) -> Verdict<'a> {
    let has_no_data = matches!(
        volume.skip,
        Some(Skip::Secret | Skip::ConfigMap | Skip::Projected | Skip::DownwardApi | Skip::DefaultToken)
    );
    let policies = wish.policies.filter(|_| !has_no_data);
    let is_meant = match policies.and_then(|policies| policies.action(view)) {
        Some(Action::Skip) => {
            return Verdict::Left {
                rule: "volume-policy",
                error: None,
            };
        }
        // A rule for everything speaks of scratch space too, of which there are no snapshots.
        Some(Action::Other) if volume.claim_name.is_none() && !volume.is_listed => return Verdict::NotMeant,
        Some(Action::Other) => {
            return Verdict::Left {
                rule: "volume-policy",
                error: Some(
                    "a policy wants a snapshot of it, which engine direct does not take; give it the action fs-backup, or use \
                     --engine velero"
                        .to_owned(),
                ),
            };
        }
        Some(Action::FsBackup) => true,
        None => match wish.opt_in {
            OptIn::Listed => volume.is_listed,
            OptIn::AllButExcluded => volume.is_taken_by_default(),
        },
    };
    if !is_meant {
        return Verdict::NotMeant;
    }
    let (rule, reason) = match (&volume.claim_name, volume.skip) {
        // Velero reads through the node and cannot tell it from any other folder there; a mover mounts the claim.
        (Some(claim), None | Some(Skip::HostPathVolume)) => return Verdict::Read(claim),
        (_, Some(skip)) => (skip.id(), skip.to_string()),
        (None, None) => (
            "no-claim",
            "it has no claim, so that no other pod can mount it; keep such data in a claim, or use engine velero".to_owned(),
        ),
    };
    Verdict::Left {
        rule,
        // Where nobody has asked for it by name there is nothing wrong.
        error: volume
            .is_listed
            .then(|| format!("it is opted in and not read: {reason}")),
    }
}

/// Claims and their volumes, for policies that ask about them.
#[derive(Debug, Default)]
struct Surroundings {
    claims: BTreeMap<(String, String), Value>,
    persistent_volumes: BTreeMap<String, Value>,
}

impl Surroundings {
    async fn look(api: &ApiClient, within: &Within) -> Result<Self, ApiError> {
        let text = |object: &Value, pointer: &str| {
            let found = object.pointer(pointer).and_then(Value::as_str);
            found.unwrap_or_default().to_owned()
        };
        let mut claims = BTreeMap::new();
        for place in within.places() {
            for claim in api.objects(kind::claims(), place, "").await? {
                let key = (
                    text(&claim, "/metadata/namespace"),
                    text(&claim, "/metadata/name"),
                );
                claims.insert(key, claim);
            }
        }
        let volumes = api.objects(kind::volumes(), None, "").await?;
        Ok(Self {
            claims,
            persistent_volumes: volumes
                .into_iter()
                .map(|volume| (text(&volume, "/metadata/name"), volume))
                .collect(),
        })
    }

    fn view<'a>(
        &'a self,
        facts: &PodFacts<'_>,
        pod: &'a Value,
        volume: &VolumeDecision<'_>,
    ) -> VolumeView<'a> {
        let claim = volume
            .claim_name
            .as_deref()
            .and_then(|name| self.claims.get(&(facts.namespace.to_string(), name.to_owned())));
        let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
        VolumeView {
            of_pod: volumes
                .into_iter()
                .flatten()
                .find(|one| one["name"] == *volume.volume.name),
            claim,
            persistent_volume: claim
                .and_then(|claim| claim.pointer("/spec/volumeName")?.as_str())
                .and_then(|name| self.persistent_volumes.get(name)),
        }
    }
}

/// Where root is forbidden a mover is the application's user; who that is must be known.
async fn what_pod_security_forbids(api: &ApiClient, moves: &[Move]) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut restricted = BTreeMap::new();
    for found in moves
        .iter()
        .filter(|found| found.security_context["runAsUser"].is_null())
    {
        let is_restricted = match restricted.get(&found.namespace) {
            Some(known) => *known,
            None => {
                let known = is_restricted(api, &found.namespace).await;
                restricted.insert(found.namespace.clone(), known);
                known
            }
        };
        if is_restricted {
            warnings.push(format!(
                "claim {}/{}: Pod Security forbids root there, and pod {} names no runAsUser: its mover runs as the user of our \
                 image and reads what that may read",
                found.namespace, found.claim, found.pod
            ));
        }
    }
    warnings
}

/// Whether a pod's annotations may be about hooks.
fn has_hooks_itself(head: &Head<'_>) -> bool {
    let annotations = head.metadata.annotations;
    annotations.is_some_and(|annotations| annotations.get().contains("hook.backup.velero.io/"))
}

fn hooks_of(pod: &Value, spec: Option<&Spec>) -> Option<PodHooks> {
    let pod = HookedPod::read(pod);
    let pre = hooks::of_backup(&pod, spec, Phase::Pre);
    let post = hooks::of_backup(&pod, spec, Phase::Post);
    (!pre.is_empty() || !post.is_empty()).then_some(PodHooks {
        namespace: pod.namespace,
        pod: pod.name,
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
