//! What is submitted: a request of ours as an object of Velero's, or why that cannot be.
//!
//! Pure. In come the request and the kinds that the cluster serves; out goes a Backup or Restore that means to Velero what
//! the request means to us. Velero leaves most cluster-scoped objects out unless they are asked for, drops words that it
//! cannot resolve, takes a ttl of zero for its own default and knows no braces in patterns; so cluster-scoped objects are
//! asked for by name, words become the resources that they mean here, and what it would understand otherwise is refused.

use std::collections::BTreeMap;

use backup_plan::{
    glob::expand_braces,
    kinds::DiscoveredKind,
    resource_names::{self, ResourceNames},
    scope::{Scope, ScopeError},
    selector::{LabelSelector, Selector},
};
use serde_json::{Map, Value};
use velero_model::{
    api_object::{ConfigMapReference, Restore, RestoreSpec, RestoreStatusSpec},
    backup::{API_VERSION, Backup, BackupSpec, BackupStatus, Metadata},
    name::BackupName,
    source::{CLUSTER_NAME, CLUSTER_UID},
};

use super::VeleroError;
use crate::{
    api::ClusterIdentity,
    backup::{BackupRequest, describe},
};

/// Most patterns that one list of namespaces may become.
const PATTERNS_MAX: usize = 500;

const USE_DIRECT: &str = "use --engine direct";

/// A restore as it is wanted. Everything in it was checked as far as that goes without a backup.
#[derive(Debug, Clone)]
pub struct RestoreWish<'a> {
    /// Name of the restore.
    pub name: &'a BackupName,
    /// Name of the backup.
    pub backup: &'a BackupName,
    /// What comes back.
    pub scope: &'a Scope,
    /// Old namespaces to new ones.
    pub namespace_mappings: &'a BTreeMap<String, String>,
    /// What happens to objects that exist: `none`, `update`; Velero has no other.
    pub existing: &'a str,
    /// Keep node ports.
    pub preserve_node_ports: bool,
    /// Kinds whose status comes back.
    pub status_include: &'a ResourceNames,
    /// Kinds whose status does not.
    pub status_exclude: &'a ResourceNames,
    /// Whether volumes come back with their data.
    pub restore_volumes: bool,
    /// ConfigMap with resource modifiers in Velero's namespace.
    pub resource_modifier: Option<&'a str>,
    /// `spec.hooks`.
    pub hooks: Option<&'a Value>,
}

/// The Backup object to submit.
///
/// # Errors
/// [`VeleroError::Unsupported`], and words that name no kind.
pub fn backup(
    request: &BackupRequest,
    identity: &ClusterIdentity,
    kinds: &[DiscoveredKind],
) -> Result<Value, VeleroError> {
    if request.ttl.is_none() {
        return Err(VeleroError::Unsupported {
            what: "--ttl 0".to_owned(),
            reason: "Velero takes 0 for its own default, 30 days, and deletes the backup then",
            next: "give a long time such as --ttl 87600h, or use --engine direct",
        });
    }
    if request.lock_until.is_some() {
        return Err(unsupported(
            "--lock-until",
            "Velero writes its files more than once",
        ));
    }
    // Checks the words against the kinds as engine direct does.
    drop(request.scope.resolve(kinds)?);
    let mut annotations = request.annotations.clone();
    for (key, value) in [(CLUSTER_UID, &identity.uid), (CLUSTER_NAME, &identity.name)] {
        if !value.is_empty() {
            annotations.insert(key.to_owned(), value.clone());
        }
    }
    let optional = |map: BTreeMap<String, String>| Some(map).filter(|map| !map.is_empty());
    let object = Backup {
        api_version: API_VERSION.to_owned(),
        kind: "Backup".to_owned(),
        metadata: Metadata {
            name: request.name.to_string(),
            namespace: Some(request.velero_namespace.clone()),
            labels: optional(request.labels.clone()),
            annotations: optional(annotations),
            ..Metadata::default()
        },
        spec: backup_spec(request, kinds)?,
        status: BackupStatus::default(),
        other: Map::new(),
    };
    let mut value = serde_json::to_value(object).map_err(|source| VeleroError::Object {
        what: format!("Backup {}/{}", request.velero_namespace, request.name),
        source,
    })?;
    if let Some(object) = value.as_object_mut() {
        // Status is no subresource of Velero's: what is sent is believed.
        object.remove("status");
    }
    Ok(value)
}

fn backup_spec(request: &BackupRequest, kinds: &[DiscoveredKind]) -> Result<BackupSpec, VeleroError> {
    let scope = &request.scope;
    let mut spec = BackupSpec {
        included_namespaces: namespaces(&scope.included_namespaces)?.or_else(|| Some(everything())),
        excluded_namespaces: namespaces(&scope.excluded_namespaces)?,
        included_resources: resources("--include-resources", &scope.included_resources, kinds)?,
        excluded_resources: resources("--exclude-resources", &scope.excluded_resources, kinds)?,
        included_cluster_scoped_resources: resources(
            "--include-cluster-scoped-resources",
            &scope.included_cluster_scoped,
            kinds,
        )?,
        excluded_cluster_scoped_resources: resources(
            "--exclude-cluster-scoped-resources",
            &scope.excluded_cluster_scoped,
            kinds,
        )?,
        included_namespace_scoped_resources: resources(
            "--include-namespace-scoped-resources",
            &scope.included_namespace_scoped,
            kinds,
        )?,
        excluded_namespace_scoped_resources: resources(
            "--exclude-namespace-scoped-resources",
            &scope.excluded_namespace_scoped,
            kinds,
        )?,
        ordered_resources: ordered(scope, kinds)?,
        // What is not given here is the server's to default: timeouts, volume settings.
        other: request.velero_spec.clone(),
        ..describe::spec(request)
    };
    ask_for_cluster_scoped(scope, &mut spec);
    Ok(spec)
}

fn everything() -> Vec<String> {
    vec!["*".to_owned()]
}

/// Where no namespaces were picked, cluster-scoped objects belong to the backup: Velero takes them only if they are asked
/// for in the generation of filters that the other words are of.
fn ask_for_cluster_scoped(scope: &Scope, spec: &mut BackupSpec) {
    if !is_all(&scope.included_namespaces) {
        return;
    }
    let of_the_old_generation = scope.include_cluster_resources.is_some()
        || !scope.included_resources.is_empty()
        || !scope.excluded_resources.is_empty();
    if of_the_old_generation {
        spec.include_cluster_resources = scope.include_cluster_resources.or(Some(true));
        return;
    }
    let namespaced = spec.included_namespace_scoped_resources.as_deref();
    if spec.included_cluster_scoped_resources.is_none() && namespaced.is_none_or(|words| words == ["*"]) {
        spec.included_cluster_scoped_resources = Some(everything());
    }
}

fn is_all(words: &[String]) -> bool {
    words.is_empty() || words.iter().any(|word| word == "*")
}

/// Patterns without braces; `*` among others stands alone, as Velero demands.
fn namespaces(words: &[String]) -> Result<Option<Vec<String>>, VeleroError> {
    if words.is_empty() {
        return Ok(None);
    }
    if is_all(words) {
        return Ok(Some(everything()));
    }
    let mut expanded: Vec<String> = Vec::new();
    for word in words {
        let left = PATTERNS_MAX.saturating_sub(expanded.len());
        let Some(patterns) = expand_braces(word, left).filter(|patterns| patterns.len() <= left) else {
            return Err(VeleroError::Unsupported {
                what: format!("namespace pattern {word:?}"),
                reason: "Velero knows no braces, and written out these are more than 500 patterns",
                next: "use * and ? instead, or --engine direct",
            });
        };
        for pattern in patterns {
            if !expanded.contains(&pattern) {
                expanded.push(pattern);
            }
        }
    }
    Ok(Some(expanded))
}

/// The resources that the words mean in this cluster: Velero resolves words by other rules.
fn resources(
    flag: &'static str,
    names: &ResourceNames,
    kinds: &[DiscoveredKind],
) -> Result<Option<Vec<String>>, VeleroError> {
    if names.is_empty() {
        return Ok(None);
    }
    let set = names
        .resolve_all(kinds)
        .map_err(|source| ScopeError::Resource { flag, source })?;
    if set.has_everything() {
        return Ok(Some(everything()));
    }
    Ok(Some(set.groups().map(str::to_owned).collect()))
}

/// Velero looks orders up by the plural without its group.
fn ordered(scope: &Scope, kinds: &[DiscoveredKind]) -> Result<Option<BTreeMap<String, String>>, VeleroError> {
    let mut ordered = BTreeMap::new();
    for (word, objects) in scope.ordered.kinds() {
        let found = resource_names::resolve(word, kinds).map_err(|source| ScopeError::Resource {
            flag: "--ordered-resources",
            source,
        })?;
        for kind in found {
            ordered.insert(kind.api.plural.clone(), objects.join(","));
        }
    }
    Ok(Some(ordered).filter(|ordered| !ordered.is_empty()))
}

/// The Restore object to submit.
///
/// # Errors
/// [`VeleroError::Unsupported`], and words that name no kind.
pub fn restore(
    wish: &RestoreWish<'_>,
    namespace: &str,
    kinds: &[DiscoveredKind],
) -> Result<Restore, VeleroError> {
    let scope = wish.scope;
    let scoped = [
        &scope.included_cluster_scoped,
        &scope.excluded_cluster_scoped,
        &scope.included_namespace_scoped,
        &scope.excluded_namespace_scoped,
    ];
    if scoped.iter().any(|names| !names.is_empty()) {
        return Err(VeleroError::Unsupported {
            what: "--include-cluster-scoped-resources and its family in a restore".to_owned(),
            reason: "Velero's Restores have no such fields",
            next: "use --include-resources, --exclude-resources and --include-cluster-resources, or --engine direct",
        });
    }
    if !matches!(wish.existing, "none" | "update") {
        return Err(VeleroError::Unsupported {
            what: format!("--existing-resource-policy {}", wish.existing),
            reason: "Velero knows none and update only",
            next: USE_DIRECT,
        });
    }
    let as_json = |selector: &Selector| serde_json::to_value(LabelSelector::from(selector)).ok();
    let alternatives = scope.or_selector.alternatives();
    let status = RestoreStatusSpec {
        included_resources: stored_resources(wish.status_include, kinds)?.unwrap_or_default(),
        excluded_resources: stored_resources(wish.status_exclude, kinds)?.unwrap_or_default(),
    };
    let spec = RestoreSpec {
        backup_name: wish.backup.to_string(),
        included_namespaces: namespaces(&scope.included_namespaces)?.or_else(|| Some(everything())),
        excluded_namespaces: namespaces(&scope.excluded_namespaces)?,
        included_resources: stored_resources(&scope.included_resources, kinds)?,
        excluded_resources: stored_resources(&scope.excluded_resources, kinds)?,
        // Velero counts a restore without some namespaces as one of picked namespaces.
        include_cluster_resources: scope.include_cluster_resources.or_else(|| {
            (is_all(&scope.included_namespaces) && !scope.excluded_namespaces.is_empty()).then_some(true)
        }),
        label_selector: Some(&scope.selector)
            .filter(|selector| !selector.is_empty())
            .and_then(as_json),
        or_label_selectors: (!alternatives.is_empty())
            .then(|| alternatives.iter().filter_map(as_json).collect()),
        namespace_mapping: wish.namespace_mappings.clone(),
        restore_volumes: (!wish.restore_volumes).then_some(false),
        preserve_node_ports: wish.preserve_node_ports.then_some(true),
        restore_status: Some(status).filter(|status| *status != RestoreStatusSpec::default()),
        existing_resource_policy: Some(wish.existing.to_owned()),
        resource_modifier: wish.resource_modifier.map(ConfigMapReference::new),
        hooks: wish.hooks.cloned(),
    };
    Ok(Restore::new(wish.name.as_str(), namespace, spec))
}

/// As [`resources`], for words about what a backup holds: a kind that the cluster does not serve yet may come with the
/// restore, if it is written in full.
fn stored_resources(
    names: &ResourceNames,
    kinds: &[DiscoveredKind],
) -> Result<Option<Vec<String>>, VeleroError> {
    if names.is_empty() {
        return Ok(None);
    }
    if names.words().iter().any(|word| word == "*") {
        return Ok(Some(everything()));
    }
    let mut words: Vec<String> = Vec::new();
    for word in names.words() {
        let found = match resource_names::resolve(word, kinds) {
            Ok(found) => found.iter().map(|kind| kind.api.resource_group()).collect(),
            Err(_) if word.contains('.') => vec![word.clone()],
            Err(error) => return Err(error.into()),
        };
        for word in found {
            if !words.contains(&word) {
                words.push(word);
            }
        }
    }
    Ok(Some(words))
}

/// A flag that only engine direct knows.
pub fn unsupported(what: &str, reason: &'static str) -> VeleroError {
    VeleroError::Unsupported {
        what: what.to_owned(),
        reason,
        next: USE_DIRECT,
    }
}

#[cfg(test)]
mod tests;
