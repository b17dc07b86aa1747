//! Our own API objects, group `kubectl-backup.io/v1alpha1`, and the keys that we read and write on objects of others.
//!
//! The types here are the contract with users of the cluster: the manifests of the CRDs are generated from them, the
//! admission suite and the plugin read and write them. Rules about them live in the plan crate; here are only shapes.

// Columns repeat their type; the lint takes `type_` of two columns for one attribute.
#[allow(clippy::duplicated_attributes)]
mod storage_disposition;
pub mod storage_work;
#[allow(clippy::duplicated_attributes)]
mod volume_backup_policy;

pub use storage_disposition::{
    BackupStorage, ClusterRef, FinalBackup, Receipt, StorageDisposition, StorageDispositionSpec,
    StorageDispositionStatus, StorageFacts, WhenLocked,
};
pub use volume_backup_policy::{
    PolicyAction, VolumeBackupPolicy, VolumeBackupPolicySpec, VolumeBackupPolicyStatus, VolumeRule,
    VolumeType,
};

/// Our API group.
pub const GROUP: &str = "kubectl-backup.io";
/// Its one version so far.
pub const VERSION: &str = "v1alpha1";

/// Velero's opt-in annotation on pods: volume names joined by commas, split without trimming.
pub const BACKUP_VOLUMES: &str = "backup.velero.io/backup-volumes";
/// Velero's opt-out annotation on pods, same form.
pub const BACKUP_VOLUMES_EXCLUDES: &str = "backup.velero.io/backup-volumes-excludes";
/// Label of namespaces and pods, `include` or `exclude`; that of the pod wins.
pub const VOLUMES_LABEL: &str = "kubectl-backup.io/volumes";
/// Annotation that the annotator leaves on a pod: the policies that chose volumes and their generations. Never read as
/// permission.
pub const CHOSEN_BY: &str = "kubectl-backup.io/volumes-chosen-by";

/// Annotation of a cluster, `Retain` or `Delete`: the short form of a [`StorageDisposition`].
pub const DISPOSITION: &str = "kubectl-backup.io/storage-disposition";
/// Annotation beside [`DISPOSITION`] and on every [`StorageDisposition`], stamped by the server: who decided.
pub const DECIDED_BY: &str = "kubectl-backup.io/storage-disposition-by";
/// Annotation beside [`DECIDED_BY`], stamped with it: `UID TIME`, the cluster that was meant and when.
pub const DECIDED_FOR: &str = "kubectl-backup.io/storage-disposition-for";
/// Annotation of a cluster that only our ServiceAccount may write: what lets it be deleted, `Retain/UID`, `Delete/UID`
/// or `BreakGlass/UID` with the UID of the cluster it was made for. The floor policy reads this alone.
pub const ACCEPTED: &str = "kubectl-backup.io/accepted-disposition";
/// Annotation of a protected cluster: its location and prefix, `NAME:PREFIX`.
pub const PROTECTED: &str = "kubectl-backup.io/protected";
/// Annotation of a protected cluster: UID of the cluster's own `kube-system`, by which its backups say whose they are.
/// With the location, it is what somebody who deletes relies on.
pub const SOURCE: &str = "kubectl-backup.io/protected-source";
/// Annotation of a protected cluster, written by our own ServiceAccount: what is at stake, as JSON of [`StorageFacts`].
pub const AT_STAKE: &str = "kubectl-backup.io/at-stake";
/// Annotation of a cluster: the reason why it is deleted without a decision. Audited.
pub const BREAK_GLASS: &str = "kubectl-backup.io/break-glass";
/// Annotation beside [`BREAK_GLASS`], stamped by the server: who broke it.
pub const BREAK_GLASS_BY: &str = "kubectl-backup.io/break-glass-by";
/// Annotation beside [`BREAK_GLASS_BY`], stamped with it: `UID TIME`.
pub const BREAK_GLASS_FOR: &str = "kubectl-backup.io/break-glass-for";
/// Finalizer of a protected cluster: holds it until what was decided is done.
pub const FINALIZER: &str = "kubectl-backup.io/backup-storage";
/// Label of namespaces that hold protected clusters.
pub const HOLDS_CLUSTERS: &str = "kubectl-backup.io/holds-protected-clusters";
/// clusterctl's mark on objects that it deletes because it has moved them.
pub const DELETE_FOR_MOVE: &str = "clusterctl.cluster.x-k8s.io/delete-for-move";

/// Resource whose verbs say who may do what about the storage of the cluster that `resourceNames` names:
/// [`DECIDE_VERB`], [`BREAK_GLASS_VERB`], [`MOVE_VERB`].
pub const DISPOSITIONS: &str = "storagedispositions";
/// Verb on [`DISPOSITIONS`]: may choose, change and withdraw, and may end protection.
pub const DECIDE_VERB: &str = "decide";
/// Verb on [`DISPOSITIONS`]: may let a cluster go without a choice.
pub const BREAK_GLASS_VERB: &str = "breakglass";
/// Verb on [`DISPOSITIONS`]: may move clusters to another management cluster.
pub const MOVE_VERB: &str = "move";
