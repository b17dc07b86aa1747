//! What there is to back up: the cluster's identity, its kinds and its namespaces, and what the scope makes of them.
//!
//! The first step of a backup. It touches the API server and gives a plan of lists; nothing is stored yet.

use std::collections::BTreeSet;

use backup_plan::{
    kinds::{self, DiscoveredKind},
    scope::{Extent, Filter, KindDecision, Scope},
};
use velero_model::{outcome::NotListed, resource::ApiKind};

use super::BackupError;
use crate::api::{ApiClient, ApiError, ClusterIdentity, ListRequest, object_path};

/// Namespaces up to which a kind is listed once in each instead of once over the whole cluster.
const LIST_EACH_MAX: usize = 24;

/// One kind to list and where.
#[derive(Debug, Clone)]
pub(super) struct KindTask {
    pub(super) kind: ApiKind,
    /// Namespaces to list in; empty for one list over the whole cluster.
    pub(super) namespaces: Vec<String>,
    /// Namespaces to list in if the list over the whole cluster is forbidden.
    pub(super) otherwise: Vec<String>,
}

/// The plan of a backup.
#[derive(Debug)]
pub(super) struct Inventory {
    pub(super) identity: ClusterIdentity,
    pub(super) filter: Filter,
    pub(super) kinds: Vec<DiscoveredKind>,
    pub(super) tasks: Vec<KindTask>,
    /// Namespaces by name that exist and are in scope; `None` when they could not be listed.
    pub(super) namespaces: Option<BTreeSet<String>>,
    /// The kind of namespaces, listed last: whether one is taken may depend on what is in it.
    pub(super) namespace_kind: Option<ApiKind>,
    pub(super) not_listed: Vec<NotListed>,
    pub(super) warnings: Vec<String>,
}

/// Looks at the cluster and decides what to list.
pub(super) async fn take(api: &ApiClient, scope: &Scope) -> Result<Inventory, BackupError> {
    let (identity, discovery, listed) =
        tokio::try_join!(api.identity(), api.discover(), list_namespaces(api))?;
    let choice = kinds::choose(&discovery.kinds);
    let mut filter = scope.resolve(&choice.taken)?;
    let mut warnings = Vec::new();
    let namespaces = match listed {
        Listed::Namespaces(namespaces) => Some(in_scope(&mut filter, namespaces)?),
        Listed::Forbidden(error) => named_namespaces(api, &filter, &mut warnings, error).await?,
    };
    let mut not_listed: Vec<NotListed> = choice
        .skipped
        .iter()
        .map(|(kind, rule)| NotListed {
            what: format!("{}/{}", kind.resource_group(), kind.version),
            rule: rule.id().to_owned(),
            reason: rule.to_string(),
            is_error: false,
        })
        .collect();
    not_listed.extend(discovery.failed_groups.iter().map(|failed| NotListed {
        what: format!("group {}", failed.group_version),
        rule: "error".to_owned(),
        reason: failed.reason.clone(),
        is_error: true,
    }));
    let mut tasks = Vec::new();
    let mut namespace_kind = None;
    for kind in &choice.taken {
        if kind.api.group.is_empty() && kind.api.plural == "namespaces" {
            namespace_kind = Some(kind.api.clone());
            continue;
        }
        match filter.decide_kind(&kind.api) {
            KindDecision::List(extent) => tasks.push(task(&kind.api, extent, namespaces.as_ref())),
            KindDecision::Skip(rule) => not_listed.push(NotListed {
                what: kind.api.resource_group(),
                rule: rule.id().to_owned(),
                reason: rule.to_string(),
                is_error: false,
            }),
        }
    }
    Ok(Inventory {
        identity,
        filter,
        kinds: choice.taken,
        tasks,
        namespaces,
        namespace_kind,
        not_listed,
        warnings,
    })
}

fn task(kind: &ApiKind, extent: Extent, namespaces: Option<&BTreeSet<String>>) -> KindTask {
    let each: Vec<String> = match (kind.namespaced, namespaces) {
        (true, Some(namespaces)) => namespaces.iter().cloned().collect(),
        _ => Vec::new(),
    };
    let kind = kind.clone();
    if extent == Extent::PerNamespace && each.len() <= LIST_EACH_MAX {
        KindTask {
            kind,
            namespaces: each,
            otherwise: Vec::new(),
        }
    } else {
        let otherwise = if extent == Extent::PerNamespace {
            each
        } else {
            Vec::new()
        };
        KindTask {
            kind,
            namespaces: Vec::new(),
            otherwise,
        }
    }
}

/// The cluster's namespaces.
enum Listed {
    /// Names, and whether the namespace asks to be left out.
    Namespaces(Vec<(String, bool)>),
    /// They may not be listed.
    Forbidden(ApiError),
}

async fn list_namespaces(api: &ApiClient) -> Result<Listed, ApiError> {
    let mut pager = api.list(ListRequest {
        kind: namespace_kind(),
        namespace: None,
        selector: String::new(),
        metadata_only: true,
    });
    let mut namespaces = Vec::new();
    loop {
        match pager.next().await {
            Ok(None) => return Ok(Listed::Namespaces(namespaces)),
            Ok(Some(page)) => {
                for head in page.objects().filter_map(|(_, head)| head.ok()) {
                    let is_excluded = head.label(backup_plan::rule::EXCLUDE_LABEL) == Some("true");
                    namespaces.push((head.metadata.name.into_owned(), is_excluded));
                }
            }
            Err(error) if error.is_forbidden() => return Ok(Listed::Forbidden(error)),
            Err(error) => return Err(error),
        }
    }
}

/// Names of the namespaces in scope. Namespaces that the scope names and that do not exist are an error: a misspelt name
/// would give an empty backup.
fn in_scope(filter: &mut Filter, listed: Vec<(String, bool)>) -> Result<BTreeSet<String>, BackupError> {
    for (name, _) in listed.iter().filter(|(_, is_excluded)| *is_excluded) {
        filter.exclude_labelled_namespace(name);
    }
    let mut existing: BTreeSet<String> = listed.into_iter().map(|(name, _)| name).collect();
    let missing: Vec<String> = filter
        .missing_namespaces(&|name| existing.contains(name))
        .map(str::to_owned)
        .collect();
    if !missing.is_empty() {
        return Err(BackupError::NoSuchNamespace { names: missing });
    }
    existing.retain(|name| filter.decide_namespace_name(name).is_take());
    Ok(existing)
}

/// Where namespaces may not be listed, those named in the scope are looked at one by one.
async fn named_namespaces(
    api: &ApiClient,
    filter: &Filter,
    warnings: &mut Vec<String>,
    forbidden: ApiError,
) -> Result<Option<BTreeSet<String>>, BackupError> {
    let Some(named) = filter.named_namespaces() else {
        warnings.push(format!(
            "namespaces cannot be listed: {}",
            forbidden.server_message()
        ));
        return Ok(None);
    };
    let named: Vec<String> = named.into_iter().map(str::to_owned).collect();
    for name in &named {
        match api.get(&object_path(&namespace_kind(), None, name)).await {
            Ok(None) => {
                return Err(BackupError::NoSuchNamespace {
                    names: vec![name.clone()],
                });
            }
            Ok(Some(_)) => {}
            Err(error) if error.is_forbidden() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(named.into_iter().collect()))
}

fn namespace_kind() -> ApiKind {
    ApiKind {
        group: String::new(),
        version: "v1".into(),
        plural: "namespaces".into(),
        kind: "Namespace".into(),
        namespaced: false,
    }
}
