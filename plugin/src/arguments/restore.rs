//! `restore BACKUP [KIND/NAME...]`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{
    mover::{HookFlags, PasswordFlag},
    pods::InClusterFlags,
    scope::ScopeFlags,
};

/// Bring back a backup, or parts of it
///
/// What exists already and differs is left alone and reported, unless --existing-resource-policy says otherwise. --plan
/// shows what would be done, asks the API server about every object, and changes nothing.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  kubectl backup restore nightly --plan                            what would be done, and what would be refused
  kubectl backup restore nightly                                   everything in it
  kubectl backup restore nightly secret/login -n shop              one object
  kubectl backup restore nightly -n shop --namespace-mappings shop:shop-test
  kubectl backup restore --from-schedule nightly                   the schedule's newest backup")]
pub(crate) struct Restore {
    /// Name of the backup.
    #[arg(value_name = "BACKUP", required_unless_present = "from_schedule", add = crate::completion::backups())]
    pub(crate) backup: Option<String>,

    /// Bring back only these objects.
    #[arg(value_name = "KIND/NAME")]
    pub(crate) objects: Vec<String>,

    /// Take the newest restorable backup of this schedule instead of BACKUP.
    #[arg(long, value_name = "SCHEDULE")]
    pub(crate) from_schedule: Option<String>,

    /// Name of the restore; <backup>-<time> by default.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    #[command(flatten)]
    pub(crate) scope: ScopeFlags,

    /// Bring namespaces back under other names, such as shop:shop-test,db:db-test.
    #[arg(long, value_name = "OLD:NEW", value_delimiter = ',')]
    pub(crate) namespace_mappings: Vec<String>,

    /// Give claims and volumes other storage classes, such as fast:gp3.
    #[arg(long, value_name = "OLD:NEW", value_delimiter = ',')]
    pub(crate) storage_class_mappings: Vec<String>,

    /// Take images from elsewhere: the beginnings of their names, such as docker.io:mirror.local/hub; with ports write OLD=NEW.
    #[arg(long, value_name = "OLD:NEW", value_delimiter = ',')]
    pub(crate) image_mappings: Vec<String>,

    /// Change objects by the rules in this ConfigMap of Velero's namespace, as Velero does.
    #[arg(long, value_name = "NAME", conflicts_with = "resource_modifier_file")]
    pub(crate) resource_modifier_configmap: Option<String>,

    /// Change objects by the rules in this file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) resource_modifier_file: Option<PathBuf>,

    /// For objects that exist and differ: none, update, replace, recreate or fail; KIND=POLICY for one kind.
    ///
    /// none leaves them alone, update applies the backup's fields, replace makes them what the backup holds, recreate deletes
    /// them and makes them anew (asks first), fail counts them as failures.
    #[arg(
        long,
        value_name = "POLICY[,KIND=POLICY...]",
        value_delimiter = ',',
        default_value = "none"
    )]
    pub(crate) existing_resource_policy: Vec<String>,

    /// Show what would be done with every object and why; write nothing. --dry-run means the same.
    #[arg(long)]
    pub(crate) plan: bool,

    /// Put back which manager set which field; costs one more request for each object.
    #[arg(long)]
    pub(crate) restore_managed_fields: bool,

    /// Keep the node ports that services had.
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub(crate) preserve_nodeports: Option<bool>,

    /// Keep the cluster addresses that services had; one that is taken or out of range is refused.
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub(crate) preserve_cluster_ips: Option<bool>,

    /// Kinds whose status is brought back too; * for all.
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub(crate) status_include_resources: Vec<String>,

    /// Kinds whose status is not brought back.
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub(crate) status_exclude_resources: Vec<String>,

    /// Bring back volumes too, as far as the backup holds them.
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub(crate) restore_volumes: Option<bool>,

    /// Write the data of the backup over claims that are there already and that no running pod uses; asks first.
    #[arg(long)]
    pub(crate) overwrite_volumes: bool,

    #[command(flatten)]
    pub(crate) hooks: HookFlags,

    #[command(flatten)]
    pub(crate) password: PasswordFlag,

    #[command(flatten)]
    pub(crate) in_cluster: InClusterFlags,
}
