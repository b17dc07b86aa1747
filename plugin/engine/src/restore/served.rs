//! What the target cluster serves, asked by kind.
//!
//! Paths of requests are made from the target's own kinds and never from names in the backup, so that nothing in a backup
//! can lead a request elsewhere.

use std::collections::HashMap;

use backup_plan::kinds::DiscoveredKind;
use velero_model::resource::ApiKind;

use crate::api::{Discovery, FailedGroup};

/// Kinds of the target by version and name.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// By `apiVersion` and plural.
    by_plural: HashMap<(String, String), DiscoveredKind>,
    /// By `apiVersion` and kind: the plural.
    plurals: HashMap<(String, String), String>,
    /// Versions by resource group.
    versions: HashMap<String, Vec<String>>,
    failed_groups: Vec<FailedGroup>,
}

impl Served {
    pub(super) fn new(discovery: &Discovery) -> Self {
        let mut served = Self {
            failed_groups: discovery.failed_groups.clone(),
            ..Self::default()
        };
        for kind in discovery
            .kinds
            .iter()
            .filter(|kind| !kind.api.plural.contains('/'))
        {
            let version = kind.api.api_version();
            let versions = served.versions.entry(kind.api.resource_group()).or_default();
            versions.push(version.clone());
            let plural = kind.api.plural.clone();
            served
                .plurals
                .insert((version.clone(), kind.api.kind.clone()), plural.clone());
            served.by_plural.insert((version, plural), kind.clone());
        }
        served
    }

    /// The target's kind for a kind of the backup.
    ///
    /// # Errors
    /// What a person should hear when it is not served.
    pub(super) fn find(&self, kind: &ApiKind) -> Result<&ApiKind, String> {
        let version = kind.api_version();
        let Some(found) = self.by_plural.get(&(version.clone(), kind.plural.clone())) else {
            return Err(self.missing(kind, &version));
        };
        if found.api.namespaced != kind.namespaced {
            let scope = |namespaced| {
                if namespaced {
                    "namespaced"
                } else {
                    "cluster-scoped"
                }
            };
            return Err(format!(
                "{kind} is {} in the backup and {} in the cluster",
                scope(kind.namespaced),
                scope(found.api.namespaced)
            ));
        }
        if !found.verbs.iter().any(|verb| verb == "create") {
            return Err(format!("the cluster does not let {kind} be created"));
        }
        Ok(&found.api)
    }

    fn missing(&self, kind: &ApiKind, version: &str) -> String {
        let plural = &kind.plural;
        if let Some(group) = self
            .failed_groups
            .iter()
            .find(|group| group.group_version == version)
        {
            return format!(
                "the API group {version} of the cluster does not answer ({}); repair it and repeat the restore",
                group.reason
            );
        }
        match self.versions.get(&kind.resource_group()) {
            Some(versions) => format!(
                "the cluster does not serve {plural} in version {version}, it has {}; convert the object (kubectl backup \
                 cat) and apply it by hand",
                versions.join(", ")
            ),
            None => format!(
                "the cluster does not serve {plural} of {version}; install what brings it, or restore its \
                 CustomResourceDefinition too"
            ),
        }
    }

    /// The versions, without the group, in which the target takes objects of a kind; the preferred one first.
    pub(super) fn versions_of(&self, kind: &ApiKind) -> Vec<&str> {
        let mut found: Vec<&DiscoveredKind> = self
            .versions
            .get(&kind.resource_group())
            .into_iter()
            .flatten()
            .filter_map(|version| self.by_plural.get(&(version.clone(), kind.plural.clone())))
            .filter(|found| {
                found.api.namespaced == kind.namespaced && found.verbs.iter().any(|verb| verb == "create")
            })
            .collect();
        found.sort_by_key(|found| !found.preferred);
        found
            .into_iter()
            .map(|found| found.api.version.as_str())
            .collect()
    }

    /// The target's kind for what an owner reference names.
    pub(super) fn by_reference(&self, api_version: &str, kind: &str) -> Option<&ApiKind> {
        let plural = self.plurals.get(&(api_version.to_owned(), kind.to_owned()))?;
        self.by_plural
            .get(&(api_version.to_owned(), plural.clone()))
            .map(|found| &found.api)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(group: &str, version: &str, namespaced: bool) -> ApiKind {
        ApiKind {
            group: group.into(),
            version: version.into(),
            plural: "orders".into(),
            kind: "Order".into(),
            namespaced,
        }
    }

    #[test]
    fn kinds_are_found_in_their_version_or_refused_with_a_reason() {
        let discovered = |verbs: &[&str], version| DiscoveredKind {
            api: kind("shop.io", version, true),
            verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
            short_names: vec![],
            singular: String::new(),
            preferred: true,
            categories: vec![],
            is_held: false,
        };
        let served = Served::new(&Discovery {
            kinds: vec![discovered(&["create"], "v1"), discovered(&["get"], "v3")],
            failed_groups: vec![FailedGroup {
                group_version: "dead.io/v1".into(),
                reason: "gone".into(),
            }],
        });
        assert!(served.find(&kind("shop.io", "v1", true)).is_ok());
        for (group, version, namespaced, part) in [
            ("shop.io", "v2", true, "it has shop.io/v1, shop.io/v3"),
            ("shop.io", "v3", true, "be created"),
            ("shop.io", "v1", false, "cluster-scoped in the backup"),
            ("dead.io", "v1", true, "does not answer (gone)"),
            ("other.io", "v1", true, "does not serve orders of other.io/v1"),
        ] {
            let error = served.find(&kind(group, version, namespaced)).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(served.versions_of(&kind("shop.io", "v9", true)), ["v1"]);
        assert!(served.versions_of(&kind("shop.io", "v9", false)).is_empty());
        assert!(served.by_reference("shop.io/v1", "Order").is_some());
        assert!(served.by_reference("shop.io/v1", "Other").is_none());
    }
}
