//! The policies as rules that can be asked: compiled when one of them has changed, not for every pod.
//!
//! A policy that makes no sense chooses nothing and is logged when it comes; its status says why (the status is written
//! elsewhere).

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use backup_plan::volumes::{Policy, Rules};
use velero_model::api::VolumeBackupPolicy;

use super::Table;

/// Namespaces that are left alone unless [`Compiled::exempt`] says otherwise, beside those of Kubernetes itself.
const EXEMPT: [&str; 2] = ["velero", "kubectl-backup"];

/// The rules that follow from a table of policies.
#[derive(Debug)]
pub struct Compiled {
    exempt: OnceLock<Vec<String>>,
    made: ArcSwap<Made>,
}

#[derive(Debug)]
struct Made {
    /// Of the table; none before the first time.
    revision: Option<u64>,
    rules: Arc<Rules>,
}

impl Default for Compiled {
    fn default() -> Self {
        let made = Made {
            revision: None,
            rules: Arc::default(),
        };
        Self {
            exempt: OnceLock::new(),
            made: ArcSwap::from_pointee(made),
        }
    }
}

impl Compiled {
    /// Namespaces to leave alone: Velero's and our own. To be said once, before the first question.
    pub fn exempt(&self, namespaces: Vec<String>) {
        let _ = self.exempt.set(namespaces);
    }

    /// Those namespaces.
    pub fn exempt_namespaces(&self) -> Vec<String> {
        let said = self.exempt.get().cloned();
        said.unwrap_or_else(|| EXEMPT.iter().map(|name| (*name).to_owned()).collect())
    }

    /// The rules of the policies as they are now.
    pub fn of(&self, policies: &Table<VolumeBackupPolicy>) -> Arc<Rules> {
        // Asked first: what changes meanwhile is compiled the next time.
        let revision = policies.revision();
        let made = self.made.load();
        if made.revision == Some(revision) {
            return Arc::clone(&made.rules);
        }
        let policies = policies.all();
        let compiled = policies
            .iter()
            .filter_map(|policy| match Policy::compile(policy) {
                Ok(policy) => Some(policy),
                Err(problem) => {
                    let policy = policy.metadata.name.as_deref().unwrap_or_default();
                    tracing::warn!(policy, %problem, "the policy chooses nothing");
                    None
                }
            });
        let rules = Arc::new(Rules::new(compiled.collect(), self.exempt_namespaces()));
        self.made.store(Arc::new(Made {
            revision: Some(revision),
            rules: Arc::clone(&rules),
        }));
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, minimum: &str) -> VolumeBackupPolicy {
        let mut policy = VolumeBackupPolicy::new(name, velero_model::api::VolumeBackupPolicySpec::default());
        policy.spec.volumes.minimum_capacity = Some(k8s_openapi::apimachinery::pkg::api::resource::Quantity(
            minimum.to_owned(),
        ));
        policy
    }

    #[test]
    fn rules_follow_the_table_and_are_made_once() {
        let (table, compiled) = (Table::default(), Compiled::default());
        assert!(compiled.of(&table).policies().is_empty());
        table.put("", "b", policy("b", "1Gi"));
        table.put("", "a", policy("a", "1Gi"));
        table.put("", "broken", policy("broken", "much"));
        let rules = compiled.of(&table);
        assert_eq!(
            rules.policies().iter().map(Policy::name).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert!(Arc::ptr_eq(&rules, &compiled.of(&table)));
        assert!(rules.exempts("velero") && rules.exempts("kube-system") && !rules.exempts("shop"));
        table.remove("", "a");
        assert_eq!(compiled.of(&table).policies().len(), 1);
    }
}
