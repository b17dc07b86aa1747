//! The status of policies: how many running pods and volumes each of them matches, and where it is contradicted.
//!
//! The pods are read in pages and counted as they come, nothing of them is kept: memory holds one page, however large the
//! cluster is. A round follows a change of a policy within seconds, else every half minute, and never takes more than a
//! twentieth of the time. Only what differs from the status that is there is written, with the resource version that was
//! read: of two replicas that lead for a moment one is refused and looks again.

use std::time::{Duration, Instant};

use backup_plan::volumes::{
    ClaimFacts, Decision, NamespaceFacts, PodFacts, Policy, PolicyCounts, PolicyProblem, Rules, Tally,
};
use futures::AsyncReadExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;
use velero_model::api::{VolumeBackupPolicy, VolumeBackupPolicyStatus};

use crate::clock;
use crate::lease::Leadership;
use crate::observe::Snapshot;

/// How soon a change of a policy is followed.
const SOON: Duration = Duration::from_secs(3);
/// How often pods are counted anew.
const EVERY: Duration = Duration::from_secs(30);
/// The part of the time that rounds may take.
const SHARE: u32 = 20;
/// Pods of one page.
const PAGE: u32 = 200;

/// Writes statuses while it leads, until `stop`.
pub async fn keep(
    client: Client,
    snapshot: std::sync::Arc<Snapshot>,
    mut leadership: Leadership,
    stop: CancellationToken,
) {
    let mut next = Instant::now();
    let mut seen = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = leadership.leads() => {}
        }
        let revision = snapshot.policies.revision();
        if seen != Some(revision) || Instant::now() >= next {
            let began = Instant::now();
            match round(&client, &snapshot, &leadership).await {
                Ok(()) => seen = Some(revision),
                Err(error) => tracing::warn!(%error, "statuses of policies were not written"),
            }
            next = Instant::now() + EVERY.max(began.elapsed() * SHARE);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SOON) => {}
        }
    }
}

/// Counts once and writes what has changed.
pub async fn round(client: &Client, snapshot: &Snapshot, leadership: &Leadership) -> Result<(), kube::Error> {
    let api: Api<VolumeBackupPolicy> = Api::all(client.clone());
    let policies = match api.list(&ListParams::default()).await {
        Ok(list) => list.items,
        // Our CRD is not installed.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        Err(error) => return Err(error),
    };
    if policies.is_empty() {
        return Ok(());
    }
    let compiled: Vec<_> = policies.iter().map(Policy::compile).collect();
    let rules = Rules::new(
        compiled.iter().flatten().cloned().collect(),
        snapshot.rules.exempt_namespaces(),
    );
    let mut tally = Tally::new(&rules);
    if !rules.policies().is_empty() {
        count(client, snapshot, &rules, &mut tally).await?;
    }
    for (policy, compiled) in policies.iter().zip(&compiled) {
        let name = policy.metadata.name.as_deref().unwrap_or_default();
        let status = status(
            policy,
            compiled.as_ref().err(),
            tally.of(name).unwrap_or_default(),
        );
        if policy.status.as_ref() == Some(&status) {
            continue;
        }
        if !leadership.is_leader() {
            return Ok(());
        }
        write(&api, policy, name, &status).await?;
    }
    Ok(())
}

async fn write(
    api: &Api<VolumeBackupPolicy>,
    policy: &VolumeBackupPolicy,
    name: &str,
    status: &VolumeBackupPolicyStatus,
) -> Result<(), kube::Error> {
    let patch =
        json!({ "metadata": { "resourceVersion": policy.metadata.resource_version }, "status": status });
    match api
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
    {
        Ok(_) => Ok(()),
        // Changed or gone meanwhile: the next round sees it.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: PageMetadata,
    #[serde(borrow, default)]
    items: Vec<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    #[serde(default, rename = "continue")]
    token: Option<String>,
}

async fn count(
    client: &Client,
    snapshot: &Snapshot,
    rules: &Rules,
    tally: &mut Tally<'_>,
) -> Result<(), kube::Error> {
    let mut parameters = ListParams::default().fields("status.phase=Running").limit(PAGE);
    loop {
        let request = kube::core::Request::new("/api/v1/pods").list(&parameters);
        let request = request.map_err(kube::Error::BuildRequest)?;
        let mut stream = std::pin::pin!(client.request_stream(request).await?);
        let mut body = Vec::new();
        stream
            .read_to_end(&mut body)
            .await
            .map_err(kube::Error::ReadEvents)?;
        let page: Page<'_> = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
        for item in page.items {
            // A pod that cannot be read counts for nobody; the rest does.
            if let Ok(pod) = PodFacts::parse(item.get().as_bytes()) {
                decide(snapshot, rules, &pod, |decision| tally.add(decision));
            }
        }
        match page.metadata.token.filter(|token| !token.is_empty()) {
            Some(token) => parameters.continue_token = Some(token),
            None => return Ok(()),
        }
    }
}

fn decide(snapshot: &Snapshot, rules: &Rules, pod: &PodFacts<'_>, see: impl FnOnce(&Decision<'_>)) {
    let labels = snapshot.namespaces.get("", &pod.namespace);
    let namespace = NamespaceFacts {
        name: &pod.namespace,
        labels: labels.as_deref(),
    };
    let claims = snapshot.claims_of(pod, &pod.namespace);
    let facts = |name: &str| -> Option<ClaimFacts<'_>> { claims.facts(name) };
    see(&rules.decide(pod, namespace, &facts));
}

/// The status that a policy should have; times of conditions that have not changed are kept.
fn status(
    policy: &VolumeBackupPolicy,
    problem: Option<&PolicyProblem>,
    counts: PolicyCounts,
) -> VolumeBackupPolicyStatus {
    let known = policy.status.clone().unwrap_or_default().conditions;
    let generation = policy.metadata.generation;
    let condition = |kind: &str, is_true: bool, reason: &str, message: String| {
        let word = if is_true { "True" } else { "False" };
        let since = known
            .iter()
            .find(|known| known.type_ == kind && known.status == word);
        Condition {
            type_: kind.to_owned(),
            status: word.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: generation,
            last_transition_time: since
                .map_or_else(|| Time(clock::now()), |known| known.last_transition_time.clone()),
        }
    };
    let ready = match problem {
        None => condition("Ready", true, "Valid", String::new()),
        Some(problem) => condition(
            "Ready",
            false,
            "Invalid",
            format!("the policy chooses nothing: {problem}"),
        ),
    };
    let conflicting = match counts.conflicts {
        0 => condition("Conflicting", false, "NoConflict", String::new()),
        _ => condition(
            "Conflicting",
            true,
            "Contradicted",
            "labels, annotations or other policies say the contrary; see: kubectl backup policy explain"
                .to_owned(),
        ),
    };
    let number = |count: u64| i64::try_from(count).ok();
    VolumeBackupPolicyStatus {
        observed_generation: generation,
        pods: number(counts.pods),
        volumes: number(counts.volumes),
        conflicts: number(counts.conflicts),
        conditions: vec![ready, conflicting],
    }
}

#[cfg(test)]
mod tests {
    use velero_model::api::VolumeBackupPolicySpec;

    use super::*;

    #[test]
    fn a_status_changes_only_when_something_has_changed() {
        let mut policy = VolumeBackupPolicy::new("p", VolumeBackupPolicySpec::default());
        policy.metadata.generation = Some(2);
        let counts = PolicyCounts {
            pods: 1,
            volumes: 2,
            conflicts: 0,
        };
        let first = status(&policy, None, counts);
        policy.status = Some(first.clone());
        assert_eq!(status(&policy, None, counts), first);
        let conflict = status(
            &policy,
            None,
            PolicyCounts {
                conflicts: 1,
                ..counts
            },
        );
        assert_eq!(conflict.conditions[0], first.conditions[0]);
        assert_eq!(conflict.conditions[1].status, "True");
        let invalid = status(
            &policy,
            Some(&PolicyProblem::CapacityOrder),
            PolicyCounts::default(),
        );
        assert_eq!(
            (
                invalid.conditions[0].status.as_str(),
                invalid.conditions[0].reason.as_str()
            ),
            ("False", "Invalid")
        );
        assert_eq!(invalid.conditions[0].observed_generation, Some(2));
    }
}
