//! What policies amount to over many pods: the counts in their status.

use super::decision::{Decision, Rules};
use super::fate::{Chooser, Excluder};

/// Counts of one policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PolicyCounts {
    /// Pods of which it matches a volume.
    pub pods: u64,
    /// Volumes that it matches.
    pub volumes: u64,
    /// Volumes about which something else says the contrary: it includes what is excluded, or excludes what a pod's own
    /// list names.
    pub conflicts: u64,
}

/// Counts of all policies of a set of rules.
#[derive(Debug, Clone)]
pub struct Tally<'r> {
    rules: &'r Rules,
    counts: Vec<PolicyCounts>,
}

impl<'r> Tally<'r> {
    /// Nothing counted yet.
    pub fn new(rules: &'r Rules) -> Self {
        Self {
            rules,
            counts: vec![PolicyCounts::default(); rules.policies().len()],
        }
    }

    /// Counts a pod. The caller leaves out pods that do not run.
    pub fn add(&mut self, decision: &Decision<'_>) {
        let mut met: Vec<usize> = Vec::new();
        for volume in &decision.volumes {
            let is_excluded = !volume.excluded_by.is_empty();
            for chooser in &volume.included_by {
                if let Chooser::Policy(policy) = chooser {
                    self.count(policy.name(), is_excluded && !volume.is_listed, &mut met);
                }
            }
            for excluder in &volume.excluded_by {
                if let Excluder::Policy(policy) = excluder {
                    self.count(policy.name(), volume.is_listed, &mut met);
                }
            }
        }
        met.sort_unstable();
        met.dedup();
        for position in met {
            if let Some(counts) = self.counts.get_mut(position) {
                counts.pods += 1;
            }
        }
    }

    fn count(&mut self, policy: &str, is_conflict: bool, met: &mut Vec<usize>) {
        let found = self
            .rules
            .policies()
            .binary_search_by(|known| known.name().cmp(policy));
        if let Some((position, counts)) = found.ok().and_then(|at| Some((at, self.counts.get_mut(at)?))) {
            counts.volumes += 1;
            counts.conflicts += u64::from(is_conflict);
            met.push(position);
        }
    }

    /// The counts of a policy; none if it is not among the rules.
    pub fn of(&self, policy: &str) -> Option<PolicyCounts> {
        let found = self
            .rules
            .policies()
            .binary_search_by(|known| known.name().cmp(policy));
        self.counts.get(found.ok()?).copied()
    }
}
