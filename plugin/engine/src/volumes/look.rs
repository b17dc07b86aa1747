//! Reading: policies, namespaces, claims and volumes into [`Facts`], pods one by one.

use std::collections::{BTreeMap, BTreeSet};

use backup_plan::volumes::{Claim, is_host_path_volume};
use serde::Deserialize;
use velero_model::{api::VolumeBackupPolicy, item::Head, resource::ApiKind};

use super::kind;
use crate::api::{ApiClient, ApiError, ListRequest, object_path};

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Within {
    /// In all namespaces.
    Everywhere,
    /// In these.
    Namespaces(Vec<String>),
}

impl Within {
    /// The namespaces to ask for, `None` for all at once.
    pub(super) fn places(&self) -> Vec<Option<&str>> {
        match self {
            Self::Everywhere => vec![None],
            Self::Namespaces(names) => names.iter().map(|name| Some(name.as_str())).collect(),
        }
    }
}

/// A kind that could not be read, or an object of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// `persistentvolumes`, or one object: `policy databases`.
    pub what: String,
    /// Why, in the server's words.
    pub reason: String,
    /// What is not known because of that.
    pub unknown: &'static str,
}

/// What the rules ask for beside the pods.
#[derive(Debug, Default)]
pub struct Facts {
    /// The policies of the cluster, sorted by name.
    pub policies: Vec<VolumeBackupPolicy>,
    /// Whether the cluster has policies at all; not where our API objects are not installed.
    pub has_policies: bool,
    /// Labels of namespaces; what is not here is not known.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Claims by namespace and name; `None` when they could not be read.
    pub claims: Option<BTreeMap<(String, String), Claim>>,
    /// Names of volumes that are folders of a node; `None` when volumes could not be read.
    pub host_paths: Option<BTreeSet<String>>,
    /// What could not be read.
    pub missing: Vec<Missing>,
}

impl Facts {
    /// The claim and whether its volume is a folder of the node; `None` where nothing is known of it.
    pub fn claim(&self, namespace: &str, name: &str) -> Option<(&Claim, Option<bool>)> {
        let key = (namespace.to_owned(), name.to_owned());
        let claim = self.claims.as_ref()?.get(&key)?;
        let is_host_path = claim
            .volume_name
            .as_deref()
            .and_then(|volume| Some(self.host_paths.as_ref()?.contains(volume)));
        Some((claim, is_host_path))
    }

    /// A policy by name.
    pub fn policy(&self, name: &str) -> Option<&VolumeBackupPolicy> {
        self.policies
            .iter()
            .find(|policy| policy.metadata.name.as_deref() == Some(name))
    }

    /// Takes a failure to read a kind: without permission the facts are unknown, anything else ends the run.
    fn lack(&mut self, kind: &ApiKind, error: ApiError, unknown: &'static str) -> Result<(), ApiError> {
        if !error.is_forbidden() {
            return Err(error);
        }
        self.missing.push(Missing {
            what: kind.resource_group(),
            reason: error.server_message(),
            unknown,
        });
        Ok(())
    }
}

/// Reads everything but the pods.
///
/// # Errors
/// When the server cannot be asked. What may not be read is in [`Facts::missing`].
pub async fn look(api: &ApiClient, within: &Within) -> Result<Facts, ApiError> {
    let mut facts = Facts::default();
    policies(api, &mut facts).await?;
    namespaces(api, within, &mut facts).await?;
    claims(api, within, &mut facts).await?;
    volumes(api, &mut facts).await?;
    Ok(facts)
}

async fn policies(api: &ApiClient, facts: &mut Facts) -> Result<(), ApiError> {
    let kind = kind::policies();
    let mut read = Vec::new();
    let mut unreadable = Vec::new();
    let listed = each(api, &kind, None, None, |raw, head| {
        match serde_json::from_slice::<VolumeBackupPolicy>(raw) {
            Ok(policy) => read.push(policy),
            Err(error) => unreadable.push((head.metadata.name.to_string(), error.to_string())),
        }
    })
    .await;
    facts.has_policies = true;
    match listed {
        Ok(()) => {}
        // Our API objects are not installed.
        Err(error) if error.is_not_found() => facts.has_policies = false,
        Err(error) => facts.lack(&kind, error, "which volumes policies choose")?,
    }
    for (name, reason) in unreadable {
        facts.missing.push(Missing {
            what: format!("policy {name}"),
            reason,
            unknown: "which volumes it chooses",
        });
    }
    read.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
    facts.policies = read;
    Ok(())
}

async fn namespaces(api: &ApiClient, within: &Within, facts: &mut Facts) -> Result<(), ApiError> {
    let kind = kind::namespaces();
    let unknown = "the labels of namespaces";
    match within {
        Within::Everywhere => {
            let mut read = BTreeMap::new();
            let listed = each(api, &kind, None, None, |_, head| {
                let labels = head.owned_labels();
                read.insert(head.metadata.name.to_string(), labels);
            })
            .await;
            facts.namespaces = read;
            listed.or_else(|error| facts.lack(&kind, error, unknown))
        }
        Within::Namespaces(names) => {
            for name in names {
                match api.get(&object_path(&kind, None, name)).await {
                    Ok(Some(raw)) => {
                        if let Ok(head) = Head::parse(&raw) {
                            facts.namespaces.insert(name.clone(), head.owned_labels());
                        }
                    }
                    Ok(None) => {}
                    Err(error) => facts.lack(&kind, error, unknown)?,
                }
            }
            Ok(())
        }
    }
}

async fn claims(api: &ApiClient, within: &Within, facts: &mut Facts) -> Result<(), ApiError> {
    let kind = kind::claims();
    let mut read = BTreeMap::new();
    for place in within.places() {
        let listed = each(api, &kind, place, None, |raw, head| {
            let namespace = head.metadata.namespace.as_deref().unwrap_or_default();
            // A claim of another form than we know is one of which nothing is known.
            let claim = Claim::parse(raw).unwrap_or_default();
            read.insert((namespace.to_owned(), head.metadata.name.to_string()), claim);
        })
        .await;
        if let Err(error) = listed {
            return facts.lack(
                &kind,
                error,
                "class and capacity of claims, and claims that no pod mounts",
            );
        }
    }
    facts.claims = Some(read);
    Ok(())
}

async fn volumes(api: &ApiClient, facts: &mut Facts) -> Result<(), ApiError> {
    let kind = kind::volumes();
    let mut read = BTreeSet::new();
    let listed = each(api, &kind, None, None, |raw, head| {
        if is_host_path_volume(raw).unwrap_or(false) {
            read.insert(head.metadata.name.to_string());
        }
    })
    .await;
    match listed {
        Ok(()) => {
            facts.host_paths = Some(read);
            Ok(())
        }
        Err(error) => facts.lack(
            &kind,
            error,
            "whether the volume of a claim is a folder of the node",
        ),
    }
}

/// What of a pod the rules do not ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodHead {
    /// UID.
    pub uid: String,
    /// The state that was read.
    pub resource_version: String,
    /// Since when it is being deleted.
    pub deletion_timestamp: Option<String>,
}

impl PodHead {
    /// Reads it from a pod's JSON.
    ///
    /// # Errors
    /// When it is no object with metadata.
    pub fn parse(raw: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Pod {
            metadata: PodHead,
        }
        serde_json::from_slice::<Pod>(raw).map(|pod| pod.metadata)
    }
}

/// Shows every pod.
///
/// # Errors
/// When a list cannot be had or continued: without pods there is nothing to say.
pub async fn pods(api: &ApiClient, within: &Within, mut show: impl FnMut(&[u8])) -> Result<(), ApiError> {
    for place in within.places() {
        each(api, &kind::pods(), place, None, |raw, _| show(raw)).await?;
    }
    Ok(())
}

/// Shows the pods of one name.
///
/// # Errors
/// As [`pods`].
pub async fn pods_named(
    api: &ApiClient,
    within: &Within,
    name: &str,
    mut show: impl FnMut(&[u8]),
) -> Result<(), ApiError> {
    for place in within.places() {
        each(api, &kind::pods(), place, Some(name), |raw, _| show(raw)).await?;
    }
    Ok(())
}

/// Names of the pods of a namespace.
///
/// # Errors
/// When they cannot be listed.
pub async fn pod_names(api: &ApiClient, namespace: &str) -> Result<Vec<String>, ApiError> {
    names(api, kind::pods(), Some(namespace)).await
}

/// Names of the policies.
///
/// # Errors
/// When they cannot be listed.
pub async fn policy_names(api: &ApiClient) -> Result<Vec<String>, ApiError> {
    names(api, kind::policies(), None).await
}

async fn names(api: &ApiClient, kind: ApiKind, namespace: Option<&str>) -> Result<Vec<String>, ApiError> {
    let mut pager = api.list(ListRequest {
        kind,
        namespace: namespace.map(str::to_owned),
        selector: String::new(),
        metadata_only: true,
    });
    let mut names = Vec::new();
    while let Some(page) = pager.next().await? {
        let heads = page.objects().filter_map(|(_, head)| head.ok());
        names.extend(heads.map(|head| head.metadata.name.into_owned()));
    }
    Ok(names)
}

/// Shows every object of a list that has a name.
async fn each(
    api: &ApiClient,
    kind: &ApiKind,
    namespace: Option<&str>,
    name: Option<&str>,
    mut show: impl FnMut(&[u8], &Head<'_>),
) -> Result<(), ApiError> {
    let mut pager = api.list(ListRequest {
        kind: kind.clone(),
        namespace: namespace.map(str::to_owned),
        selector: String::new(),
        metadata_only: false,
    });
    if let Some(name) = name {
        pager = pager.named(name);
    }
    while let Some(page) = pager.next().await? {
        for (raw, head) in page.objects() {
            if let Ok(head) = head {
                show(raw, &head);
            }
        }
    }
    Ok(())
}
