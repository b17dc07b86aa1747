//! What the cluster knows about volumes: policies, namespaces, claims, their volumes, and the pods that mount them.
//!
//! In comes where to look; out go facts for the rules of `backup_plan::volumes`, read in pages and kept as a few words an
//! object, and each pod's JSON as it comes by. What may not be read is named in [`Facts::missing`] and unknown to the
//! rules; a cluster without our API objects has no policies. [`apply`] writes annotations of pods, nothing else does.

pub mod apply;
pub(crate) mod kind;
mod look;
pub mod moves;

pub use self::look::{Facts, Missing, PodHead, Within, look, pod_names, pods, pods_named, policy_names};
