//! The claims of one pod, as they are known now.

use std::sync::Arc;

use backup_plan::volumes::{Claim, ClaimFacts, PodFacts};

use super::Snapshot;

/// The claims of a pod, held while it is decided about.
#[derive(Debug)]
pub struct PodClaims {
    /// Name, claim, and whether its volume is a folder of the node; sorted by name.
    found: Vec<(String, Arc<Claim>, Option<bool>)>,
}

impl PodClaims {
    /// What is known of a claim.
    pub fn facts(&self, name: &str) -> Option<ClaimFacts<'_>> {
        let found = self
            .found
            .binary_search_by(|(found, ..)| found.as_str().cmp(name));
        let (_, claim, is_host_path) = self.found.get(found.ok()?)?;
        Some(claim.facts(*is_host_path))
    }
}

impl Snapshot {
    /// The claims of a pod; nothing is asked of the API server.
    pub fn claims_of(&self, pod: &PodFacts<'_>, namespace: &str) -> PodClaims {
        let names = pod.volumes.iter().filter_map(|volume| pod.claim_name(volume));
        let found = names.filter_map(|name| {
            let claim = self.claims.get(namespace, &name)?;
            let bound_to = claim.volume_name.as_deref();
            let volume = bound_to.and_then(|volume| self.volumes.get("", volume));
            Some((name.into_owned(), claim, volume.map(|volume| volume.is_host_path)))
        });
        let mut found: Vec<_> = found.collect();
        found.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        PodClaims { found }
    }
}
