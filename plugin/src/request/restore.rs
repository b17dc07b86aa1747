//! `restore` as meant.

use std::collections::{BTreeMap, BTreeSet};

use backup_plan::{resource_names::ResourceNames, restore::policy::Policies, scope::Scope};
use jiff::Timestamp;
use velero_model::{name::BackupName, time};

use super::{
    DocumentSource, InCluster, Movers, ObjectWord, Place, RequestError, documents, fields, in_cluster, scope,
};
use crate::arguments::{self, environment::Environment, global::Global};

/// A restore to make.
#[derive(Debug, Clone)]
pub(crate) struct Restore {
    pub(crate) place: Place,
    pub(crate) source: RestoreSource,
    /// As given; else made from the backup's name.
    pub(crate) name: Option<BackupName>,
    pub(crate) scope: Scope,
    /// Only these objects, if there are any.
    pub(crate) only: Vec<ObjectWord>,
    pub(crate) namespace_mappings: BTreeMap<String, String>,
    pub(crate) existing: Policies,
    /// Decide only.
    pub(crate) plan: bool,
    pub(crate) managed_fields: bool,
    pub(crate) preserve_node_ports: bool,
    pub(crate) preserve_cluster_ips: bool,
    pub(crate) storage_class_mappings: BTreeMap<String, String>,
    pub(crate) image_mappings: BTreeMap<String, String>,
    pub(crate) modifiers: Option<DocumentSource>,
    /// Hooks beside those of pods.
    pub(crate) hooks: Option<DocumentSource>,
    /// Claims that are there get the data of the backup.
    pub(crate) overwrite_volumes: bool,
    pub(crate) status_include: ResourceNames,
    pub(crate) status_exclude: ResourceNames,
    pub(crate) restore_volumes: bool,
    /// What movers are made with.
    pub(crate) movers: Movers,
    pub(crate) now: Timestamp,
    /// To be done by a pod.
    pub(crate) in_cluster: Option<InCluster>,
}

/// From which backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RestoreSource {
    Backup(BackupName),
    /// The newest restorable one of a schedule.
    Schedule(String),
}

impl Restore {
    /// The restore's name, given the backup's.
    pub(crate) fn name_for(&self, backup: &BackupName) -> Result<BackupName, RequestError> {
        match &self.name {
            Some(name) => Ok(name.clone()),
            None => Ok(BackupName::parse(&format!(
                "{backup}-{}",
                time::compact(self.now)
            ))?),
        }
    }
}

pub(super) fn parse(
    typed: arguments::restore::Restore,
    global: &Global,
    place: Place,
    environment: &Environment,
) -> Result<Restore, RequestError> {
    let movers = in_cluster::movers(&typed.password, &typed.in_cluster.pods, global, environment)?;
    let in_cluster = in_cluster::parse(typed.in_cluster, "restore", environment)?;
    if in_cluster.is_some() {
        in_cluster::visible(&place)?;
    }
    let modifiers = documents::source(
        documents::MODIFIERS,
        typed.resource_modifier_configmap,
        typed.resource_modifier_file,
    )?;
    let hooks = documents::source(
        documents::HOOKS,
        typed.hooks.hooks_configmap,
        typed.hooks.hooks_file,
    )?;
    documents::visible(documents::MODIFIERS, modifiers.as_ref(), in_cluster.is_some())?;
    documents::visible(documents::HOOKS, hooks.as_ref(), in_cluster.is_some())?;
    let restore_volumes = typed.restore_volumes.unwrap_or(true);
    if typed.overwrite_volumes && !restore_volumes {
        return Err(RequestError::flag(
            "--overwrite-volumes",
            "",
            "--restore-volumes=false leaves all data out; leave one of the two out",
        ));
    }
    let (source, objects) = source_and_objects(typed.backup, typed.objects, typed.from_schedule)?;
    let namespace = match (objects.is_empty(), global.namespace.as_slice()) {
        (true, _) | (_, []) => None,
        (false, _) => fields::one_namespace(global)?,
    };
    let only = objects
        .iter()
        .map(|word| ObjectWord::parse(word, namespace.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Restore {
        place,
        source,
        name: typed.name.as_deref().map(fields::restore_name).transpose()?,
        scope: scope::parse(typed.scope, None, global)?,
        only,
        namespace_mappings: mappings(&typed.namespace_mappings)?,
        existing: policies(&typed.existing_resource_policy)?,
        plan: typed.plan || fields::is_dry_run(global),
        managed_fields: typed.restore_managed_fields,
        preserve_node_ports: typed.preserve_nodeports.unwrap_or(false),
        preserve_cluster_ips: typed.preserve_cluster_ips.unwrap_or(false),
        storage_class_mappings: pairs("--storage-class-mappings", &typed.storage_class_mappings)?,
        image_mappings: pairs("--image-mappings", &typed.image_mappings)?,
        modifiers,
        hooks,
        overwrite_volumes: typed.overwrite_volumes,
        status_include: ResourceNames::new(typed.status_include_resources),
        status_exclude: ResourceNames::new(typed.status_exclude_resources),
        restore_volumes,
        movers,
        now: environment.now,
        in_cluster,
    })
}

/// With `--from-schedule` there is no BACKUP, so that the first word is an object already.
fn source_and_objects(
    backup: Option<String>,
    mut objects: Vec<String>,
    schedule: Option<String>,
) -> Result<(RestoreSource, Vec<String>), RequestError> {
    match (backup, schedule) {
        (Some(word), Some(schedule)) if word.contains('/') && !word.starts_with("backup") => {
            objects.insert(0, word);
            Ok((RestoreSource::Schedule(schedule), objects))
        }
        (Some(word), Some(_)) => Err(RequestError::flag(
            "--from-schedule",
            &word,
            "it stands in for BACKUP; give one of the two",
        )),
        (Some(word), None) => Ok((RestoreSource::Backup(fields::name(&word)?), objects)),
        (None, Some(schedule)) => Ok((RestoreSource::Schedule(schedule), objects)),
        (None, None) => Err(RequestError::flag("restore", "", "name a backup")),
    }
}

/// Pairs of names. Images have ports and tags, so that a colon may not say where one name ends; `=` always does.
fn pairs(flag: &'static str, words: &[String]) -> Result<BTreeMap<String, String>, RequestError> {
    let mut pairs = BTreeMap::new();
    for word in words {
        let (from, to) = match (word.split_once('='), word.split_once(':')) {
            (Some(pair), _) => pair,
            (None, Some((from, to))) if !to.contains(':') => (from, to),
            (None, Some(_)) => {
                return Err(RequestError::flag(
                    flag,
                    word,
                    "it has several colons, so it is not clear where the new name begins; write OLD=NEW",
                ));
            }
            (None, None) => return Err(RequestError::flag(flag, word, "write OLD:NEW")),
        };
        let (from, to) = (from.trim_end_matches('/'), to.trim_end_matches('/'));
        if from.is_empty() || to.is_empty() {
            return Err(RequestError::flag(flag, word, "one side is empty; write OLD:NEW"));
        }
        if pairs.insert(from.to_owned(), to.to_owned()).is_some() {
            return Err(RequestError::flag(flag, word, "it is mapped twice"));
        }
    }
    Ok(pairs)
}

fn policies(words: &[String]) -> Result<Policies, RequestError> {
    Policies::parse(words).map_err(|error| {
        RequestError::flag("--existing-resource-policy", &words.join(","), error.to_string())
    })
}

fn mappings(words: &[String]) -> Result<BTreeMap<String, String>, RequestError> {
    const FLAG: &str = "--namespace-mappings";
    let mut mappings = BTreeMap::new();
    let mut targets = BTreeSet::new();
    for word in words {
        let (from, to) = word
            .split_once(':')
            .ok_or_else(|| RequestError::flag(FLAG, word, "write OLD:NEW"))?;
        if !fields::is_namespace_name(from) || !fields::is_namespace_name(to) {
            return Err(RequestError::flag(
                FLAG,
                word,
                "one side is no name of a namespace",
            ));
        }
        if mappings.insert(from.to_owned(), to.to_owned()).is_some() {
            return Err(RequestError::flag(FLAG, word, "a namespace is mapped twice"));
        }
        if !targets.insert(to.to_owned()) {
            // Objects of the same name would collide, and which one wins would be chance.
            return Err(RequestError::flag(
                FLAG,
                word,
                "two namespaces are mapped to the same one",
            ));
        }
    }
    Ok(mappings)
}
