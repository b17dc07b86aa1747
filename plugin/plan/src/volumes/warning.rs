//! What the person who creates a pod should be told: names that match nothing, lists that Velero honours in part, excludes
//! that win over a policy.
//!
//! The API server passes warnings on, cuts them at 256 characters and drops them beyond 4096 in all; ours aim at
//! [`LENGTH`] and are at most [`MOST`].

use super::decision::{Decision, VolumeDecision};
use super::fate::{Excluder, Fate, Skip};
use super::namespace::VolumesLabel;
use velero_model::api::VOLUMES_LABEL;

/// Characters that a warning should not exceed.
pub const LENGTH: usize = 120;
/// Warnings about one pod.
const MOST: usize = 8;

impl Decision<'_> {
    /// The warnings, most important first; empty for nearly every pod.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        self.warn_about_labels(&mut warnings);
        self.warn_about_list(&mut warnings);
        for volume in &self.volumes {
            if warnings.len() > MOST {
                break;
            }
            warnings.extend(about_volume(volume).map(|text| shortened(&text)));
        }
        if warnings.len() > MOST {
            warnings.truncate(MOST - 1);
            warnings.push("more about its volumes: kubectl backup volumes explain".to_owned());
        }
        warnings
    }

    fn warn_about_labels(&self, warnings: &mut Vec<String>) {
        if self.exemption.is_some() || self.volumes.is_empty() {
            return;
        }
        for (label, whose) in [
            (VolumesLabel::of_pod(&self.pod.labels), "the pod"),
            (self.namespace.volumes_label(), "the namespace"),
        ] {
            if let VolumesLabel::Unknown(value) = label {
                warnings.push(shortened(&format!(
                    "label {VOLUMES_LABEL}={value} of {whose} counts as absent: it may be include or exclude"
                )));
            }
        }
    }

    fn warn_about_list(&self, warnings: &mut Vec<String>) {
        let Some(list) = self.pod.backup_volumes.as_deref().filter(|list| !list.is_empty()) else {
            return;
        };
        let mut volumes: Vec<&str> = self.pod.volumes.iter().map(|volume| &*volume.name).collect();
        volumes.sort_unstable();
        let missing = |name: &&str| volumes.binary_search(name).is_err();
        let mut unknown = list.split(',').filter(missing);
        let Some(first) = unknown.next() else { return };
        if list
            .split(',')
            .any(|name| name != name.trim() && volumes.binary_search(&name.trim()).is_ok())
        {
            let spaced = list.split(',').find(|name| *name != name.trim()).unwrap_or(first);
            warnings.push(shortened(&format!(
                "backup-volumes has spaces, which Velero takes as part of the name: no volume \"{spaced}\" in the pod"
            )));
            return;
        }
        let more = match unknown.count() {
            0 => String::new(),
            count => format!(" (and {count} more)"),
        };
        warnings.push(shortened(&format!(
            "backup-volumes names \"{first}\"{more}, but the pod has no such volume"
        )));
    }
}

fn about_volume(decided: &VolumeDecision<'_>) -> Option<String> {
    let name = &decided.volume.name;
    let against = decided.excluded_by.first();
    match decided.fate() {
        Fate::ListedInVain(skip) => Some(format!(
            "backup-volumes names \"{name}\", but Velero skips it: {skip}"
        )),
        Fate::Listed => match against {
            Some(Excluder::Annotation) => Some(format!(
                "volume \"{name}\" is in backup-volumes and in backup-volumes-excludes: Velero takes it"
            )),
            Some(Excluder::Policy(policy)) => Some(format!(
                "volume \"{name}\": policy \"{}\" excludes it, but the pod's own backup-volumes wins",
                policy.name()
            )),
            _ => None,
        },
        Fate::Excluded(Excluder::Annotation) => decided.included_by.first().map(|chooser| {
            format!("volume \"{name}\": {chooser} includes it, but the pod's backup-volumes-excludes wins")
        }),
        Fate::Skipped(skip @ Skip::InitContainersOnly) => decided
            .included_by
            .first()
            .map(|chooser| format!("volume \"{name}\" of {chooser} is not backed up: {skip}")),
        _ => None,
    }
}

/// Cut at twice the aim, which the API server still passes on whole.
fn shortened(text: &str) -> String {
    if text.chars().count() <= 2 * LENGTH {
        return text.to_owned();
    }
    text.chars().take(2 * LENGTH - 3).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_warning_is_cut_between_characters() {
        let long = "ä".repeat(1000);
        assert_eq!(shortened(&long).chars().count(), 2 * LENGTH);
        assert_eq!(shortened("short"), "short");
    }
}
