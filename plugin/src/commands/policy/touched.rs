//! The pods that policies touch, one small record a pod.

use std::collections::BTreeMap;

use backup_engine::{
    api::ApiClient,
    volumes::{self, PodHead, Within},
};
use backup_plan::volumes::{Chooser, Decision, Drift, Excluder, PolicyCounts, Tally, Workload};
use serde::Serialize;

use super::{Known, is_live};
use crate::{exit::Failure, session::Session};

/// A pod of which a policy matches a volume.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Touched {
    pub(super) namespace: String,
    #[serde(rename = "pod")]
    pub(super) name: String,
    pub(super) workload: String,
    /// Volumes that the policies in question match.
    pub(super) volumes: Vec<String>,
    /// What its annotation says now.
    pub(super) annotation: Option<String>,
    /// What it would say if the pod were made today; none when that is the same.
    pub(super) would_be: Option<String>,
    /// The volumes that it lacks.
    pub(super) lacks: Vec<String>,
    /// Volumes that it lists and no rule gives any more.
    pub(super) no_longer_chosen: Vec<String>,
    #[serde(skip)]
    pub(super) head: PodHead,
    #[serde(skip)]
    pub(super) drift: Option<Drift>,
}

/// What was found.
pub(super) struct Found {
    pub(super) pods: Vec<Touched>,
    /// Counts of each policy over the pods that run.
    pub(super) counts: BTreeMap<String, PolicyCounts>,
}

/// Looks at all pods that are there for good. A pod counts as lagging behind when one of the named policies chooses a
/// volume that its list lacks.
pub(super) async fn find(
    session: &Session,
    api: &ApiClient,
    known: &Known,
    within: &Within,
    names: &[String],
) -> Result<Found, Failure> {
    session.progress.set_step("reading pods");
    let mut pods = Vec::new();
    let mut tally = Tally::new(&known.rules);
    let reading = volumes::pods(api, within, |raw| {
        known.decide(raw, |decision| {
            if !is_live(raw, decision.pod) {
                return;
            }
            if decision.pod.is_running() {
                tally.add(decision);
            }
            pods.extend(touched(raw, decision, names));
        });
    });
    session.unless_interrupted(reading).await?;
    let counts = known.rules.policies().iter().filter_map(|policy| {
        let counts = tally.of(policy.name())?;
        Some((policy.name().to_owned(), counts))
    });
    Ok(Found {
        counts: counts.collect(),
        pods,
    })
}

fn touched(raw: &[u8], decision: &Decision<'_>, names: &[String]) -> Option<Touched> {
    let is_named = |policy: &str| names.iter().any(|name| name == policy);
    let volumes: Vec<String> = decision
        .volumes
        .iter()
        .filter(|volume| {
            let included = volume
                .included_by
                .iter()
                .any(|by| matches!(by, Chooser::Policy(policy) if is_named(policy.name())));
            let excluded = volume
                .excluded_by
                .iter()
                .any(|by| matches!(by, Excluder::Policy(policy) if is_named(policy.name())));
            included || excluded
        })
        .map(|volume| volume.volume.name.to_string())
        .collect();
    if volumes.is_empty() {
        return None;
    }
    let pod = decision.pod;
    let drift = decision
        .drift()
        .filter(|_| names.iter().any(|name| decision.adds_by(name)));
    Some(Touched {
        namespace: pod.namespace.to_string(),
        name: pod.name.to_string(),
        workload: Workload::of(pod).to_string(),
        volumes,
        annotation: pod.backup_volumes.as_deref().map(str::to_owned),
        would_be: drift.as_ref().map(|drift| drift.annotation.clone()),
        lacks: drift
            .as_ref()
            .map(|drift| drift.added.clone())
            .unwrap_or_default(),
        no_longer_chosen: decision.no_longer_chosen(),
        head: PodHead::parse(raw).unwrap_or_default(),
        drift,
    })
}
