//! A `VolumeBackupPolicy` read once: selectors, patterns and quantities checked, ready to be asked about many pods.
//!
//! What the API server's own validation lets through and still makes no sense is a [`PolicyProblem`]; such a policy chooses
//! nothing, and whoever loads policies says so.

use velero_model::api::{PolicyAction, VolumeBackupPolicy, VolumeType};

use super::claim::ClaimFacts;
use super::fate::UnknownFacts;
use super::namespace::{NAME_LABEL, NamespaceFacts};
use super::pattern::{NamePattern, PatternError};
use super::pod::{Labels, Source};
use super::quantity::{Quantity, QuantityError};
use crate::selector::{LabelSelector, LabelSelectorRequirement, Selector, SelectorError};

/// Why a policy cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyProblem {
    /// A selector is none.
    #[error("{field}: {source}")]
    Selector {
        /// `namespaceSelector` or `podSelector`.
        field: &'static str,
        /// What is wrong with it.
        source: SelectorError,
    },
    /// A name of a claim can match nothing.
    #[error("volumes.claimNames: {0}")]
    ClaimName(#[from] PatternError),
    /// A name of a class is empty.
    #[error("volumes.storageClasses: a name is empty; leave the list out to match every class")]
    StorageClass,
    /// A capacity is no quantity.
    #[error("volumes.{field}: {source}")]
    Capacity {
        /// `minimumCapacity` or `maximumCapacity`.
        field: &'static str,
        /// What is wrong with it.
        source: QuantityError,
    },
    /// Nothing can lie between the two capacities.
    #[error("volumes.minimumCapacity is larger than volumes.maximumCapacity: no volume can match")]
    CapacityOrder,
}

/// Whether something matches, as far as facts are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Matching {
    No,
    Yes,
    Unknown,
}

impl From<bool> for Matching {
    fn from(matches: bool) -> Self {
        if matches { Self::Yes } else { Self::No }
    }
}

/// A checked policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    name: Box<str>,
    generation: i64,
    action: PolicyAction,
    namespace_selector: Selector,
    /// What of the namespace selector is about names alone, and so can be told without labels.
    namespace_name: Selector,
    pod_selector: Selector,
    claim_names: Vec<NamePattern>,
    storage_classes: Vec<Box<str>>,
    types: Vec<VolumeType>,
    minimum: Option<Quantity>,
    maximum: Option<Quantity>,
}

impl Policy {
    /// Checks and compiles a policy.
    ///
    /// # Errors
    /// Names the field and what is wrong with it.
    pub fn compile(policy: &VolumeBackupPolicy) -> Result<Self, PolicyProblem> {
        let spec = &policy.spec;
        let selector = |field, selector: &_| {
            compile_selector(selector).map_err(|source| PolicyProblem::Selector { field, source })
        };
        let capacity = |field, text: Option<&str>| {
            let quantity = text.map(Quantity::parse).transpose();
            quantity.map_err(|source| PolicyProblem::Capacity { field, source })
        };
        let rule = &spec.volumes;
        let minimum = capacity(
            "minimumCapacity",
            rule.minimum_capacity.as_ref().map(|quantity| quantity.0.as_str()),
        )?;
        let maximum = capacity(
            "maximumCapacity",
            rule.maximum_capacity.as_ref().map(|quantity| quantity.0.as_str()),
        )?;
        if let (Some(minimum), Some(maximum)) = (minimum, maximum)
            && minimum > maximum
        {
            return Err(PolicyProblem::CapacityOrder);
        }
        if rule.storage_classes.iter().any(String::is_empty) {
            return Err(PolicyProblem::StorageClass);
        }
        let namespace_selector = selector("namespaceSelector", &spec.namespace_selector)?;
        let by_name = namespace_selector
            .requirements()
            .iter()
            .filter(|requirement| requirement.key() == NAME_LABEL);
        Ok(Self {
            name: policy.metadata.name.as_deref().unwrap_or_default().into(),
            generation: policy.metadata.generation.unwrap_or_default(),
            action: spec.action,
            namespace_name: Selector::new(by_name.cloned().collect()),
            namespace_selector,
            pod_selector: selector("podSelector", &spec.pod_selector)?,
            claim_names: rule
                .claim_names
                .iter()
                .map(|name| NamePattern::parse(name))
                .collect::<Result<_, _>>()?,
            storage_classes: rule
                .storage_classes
                .iter()
                .map(|class| class.as_str().into())
                .collect(),
            types: types(&rule.types),
            minimum,
            maximum,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The generation of its spec.
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// What it does with what matches.
    pub fn action(&self) -> PolicyAction {
        self.action
    }

    /// Which namespaces.
    pub fn namespace_selector(&self) -> &Selector {
        &self.namespace_selector
    }

    /// Which pods.
    pub fn pod_selector(&self) -> &Selector {
        &self.pod_selector
    }

    /// Which claims by name; empty for all volumes.
    pub fn claim_names(&self) -> &[NamePattern] {
        &self.claim_names
    }

    /// Which classes; empty for all.
    pub fn storage_classes(&self) -> &[Box<str>] {
        &self.storage_classes
    }

    /// Which types; never empty.
    pub fn types(&self) -> &[VolumeType] {
        &self.types
    }

    /// The smallest capacity.
    pub fn minimum_capacity(&self) -> Option<Quantity> {
        self.minimum
    }

    /// The largest capacity.
    pub fn maximum_capacity(&self) -> Option<Quantity> {
        self.maximum
    }

    /// Whether facts of claims are needed to decide, which an expression over the pod alone does not have.
    pub fn needs_claims(&self) -> bool {
        !self.storage_classes.is_empty() || self.minimum.is_some() || self.maximum.is_some()
    }

    /// Whether it speaks about pods with these labels in this namespace.
    pub(super) fn selects(&self, labels: &Labels<'_>, namespace: &NamespaceFacts<'_>) -> Matching {
        if !self.pod_selector.is_empty() && !self.pod_selector.matches(&|key| labels.get(key)) {
            return Matching::No;
        }
        if self.namespace_selector.is_empty() {
            return Matching::Yes;
        }
        if namespace.labels.is_some() {
            return self
                .namespace_selector
                .matches(&|key| namespace.label(key))
                .into();
        }
        if !self.namespace_name.matches(&|_| Some(namespace.name)) {
            Matching::No
        } else if self.namespace_name.requirements().len() == self.namespace_selector.requirements().len() {
            Matching::Yes
        } else {
            Matching::Unknown
        }
    }

    /// Whether it speaks about a volume of such a pod. What is not known is noted.
    pub(super) fn matches_volume(
        &self,
        source: &Source<'_>,
        claim_name: Option<&str>,
        facts: ClaimFacts<'_>,
        unknown: &mut UnknownFacts,
    ) -> Matching {
        let asks_about_claims = self.needs_claims() || !self.claim_names.is_empty();
        let right_type = source
            .volume_type()
            .is_some_and(|kind| self.types.contains(&kind));
        if !right_type || asks_about_claims && !source.has_claim() {
            return Matching::No;
        }
        let mut missing = UnknownFacts::default();
        if !self.claim_names.is_empty() {
            match claim_name {
                Some(name) if !self.claim_names.iter().any(|pattern| pattern.matches(name)) => {
                    return Matching::No;
                }
                Some(_) => {}
                None => missing.claim_name = true,
            }
        }
        if !self.storage_classes.is_empty() {
            match facts.storage_class {
                Some(class) if !self.storage_classes.iter().any(|wanted| &**wanted == class) => {
                    return Matching::No;
                }
                Some(_) => {}
                None => missing.storage_class = true,
            }
        }
        if self.minimum.is_some() || self.maximum.is_some() {
            match facts.capacity {
                Some(capacity) if !self.holds(capacity) => return Matching::No,
                Some(_) => {}
                None => missing.capacity = true,
            }
        }
        if missing.is_empty() {
            return Matching::Yes;
        }
        unknown.add(missing);
        Matching::Unknown
    }

    fn holds(&self, capacity: Quantity) -> bool {
        self.minimum.is_none_or(|minimum| capacity >= minimum)
            && self.maximum.is_none_or(|maximum| capacity <= maximum)
    }
}

fn types(named: &[VolumeType]) -> Vec<VolumeType> {
    if named.is_empty() {
        vec![VolumeType::PersistentVolumeClaim, VolumeType::Ephemeral]
    } else {
        named.to_vec()
    }
}

fn compile_selector(
    selector: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector,
) -> Result<Selector, SelectorError> {
    let expressions = selector.match_expressions.iter().flatten();
    let json = LabelSelector {
        match_labels: selector.match_labels.clone().unwrap_or_default(),
        match_expressions: expressions
            .map(|expression| LabelSelectorRequirement {
                key: expression.key.clone(),
                operator: expression.operator.clone(),
                values: expression.values.clone().unwrap_or_default(),
            })
            .collect(),
    };
    Selector::try_from(&json)
}
