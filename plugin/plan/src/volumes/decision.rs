//! The one function that decides about the volumes of a pod, and what it yields.
//!
//! For and against are gathered apart for each volume ([`VolumeDecision`]), so that an explanation can show both; the fate
//! follows from them in a fixed order: the pod's own list (Velero takes it as it is), then whatever excludes, then what
//! Velero skips, then whatever includes.

use std::borrow::Cow;
use std::collections::BTreeSet;

use velero_model::api::PolicyAction;

use super::claim::ClaimFacts;
use super::fate::{Chooser, Excluder, Fate, Skip, UnknownFacts};
use super::namespace::{NamespaceFacts, VolumesLabel};
use super::pod::{PodFacts, Source, VolumeFacts};
use super::policy::{Matching, Policy};

/// Namespaces in which nothing is ever chosen.
pub const SYSTEM_NAMESPACES: [&str; 2] = ["kube-system", "kube-node-lease"];

/// What administrators have laid down.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    policies: Vec<Policy>,
    exempt_namespaces: BTreeSet<String>,
}

impl Rules {
    /// Policies, and namespaces to leave alone beside [`SYSTEM_NAMESPACES`]: Velero's and the suite's own.
    pub fn new(mut policies: Vec<Policy>, exempt_namespaces: impl IntoIterator<Item = String>) -> Self {
        policies.sort_by(|one, other| one.name().cmp(other.name()));
        Self {
            policies,
            exempt_namespaces: exempt_namespaces.into_iter().collect(),
        }
    }

    /// The policies, sorted by name.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// Whether nothing is ever chosen in a namespace.
    pub fn exempts(&self, namespace: &str) -> bool {
        SYSTEM_NAMESPACES.contains(&namespace) || self.exempt_namespaces.contains(namespace)
    }

    /// Decides about all volumes of a pod. `claims` gives what is known of a claim of the pod's namespace; of the claim of
    /// an ephemeral volume its template tells the rest.
    pub fn decide<'d>(
        &'d self,
        pod: &'d PodFacts<'d>,
        namespace: NamespaceFacts<'d>,
        claims: &dyn Fn(&str) -> Option<ClaimFacts<'d>>,
    ) -> Decision<'d> {
        let exemption = if pod.is_mirror {
            Some(Exemption::MirrorPod)
        } else if self.exempts(namespace.name) {
            Some(Exemption::Namespace)
        } else {
            None
        };
        let selected = Selected::new(self, pod, &namespace, exemption.is_none());
        let listed = Names::read(pod.backup_volumes.as_deref());
        let kept_out = Names::read(pod.backup_volumes_excludes.as_deref());
        let volumes = pod
            .volumes
            .iter()
            .map(|volume| {
                let mut decided = VolumeDecision::of(pod, volume, claims);
                decided.is_listed = listed.contains(&volume.name);
                if kept_out.contains(&volume.name) {
                    decided.excluded_by.push(Excluder::Annotation);
                }
                selected.judge(&mut decided);
                decided
            })
            .collect();
        Decision {
            pod,
            namespace,
            exemption,
            volumes,
        }
    }
}

/// Why nothing is chosen for a pod at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exemption {
    /// The image of a static pod.
    MirrorPod,
    /// Its namespace is the system's, Velero's or the suite's own.
    Namespace,
}

impl std::fmt::Display for Exemption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::MirrorPod => "nothing is chosen for static pods of a node",
            Self::Namespace => "nothing is chosen in a namespace of the system",
        })
    }
}

/// What was decided about a pod.
#[derive(Debug, Clone)]
pub struct Decision<'d> {
    /// The pod.
    pub pod: &'d PodFacts<'d>,
    /// Its namespace.
    pub namespace: NamespaceFacts<'d>,
    /// Why nothing is chosen; what its own list says still holds.
    pub exemption: Option<Exemption>,
    /// One for each volume, in the order of the pod.
    pub volumes: Vec<VolumeDecision<'d>>,
}

impl<'d> Decision<'d> {
    /// The volumes that are chosen and that the pod's own list does not have.
    pub fn added(&self) -> impl Iterator<Item = &VolumeDecision<'d>> {
        self.volumes
            .iter()
            .filter(|volume| matches!(volume.fate(), Fate::Chosen(_)))
    }

    /// Facts that were asked about and not known, over all volumes. The labels of the namespace are always asked about.
    pub fn unknown_facts(&self) -> UnknownFacts {
        let mut all = UnknownFacts {
            namespace_labels: self.namespace.labels.is_none(),
            ..UnknownFacts::default()
        };
        for volume in &self.volumes {
            all.add(volume.unknown);
        }
        all
    }
}

/// What was decided about a volume: for and against, and what Velero makes of it.
#[derive(Debug, Clone)]
pub struct VolumeDecision<'d> {
    /// The volume.
    pub volume: &'d VolumeFacts<'d>,
    /// The name of its claim, if it has one and that is known.
    pub claim_name: Option<Cow<'d, str>>,
    /// What is known of its claim.
    pub claim: ClaimFacts<'d>,
    /// Whether the pod's own annotation lists it.
    pub is_listed: bool,
    /// Why Velero skips it.
    pub skip: Option<Skip>,
    /// Who speaks for it: labels first, then policies by name.
    pub included_by: Vec<Chooser<'d>>,
    /// Who speaks against it: the annotation first, then labels, then policies by name.
    pub excluded_by: Vec<Excluder<'d>>,
    /// What a rule asked about and was not known.
    pub unknown: UnknownFacts,
}

impl<'d> VolumeDecision<'d> {
    fn of(
        pod: &'d PodFacts<'d>,
        volume: &'d VolumeFacts<'d>,
        claims: &dyn Fn(&str) -> Option<ClaimFacts<'d>>,
    ) -> Self {
        let claim_name = pod.claim_name(volume);
        let claim = claim_name
            .as_deref()
            .and_then(claims)
            .unwrap_or_else(|| volume.source.template_facts());
        Self {
            skip: skip(volume, claim),
            volume,
            claim_name,
            claim,
            is_listed: false,
            included_by: Vec::new(),
            excluded_by: Vec::new(),
            unknown: UnknownFacts::default(),
        }
    }

    /// What becomes of it when Velero takes what pods opt in, as it does by default.
    pub fn fate(&self) -> Fate<'_> {
        match (self.is_listed, self.skip, self.excluded_by.first()) {
            (true, None, _) => Fate::Listed,
            (true, Some(skip), _) => Fate::ListedInVain(skip),
            (false, _, Some(excluder)) => Fate::Excluded(*excluder),
            (false, Some(skip), None) => Fate::Skipped(skip),
            (false, None, None) if self.included_by.is_empty() => Fate::NotChosen,
            (false, None, None) => Fate::Chosen(&self.included_by),
        }
    }

    /// Whether it is backed up by a backup with `defaultVolumesToFsBackup`, which asks the opt-out annotation alone.
    pub fn is_taken_by_default(&self) -> bool {
        self.skip.is_none() && !self.excluded_by.contains(&Excluder::Annotation)
    }
}

/// Why Velero's own checks pass over a volume.
fn skip(volume: &VolumeFacts<'_>, claim: ClaimFacts<'_>) -> Option<Skip> {
    Some(match &volume.source {
        Source::HostPath => Skip::HostPath,
        Source::Secret => Skip::Secret,
        Source::ConfigMap => Skip::ConfigMap,
        Source::Projected => Skip::Projected,
        Source::DownwardApi => Skip::DownwardApi,
        _ if volume.name.starts_with("default-token") => Skip::DefaultToken,
        _ if claim.is_host_path == Some(true) => Skip::HostPathVolume,
        _ if volume.is_device => Skip::BlockDevice,
        _ if volume.is_mounted => return None,
        _ if volume.is_mounted_by_init => Skip::InitContainersOnly,
        _ => Skip::NotMounted,
    })
}

/// The policies and labels that speak about a pod, found once for all its volumes.
struct Selected<'d> {
    label: Option<(bool, bool)>,
    policies: Vec<(&'d Policy, Matching)>,
}

impl<'d> Selected<'d> {
    fn new(rules: &'d Rules, pod: &PodFacts<'_>, namespace: &NamespaceFacts<'_>, applies: bool) -> Self {
        if !applies || pod.volumes.is_empty() {
            return Self {
                label: None,
                policies: Vec::new(),
            };
        }
        let of_pod = word(VolumesLabel::of_pod(&pod.labels)).map(|includes| (includes, true));
        let of_namespace = || word(namespace.volumes_label()).map(|includes| (includes, false));
        let policies = rules
            .policies
            .iter()
            .map(|policy| (policy, policy.selects(&pod.labels, namespace)));
        Self {
            label: of_pod.or_else(of_namespace),
            policies: policies
                .filter(|(_, matching)| *matching != Matching::No)
                .collect(),
        }
    }

    fn judge(&self, decided: &mut VolumeDecision<'d>) {
        let source = &decided.volume.source;
        if source.volume_type().is_some() {
            match self.label {
                Some((true, of_pod)) if source.has_claim() => {
                    let label = if of_pod {
                        Chooser::PodLabel
                    } else {
                        Chooser::NamespaceLabel
                    };
                    decided.included_by.push(label);
                }
                Some((false, true)) => decided.excluded_by.push(Excluder::PodLabel),
                Some((false, false)) => decided.excluded_by.push(Excluder::NamespaceLabel),
                _ => {}
            }
        }
        for (policy, of_pod) in &self.policies {
            let of_volume = policy.matches_volume(
                source,
                decided.claim_name.as_deref(),
                decided.claim,
                &mut decided.unknown,
            );
            if of_volume == Matching::No {
                continue;
            }
            decided.unknown.namespace_labels |= *of_pod == Matching::Unknown;
            let is_certain = of_volume == Matching::Yes && *of_pod == Matching::Yes;
            match policy.action() {
                // What is not known speaks for a backup: too much can be deleted later, too little is gone.
                PolicyAction::Include => decided.included_by.push(Chooser::Policy(policy)),
                PolicyAction::Exclude if is_certain => decided.excluded_by.push(Excluder::Policy(policy)),
                PolicyAction::Exclude => {}
            }
        }
    }
}

fn word(label: VolumesLabel<'_>) -> Option<bool> {
    match label {
        VolumesLabel::Include => Some(true),
        VolumesLabel::Exclude => Some(false),
        VolumesLabel::Absent | VolumesLabel::Unknown(_) => None,
    }
}

/// The names of one of Velero's annotations: split at commas and not trimmed, as Velero does; sorted for looking up.
struct Names<'a>(Vec<&'a str>);

impl<'a> Names<'a> {
    fn read(value: Option<&'a str>) -> Self {
        let mut names: Vec<&str> = match value {
            None | Some("") => Vec::new(),
            Some(value) => value.split(',').collect(),
        };
        names.sort_unstable();
        Self(names)
    }

    fn contains(&self, name: &str) -> bool {
        self.0.binary_search(&name).is_ok()
    }
}
