//! The values of the two annotations that follow from a decision.

use super::decision::Decision;
use super::fate::{Chooser, Fate};

impl Decision<'_> {
    /// The value that `backup.velero.io/backup-volumes` should have: the pod's own value untouched, then what was chosen,
    /// in the order of the pod, without spaces. None when there is nothing to add.
    pub fn annotation(&self) -> Option<String> {
        let mut value = String::new();
        for volume in self.added() {
            if value.is_empty() {
                value.push_str(self.pod.backup_volumes.as_deref().unwrap_or_default());
            }
            if !value.is_empty() {
                value.push(',');
            }
            value.push_str(&volume.volume.name);
        }
        (!value.is_empty()).then_some(value)
    }

    /// The value of `kubectl-backup.io/volumes-chosen-by` beside it: `NAME@GENERATION` of each policy that chose a volume,
    /// `pod-label`, `namespace-label`; what an earlier round of the same admission left is kept in front.
    pub fn chosen_by(&self) -> String {
        let mut entries: Vec<String> = Vec::new();
        let left = self.pod.chosen_by.as_deref().unwrap_or_default();
        let is_entry = |entry: &&str| match entry.split_once('@') {
            Some((name, generation)) => !name.is_empty() && generation.parse::<i64>().is_ok(),
            None => *entry == "pod-label" || *entry == "namespace-label",
        };
        entries.extend(left.split(',').filter(is_entry).map(str::to_owned));
        for volume in self.added() {
            let Fate::Chosen(choosers) = volume.fate() else {
                continue;
            };
            for chooser in choosers {
                let entry = match chooser {
                    Chooser::PodLabel => "pod-label".to_owned(),
                    Chooser::NamespaceLabel => "namespace-label".to_owned(),
                    Chooser::Policy(policy) => format!("{}@{}", policy.name(), policy.generation()),
                };
                if !entries.contains(&entry) {
                    entries.push(entry);
                }
            }
        }
        entries.join(",")
    }
}
