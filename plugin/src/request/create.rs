//! `create` as meant.

use std::{collections::BTreeMap, time::Duration};

use backup_engine::volumes::moves::OptIn;
use backup_plan::scope::Scope;
use jiff::Timestamp;
use velero_model::{
    duration::GoDuration,
    keep::{KEEP, Keep},
    name::BackupName,
    time,
};

use super::{
    DocumentSource, InCluster, Movers, Place, RequestError, documents, fields, in_cluster, retention, scope,
};
use crate::arguments::{
    create::{BackupFlags, Create as Typed},
    environment::Environment,
    global::Global,
    mover::{VolumeFlags, VolumeMethod},
    pods::PodFlags,
};

/// How long a backup is kept if nothing is said: Velero's own 30 days.
const DEFAULT_TTL_HOURS: u64 = 720;

/// A backup to make.
#[derive(Debug, Clone)]
pub(crate) struct Create {
    /// Where to store it; `None` for a preview, which stores nothing.
    pub(crate) place: Option<Place>,
    pub(crate) name: BackupName,
    pub(crate) name_is_made_up: bool,
    pub(crate) scope: Scope,
    /// `None` keeps it for ever.
    pub(crate) ttl: Option<GoDuration>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) lock_until: Option<Timestamp>,
    /// Bytes per second.
    pub(crate) upload_bandwidth: Option<u64>,
    /// The schedule that it is a backup of.
    pub(crate) schedule: Option<String>,
    /// Counts that it carries.
    pub(crate) keep: Option<Keep>,
    /// Whether its schedule is thinned out afterwards.
    pub(crate) apply_retention: bool,
    /// How much later it may begin.
    pub(crate) jitter: Option<Duration>,
    /// To be done by a pod.
    pub(crate) in_cluster: Option<InCluster>,
    /// Whether and how the data of volumes is stored.
    pub(crate) volumes: Option<VolumeData>,
}

/// What is to become of volumes.
#[derive(Debug, Clone)]
pub(crate) struct VolumeData {
    pub(crate) opt_in: OptIn,
    pub(crate) in_flight: usize,
    pub(crate) movers: Movers,
    /// Velero's resource policies.
    pub(crate) policies: Option<DocumentSource>,
    /// Hooks beside those of pods.
    pub(crate) hooks: Option<DocumentSource>,
}

impl Create {
    /// Annotations of the backup, its counts among them.
    pub(crate) fn all_annotations(&self) -> BTreeMap<String, String> {
        let mut annotations = self.annotations.clone();
        if let Some(keep) = &self.keep {
            annotations.insert(KEEP.to_owned(), keep.to_string());
        }
        annotations
    }
}

pub(super) fn parse(
    typed: Typed,
    global: &Global,
    place: Option<Place>,
    environment: &Environment,
) -> Result<Create, RequestError> {
    let keep = retention::counts(typed.keep)?;
    if keep.is_some() && typed.for_schedule.is_none() {
        return Err(RequestError::flag(
            "--keep-...",
            "",
            "counts are about schedules; give --for-schedule too, or use `retention plan`",
        ));
    }
    if typed.apply_retention && !global.yes {
        return Err(RequestError::flag(
            "--apply-retention",
            "",
            "it deletes backups; give --yes too",
        ));
    }
    let jitter = typed
        .jitter
        .as_deref()
        .map(|text| fields::duration("--jitter", text))
        .transpose()?;
    let is_by_pod = typed.in_cluster.in_cluster;
    let volumes = volumes(
        &typed.volumes,
        &typed.in_cluster.pods,
        is_by_pod,
        global,
        environment,
    )?;
    let in_cluster = in_cluster::parse(typed.in_cluster, "create", environment)?;
    match (&in_cluster, &place) {
        (Some(_), Some(place)) => in_cluster::visible(place)?,
        (Some(_), None) => {
            return Err(RequestError::flag(
                "--in-cluster",
                "",
                "a preview is made here; leave one of --in-cluster and --dry-run out",
            ));
        }
        (None, _) => {}
    }
    let made_up = parse_flags(typed.backup, typed.for_schedule, global, environment)?;
    Ok(Create {
        place,
        name: match &typed.name {
            Some(name) => fields::name(name)?,
            None => made_up.name.clone(),
        },
        name_is_made_up: typed.name.is_none(),
        keep,
        apply_retention: typed.apply_retention,
        jitter: jitter.map(|jitter| jitter.0),
        in_cluster,
        volumes,
        ..made_up
    })
}

/// What is to become of volumes; `None` leaves their data out.
pub(super) fn volumes(
    typed: &VolumeFlags,
    pods: &PodFlags,
    is_by_pod: bool,
    global: &Global,
    environment: &Environment,
) -> Result<Option<VolumeData>, RequestError> {
    if typed.volumes_in_flight == 0 {
        return Err(RequestError::flag(
            "--volumes-in-flight",
            "0",
            "give at least one",
        ));
    }
    let policies = documents::source(
        documents::POLICIES,
        typed.resource_policies_configmap.clone(),
        typed.resource_policies_file.clone(),
    )?;
    let hooks = documents::source(
        documents::HOOKS,
        typed.hooks.hooks_configmap.clone(),
        typed.hooks.hooks_file.clone(),
    )?;
    if typed.volume_method == VolumeMethod::None {
        let stray = [
            (
                "--default-volumes-to-fs-backup",
                typed.default_volumes_to_fs_backup,
            ),
            ("--resource-policies-...", policies.is_some()),
            ("--hooks-...", hooks.is_some()),
        ];
        return match stray.into_iter().find(|(_, is_given)| *is_given) {
            Some((flag, _)) => Err(RequestError::flag(
                flag,
                "",
                "it is about the data of volumes, which --volume-method none leaves out",
            )),
            None => Ok(None),
        };
    }
    documents::visible(documents::POLICIES, policies.as_ref(), is_by_pod)?;
    documents::visible(documents::HOOKS, hooks.as_ref(), is_by_pod)?;
    Ok(Some(VolumeData {
        opt_in: if typed.default_volumes_to_fs_backup {
            OptIn::AllButExcluded
        } else {
            OptIn::Listed
        },
        in_flight: typed.volumes_in_flight,
        movers: in_cluster::movers(&typed.password, pods, global, environment)?,
        policies,
        hooks,
    }))
}

/// A backup with a made-up name.
pub(super) fn parse_flags(
    typed: BackupFlags,
    schedule: Option<String>,
    global: &Global,
    environment: &Environment,
) -> Result<Create, RequestError> {
    let now = environment.now;
    let stem = schedule.as_deref().unwrap_or("backup");
    let ttl = match &typed.ttl {
        Some(text) => Some(fields::duration("--ttl", text)?).filter(|ttl| !ttl.0.is_zero()),
        None => Some(GoDuration::from_hours(DEFAULT_TTL_HOURS)),
    };
    let bandwidth = typed.upload_bandwidth.as_deref();
    let lock = typed.lock_until.as_deref();
    Ok(Create {
        place: None,
        name: BackupName::parse(&format!("{stem}-{}", time::compact(now)))?,
        name_is_made_up: true,
        ttl,
        labels: fields::pairs("--labels", &typed.labels, true)?,
        annotations: fields::pairs("--annotations", &typed.annotations, false)?,
        lock_until: lock
            .map(|text| fields::until("--lock-until", text, now))
            .transpose()?,
        upload_bandwidth: bandwidth
            .map(|text| fields::bytes("--upload-bandwidth", text))
            .transpose()?,
        scope: scope::parse(typed.scope, typed.ordered_resources.as_deref(), global)?,
        schedule,
        keep: None,
        apply_retention: false,
        jitter: None,
        volumes: None,
        in_cluster: None,
    })
}

/// `--requests-per-second`, which is a property of the connection.
pub(super) fn requests_per_second(typed: &BackupFlags) -> Result<Option<f64>, RequestError> {
    let Some(text) = typed.requests_per_second.as_deref() else {
        return Ok(None);
    };
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(Some(number)),
        _ => Err(RequestError::flag(
            "--requests-per-second",
            text,
            "write a number above 0, such as 50",
        )),
    }
}
