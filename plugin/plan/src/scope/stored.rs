//! The scope that a stored backup was made with.
//!
//! In comes `spec` of a Backup object, in Velero's words; out goes the [`Scope`] that gave it. Words stay words: the kinds
//! that they name may be gone by now.

use serde_json::Value;
use velero_model::backup::BackupSpec;

use super::Scope;
use crate::{
    resource_names::ResourceNames,
    selector::{LabelSelector, OrSelector, Selector, SelectorError},
};

/// Why the scope of a stored backup cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum StoredScopeError {
    /// A selector that Kubernetes would not take.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// No selector at all.
    #[error("its label selector is no LabelSelector: {0}")]
    Parse(#[from] serde_json::Error),
}

impl Scope {
    /// The scope of a backup, without the order of its objects.
    ///
    /// # Errors
    /// When a selector in it makes no sense.
    pub fn of_backup(spec: &BackupSpec) -> Result<Self, StoredScopeError> {
        let words = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        let names = |list: &Option<Vec<String>>| ResourceNames::new(words(list));
        let mut included_namespaces = words(&spec.included_namespaces);
        if included_namespaces == ["*"] {
            included_namespaces.clear();
        }
        let alternatives = spec.or_label_selectors.iter().flatten().map(selector);
        Ok(Self {
            included_namespaces,
            excluded_namespaces: words(&spec.excluded_namespaces),
            included_resources: names(&spec.included_resources),
            excluded_resources: names(&spec.excluded_resources),
            include_cluster_resources: spec.include_cluster_resources,
            included_cluster_scoped: names(&spec.included_cluster_scoped_resources),
            excluded_cluster_scoped: names(&spec.excluded_cluster_scoped_resources),
            included_namespace_scoped: names(&spec.included_namespace_scoped_resources),
            excluded_namespace_scoped: names(&spec.excluded_namespace_scoped_resources),
            selector: spec
                .label_selector
                .as_ref()
                .map(selector)
                .transpose()?
                .unwrap_or_default(),
            or_selector: OrSelector::new(alternatives.collect::<Result<_, _>>()?),
            ..Self::default()
        })
    }
}

fn selector(json: &Value) -> Result<Selector, StoredScopeError> {
    let selector: LabelSelector = serde_json::from_value(json.clone())?;
    Ok(Selector::try_from(&selector)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(json: Value) -> BackupSpec {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn veleros_words_are_read() {
        assert!(Scope::of_backup(&spec(json!({}))).unwrap().is_everything());
        assert!(
            Scope::of_backup(&spec(
                json!({"includedNamespaces": ["*"], "excludedResources": null})
            ))
            .unwrap()
            .is_everything()
        );
        let scope = Scope::of_backup(&spec(json!({
            "includedNamespaces": ["shop"], "excludedResources": ["events"], "includeClusterResources": false,
            "orLabelSelectors": [{"matchLabels": {"app": "a"}}, {"matchExpressions": [{"key": "b", "operator": "Exists"}]}]
        })))
        .unwrap();
        assert_eq!(scope.included_namespaces, ["shop"]);
        assert_eq!(scope.excluded_resources.words(), ["events"]);
        assert_eq!(scope.include_cluster_resources, Some(false));
        assert_eq!(scope.or_selector, OrSelector::parse("app=a or b").unwrap());
    }

    #[test]
    fn a_selector_that_makes_no_sense_is_refused() {
        for selector in [
            json!({"matchExpressions": [{"key": "b", "operator": "Like"}]}),
            json!("app=a"),
        ] {
            assert!(Scope::of_backup(&spec(json!({ "labelSelector": selector }))).is_err());
        }
    }
}
