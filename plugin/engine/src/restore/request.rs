//! What was asked of a restore.
//!
//! Names and scopes are checked before they come here; what is left to check needs the backup or the cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    sync::Arc,
};

use backup_plan::{
    hooks::Spec,
    kinds::DiscoveredKind,
    resource_names::{ResourceNames, UnknownResource},
    restore::{modifier::Modifiers, policy::Policies, transform::Options},
    scope::Scope,
};
use serde_json::{Value, json};
use velero_model::{digests::sha256, name::BackupName};

use super::{RestoreError, data::VolumeData};

/// One restore, as asked for.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// Name of the restore.
    pub name: BackupName,
    /// Which objects of the backup; not looked at when `only` names some.
    pub scope: Scope,
    /// These objects alone.
    pub only: Vec<ObjectRef>,
    /// `--namespace-mappings`, from backup to cluster.
    pub namespace_mappings: BTreeMap<String, String>,
    /// `--storage-class-mappings`, from backup to cluster.
    pub storage_class_mappings: BTreeMap<String, String>,
    /// `--image-mappings`, from prefix to prefix.
    pub image_mappings: BTreeMap<String, String>,
    /// `--resource-modifier-configmap` or `--resource-modifier-file`.
    pub modifiers: Option<Arc<Modifiers>>,
    /// What becomes of objects that exist and differ.
    pub existing: Policies,
    /// `--preserve-nodeports`.
    pub preserve_node_ports: bool,
    /// `--preserve-cluster-ips`.
    pub preserve_cluster_ips: bool,
    /// `--status-include-resources`.
    pub status_include: ResourceNames,
    /// `--status-exclude-resources`.
    pub status_exclude: ResourceNames,
    /// `--restore-volumes`: restore the data of volumes, as far as the backup has it.
    pub restore_volumes: bool,
    /// The data that there is, and how it is brought back.
    pub volumes: Option<VolumeData>,
    /// `--overwrite-volumes`: claims that are there already get the data of the backup too.
    pub overwrite_volumes: bool,
    /// Hooks beside those that pods name.
    pub hooks: Option<Arc<Spec>>,
    /// Whether objects get the `managedFields` that they had, by one more request each.
    pub managed_fields: bool,
    /// Whether objects get Velero's two labels.
    pub labels_on_objects: bool,
    /// Version of the tool, for the record.
    pub tool_version: String,
    /// Most writes at a time.
    pub writes_in_flight: usize,
    /// Where the record is kept when the backup's location cannot be written to, see [`super::default_records_folder`].
    pub records_folder: Option<PathBuf>,
}

/// An object as a user names it: `secret/db`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRef {
    /// The word for the kind.
    pub resource: String,
    /// The namespace in the backup; without one the name must be unique.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.resource, self.name)?;
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => Ok(()),
        }
    }
}

/// Writes in flight unless asked otherwise: more than this does not raise an API server's rate.
const WRITES_IN_FLIGHT: usize = 32;

impl RestoreRequest {
    /// Everything, with the defaults of the command line.
    pub fn new(name: BackupName) -> Self {
        Self {
            name,
            scope: Scope::default(),
            only: Vec::new(),
            namespace_mappings: BTreeMap::new(),
            storage_class_mappings: BTreeMap::new(),
            image_mappings: BTreeMap::new(),
            modifiers: None,
            existing: Policies::default(),
            preserve_node_ports: false,
            preserve_cluster_ips: false,
            status_include: ResourceNames::default(),
            status_exclude: ResourceNames::default(),
            restore_volumes: true,
            volumes: None,
            overwrite_volumes: false,
            hooks: None,
            managed_fields: false,
            labels_on_objects: true,
            tool_version: String::new(),
            writes_in_flight: WRITES_IN_FLIGHT,
            records_folder: None,
        }
    }

    /// What can be checked without backup and cluster.
    pub(super) fn check(&self) -> Result<(), RestoreError> {
        for (from, to) in &self.namespace_mappings {
            let problem = if from.is_empty() || to.is_empty() {
                "a namespace is missing; write OLD:NEW"
            } else if !is_label(to) {
                "the second name is no namespace name; use lower-case letters, digits and `-`, at most 63 characters"
            } else {
                continue;
            };
            return Err(RestoreError::Mapping {
                from: from.clone(),
                to: to.clone(),
                problem,
            });
        }
        Ok(())
    }

    /// The options for writing objects of `backup`; `kinds` are all that have a name.
    pub(super) fn options(
        &self,
        backup: &BackupName,
        kinds: &[DiscoveredKind],
    ) -> Result<Options, UnknownResource> {
        let label = |name: &BackupName| {
            if self.labels_on_objects {
                name.to_string()
            } else {
                String::new()
            }
        };
        Ok(Options {
            backup_name: label(backup),
            restore_name: label(&self.name),
            namespace_mapping: self.namespace_mappings.clone(),
            storage_class_mapping: self.storage_class_mappings.clone(),
            image_mapping: self.image_mappings.clone(),
            preserve_node_ports: self.preserve_node_ports,
            preserve_cluster_ips: self.preserve_cluster_ips,
            modifiers: self.modifiers.clone(),
            status_kinds: self.status_kinds(kinds)?,
        })
    }

    /// As in Velero: only exclusions mean all other kinds, neither list means none.
    fn status_kinds(&self, kinds: &[DiscoveredKind]) -> Result<BTreeSet<String>, UnknownResource> {
        if self.status_include.is_empty() && self.status_exclude.is_empty() {
            return Ok(BTreeSet::new());
        }
        let included = self.status_include.resolve_all(kinds)?;
        let excluded = self.status_exclude.resolve_all(kinds)?;
        Ok(kinds
            .iter()
            .map(|kind| &kind.api)
            .filter(|kind| (included.is_empty() || included.contains(kind)) && !excluded.contains(kind))
            .map(velero_model::resource::ApiKind::resource_group)
            .collect())
    }

    /// The request as the record keeps it.
    pub(super) fn to_json(&self) -> Value {
        let scope = &self.scope;
        json!({
            "includedNamespaces": scope.included_namespaces,
            "excludedNamespaces": scope.excluded_namespaces,
            "includedResources": scope.included_resources,
            "excludedResources": scope.excluded_resources,
            "includeClusterResources": scope.include_cluster_resources,
            "includedClusterScopedResources": scope.included_cluster_scoped,
            "excludedClusterScopedResources": scope.excluded_cluster_scoped,
            "includedNamespaceScopedResources": scope.included_namespace_scoped,
            "excludedNamespaceScopedResources": scope.excluded_namespace_scoped,
            "selector": scope.selector.to_string(),
            "orSelector": scope.or_selector.to_string(),
            "only": self.only.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "namespaceMapping": self.namespace_mappings,
            "storageClassMapping": self.storage_class_mappings,
            "imageMapping": self.image_mappings,
            // Not the rules themselves: a patch may carry a password.
            "resourceModifiers": self.modifiers.as_ref().map(|modifiers| json!({
                "rules": modifiers.len(),
                "sha256": sha256(modifiers.source().as_bytes()),
            })),
            "existingResourcePolicy": self.existing.to_string(),
            "preserveNodePorts": self.preserve_node_ports,
            "preserveClusterIPs": self.preserve_cluster_ips,
            "restoreStatusIncluded": self.status_include,
            "restoreStatusExcluded": self.status_exclude,
            "restoreVolumes": self.restore_volumes,
            "overwriteVolumes": self.overwrite_volumes,
            "hooks": self.hooks.as_ref().map(|hooks| sha256(hooks.source().to_string().as_bytes())),
            "restoreManagedFields": self.managed_fields,
            "labelsOnObjects": self.labels_on_objects,
        })
    }
}

/// Whether a name is a DNS-1123 label, as every namespace is.
pub(super) fn is_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_checked() {
        let mut request = RestoreRequest::new(BackupName::parse("r").unwrap());
        assert!(request.check().is_ok());
        for (from, to, good) in [
            ("a", "b", true),
            ("a", "", false),
            ("", "b", false),
            ("a", "../b", false),
            ("a", "B", false),
            ("a", "-b", false),
        ] {
            request.namespace_mappings = [(from.to_owned(), to.to_owned())].into();
            assert_eq!(request.check().is_ok(), good, "{from}:{to}");
        }
    }
}
