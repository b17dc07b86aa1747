//! `policy`: the rules that choose volumes, the pods that they touch, and bringing those up to date.
//!
//! In come names of policies and where to look; out go lists, explanations, changed annotations, or the policies as an
//! admission policy. [`Known`] is what all of them, and `volumes explain`, begin with: the facts of the cluster and the
//! policies checked. What could not be read is said, and ends in exit code 3.

mod apply;
mod cel;
mod explain;
mod list;
mod touched;

use std::collections::BTreeMap;

use backup_engine::{
    api::ApiClient,
    volumes::{self, Facts, PodHead, Within},
};
use backup_plan::volumes::{ClaimFacts, Decision, NamespaceFacts, PodFacts, Policy, Rules};

use crate::{
    exit::{Exit, Failure},
    request::{PolicyWork, PolicyWorkKind},
    session::Session,
    view,
};

pub(crate) use self::list::run as list;

/// The namespace of our own parts in the cluster.
const OWN_NAMESPACE: &str = "kubectl-backup";

pub(crate) async fn run(session: &Session, work: PolicyWork) -> Result<Exit, Failure> {
    let api = session.api().await?;
    match work.kind {
        PolicyWorkKind::Explain => explain::run(session, &api, &work).await,
        PolicyWorkKind::Render(version) => cel::run(session, &api, &work, version).await,
        PolicyWorkKind::Apply(dry_run) => apply::run(session, &api, &work, dry_run).await,
    }
}

/// The facts of the cluster, and its policies checked.
pub(super) struct Known {
    pub(super) facts: Facts,
    pub(super) rules: Rules,
    /// Policies that choose nothing, because they mean nothing, and why.
    pub(super) invalid: BTreeMap<String, String>,
}

impl Known {
    pub(super) async fn look(session: &Session, api: &ApiClient, within: &Within) -> Result<Self, Failure> {
        session
            .progress
            .set_step("reading policies, namespaces and claims");
        let facts = session.unless_interrupted(volumes::look(api, within)).await?;
        let mut invalid = BTreeMap::new();
        let mut policies = Vec::new();
        for policy in &facts.policies {
            match Policy::compile(policy) {
                Ok(compiled) => policies.push(compiled),
                Err(problem) => {
                    let name = policy.metadata.name.clone().unwrap_or_default();
                    invalid.insert(name, problem.to_string());
                }
            }
        }
        Ok(Self {
            rules: Rules::new(policies, exempt_namespaces(session)),
            invalid,
            facts,
        })
    }

    /// Refuses namespaces that are not there.
    pub(super) fn check_namespaces(&self, within: &Within) -> Result<(), Failure> {
        let Within::Namespaces(names) = within else {
            return Ok(());
        };
        if self
            .facts
            .missing
            .iter()
            .any(|missing| missing.what == "namespaces")
        {
            return Ok(());
        }
        match names
            .iter()
            .find(|name| !self.facts.namespaces.contains_key(*name))
        {
            Some(name) => Err(Failure::NotFound(format!(
                "there is no namespace {name}; `kubectl get namespaces` shows what is there"
            ))),
            None => Ok(()),
        }
    }

    /// Refuses policies that are not there, or mean nothing.
    pub(super) fn check_policies(&self, names: &[String]) -> Result<(), Failure> {
        if let Some(missing) = self
            .facts
            .missing
            .iter()
            .find(|missing| missing.what.starts_with("volumebackuppolicies"))
        {
            return Err(Failure::Refused(format!(
                "policies may not be read: {}; grant the user `get` and `list` on {}",
                missing.reason, missing.what
            )));
        }
        if !self.facts.has_policies {
            return Err(Failure::NotFound(
                "the cluster has no policies: our API objects are not installed there; `kubectl backup volumes explain` \
                 works without them"
                    .to_owned(),
            ));
        }
        for name in names {
            if let Some(problem) = self.invalid.get(name) {
                return Err(Failure::Refused(format!(
                    "policy {name} is invalid and chooses nothing: {problem}; `kubectl edit vbp {name}` corrects it"
                )));
            }
            if self.facts.policy(name).is_none() {
                return Err(Failure::NotFound(format!(
                    "there is no policy {name}; `kubectl backup policy list` shows what is there"
                )));
            }
        }
        Ok(())
    }

    /// Says what is not known. Where something could not be read, the result lacks it.
    pub(super) fn remarks(&self) -> Exit {
        for (name, problem) in &self.invalid {
            view::warn(&format!(
                "policy {name} is invalid and chooses nothing: {problem}"
            ));
        }
        for missing in &self.facts.missing {
            view::warn(&format!(
                "{} cannot be read: {}; not known: {}",
                missing.what, missing.reason, missing.unknown
            ));
        }
        if self.facts.missing.is_empty() {
            Exit::Done
        } else {
            Exit::DoneWithErrors
        }
    }

    /// Whether a claim is known not to be there.
    pub(super) fn is_missing_claim(&self, namespace: &str, name: &str) -> bool {
        self.facts.claims.is_some() && self.facts.claim(namespace, name).is_none()
    }

    /// The policies of these names, in their order.
    pub(super) fn named(&self, names: &[String]) -> Vec<&Policy> {
        names
            .iter()
            .filter_map(|name| self.rules.policies().iter().find(|policy| policy.name() == name))
            .collect()
    }

    /// Decides about a pod's JSON and hands the decision on. A pod that is no pod is passed over.
    pub(super) fn decide<T>(&self, raw: &[u8], take: impl FnOnce(&Decision<'_>) -> T) -> Option<T> {
        let pod = PodFacts::parse(raw).ok()?;
        let name = &*pod.namespace;
        let namespace = NamespaceFacts {
            name,
            labels: self.facts.namespaces.get(name),
        };
        let claims = |claim: &str| -> Option<ClaimFacts<'_>> {
            let (claim, is_host_path) = self.facts.claim(name, claim)?;
            Some(claim.facts(is_host_path))
        };
        Some(take(&self.rules.decide(&pod, namespace, &claims)))
    }
}

/// Whether a pod is there for good: neither finished nor on its way out.
pub(super) fn is_live(raw: &[u8], pod: &PodFacts<'_>) -> bool {
    let is_finished = matches!(pod.phase.as_deref(), Some("Succeeded" | "Failed"));
    let is_leaving = PodHead::parse(raw).is_ok_and(|head| head.deletion_timestamp.is_some());
    !is_finished && !is_leaving
}

/// Namespaces in which nothing is ever chosen, beside those of the system.
pub(super) fn exempt_namespaces(session: &Session) -> [String; 2] {
    [session.common.velero_namespace.clone(), OWN_NAMESPACE.to_owned()]
}
