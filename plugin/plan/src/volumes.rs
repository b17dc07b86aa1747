//! Which volumes of a pod are opted in to file-system backup, by whom, and what Velero makes of it.
//!
//! In come facts: a pod ([`PodFacts`], read from its JSON without copying), the labels of its namespace, what is known of
//! its claims, and the [`Rules`] (policies and namespaces that are left alone). Out comes a [`Decision`]: the fate of each
//! volume with the rule that decides, the value that the pod's annotation should have, and what a person should be told.
//! The annotator, `volumes explain`, `policy list|explain|apply` and the rendered CEL all stand on this one function.
//!
//! Later code may rely on: a user's list is never changed, only added to; deciding again about a pod that carries the new
//! value adds nothing; a fact that is not known speaks for a backup (it matches what includes and not what excludes) and
//! is named in the decision.

mod annotation;
pub mod cel;
mod claim;
mod decision;
mod drift;
mod fate;
mod namespace;
mod pattern;
mod pod;
mod pod_json;
mod policy;
mod quantity;
mod resource_policy;
mod tally;
mod warning;

pub use claim::{Claim, ClaimFacts, is_host_path_volume};
pub use decision::{Decision, Exemption, Rules, SYSTEM_NAMESPACES, VolumeDecision};
pub use drift::{Drift, Workload};
pub use fate::{Chooser, Excluder, Fate, Skip, UnknownFacts};
pub use namespace::{NamespaceFacts, VolumesLabel};
pub use pattern::{NamePattern, PatternError};
pub use pod::{Labels, Owner, PodFacts, Source, Text, VolumeFacts};
pub use policy::{Policy, PolicyProblem};
pub use quantity::{Quantity, QuantityError};
pub use resource_policy::{Action, ResourcePolicies, ResourcePolicyError, VolumeView};
pub use tally::{PolicyCounts, Tally};
pub use warning::LENGTH as WARNING_LENGTH;

#[cfg(test)]
mod tests;
