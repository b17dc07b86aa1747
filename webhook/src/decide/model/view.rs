//! The world as one replica sees it, and the bugs that are seeded into it.

use std::cell::Cell;

use backup_plan::disposition::{Cluster, Permission, Right, Settings, Stamp};
use jiff::Timestamp;
use velero_model::api::DECIDED_FOR;

use super::fleet::{Fleet, NAMESPACE};
use crate::decide::world::{Known, World};
use crate::review::UserInfo;

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// Nothing.
    None,
    /// What was watched is taken for what is so.
    TrustsTheCache,
    /// A choice counts for every cluster of the name.
    ForgetsTheUid,
    /// The guard says yes and stamps nothing.
    LeavesStampsOut,
    /// Rights are not asked for.
    LetsAnybodyDecide,
    /// The reconciler mirrors choices for whatever UID.
    MirrorsOlderChoices,
    /// Whatever is reported is taken for a proof.
    ReleasesWithoutProof,
    /// The mark of a move is not looked at.
    WorksUnderMove,
    /// Orders are made from what was chosen first.
    OrdersStaleChoices,
}

/// Our own ServiceAccount.
pub(super) const OURS: &str = "system:serviceaccount:kubectl-backup:backup-webhook";

/// Who may what.
pub(super) fn may(user: &str, right: Right) -> bool {
    matches!(
        (user, right),
        ("ann" | "eve", Right::Decide) | ("mover", Right::Move) | ("root", Right::BreakGlass)
    )
}

/// What one replica sees.
#[derive(Debug)]
pub(super) struct View<'f> {
    pub(super) fleet: &'f Fleet,
    pub(super) replica: usize,
    pub(super) settings: &'f Settings,
    pub(super) bug: Bug,
}

impl View<'_> {
    fn bent(&self, known: &Known) -> Known {
        match self.bug {
            Bug::ForgetsTheUid => for_whatever_uid(known),
            _ => known.clone(),
        }
    }
}

/// The choices as if they had been made for the cluster that has the name today.
pub(super) fn for_whatever_uid(known: &Known) -> Known {
    let mut bent = known.clone();
    for object in &mut bent.dispositions {
        let reference = object.spec.cluster_ref.clone();
        let Some(cluster) = known.cluster(&reference.group, &reference.kind, NAMESPACE, &reference.name)
        else {
            continue;
        };
        let annotations = object.metadata.annotations.get_or_insert_default();
        if let Some(stamp) = annotations.get(DECIDED_FOR).and_then(|text| Stamp::read(text)) {
            let moved = Stamp::write(&cluster.uid, stamp.at);
            annotations.insert(DECIDED_FOR.to_owned(), moved);
        }
        object.spec.cluster_ref.uid.clone_from(&cluster.uid);
    }
    bent
}

impl World for View<'_> {
    fn now(&self) -> Timestamp {
        self.fleet.now
    }

    fn settings(&self) -> &Settings {
        self.settings
    }

    fn is_ours(&self, user: &str) -> bool {
        user == OURS
    }

    fn cached(&self, _: Option<&str>) -> Option<Known> {
        let seen = self.fleet.replicas[self.replica].seen?;
        Some(self.bent(&self.fleet.history[seen]))
    }

    async fn live(&self, namespace: Option<&str>) -> Result<Known, String> {
        if self.bug == Bug::TrustsTheCache {
            return self.cached(namespace).ok_or_else(|| "cold".to_owned());
        }
        if self.fleet.replicas[self.replica].is_cut {
            return Err("the API server does not answer".to_owned());
        }
        Ok(self.bent(self.fleet.latest()))
    }

    async fn may(&self, user: &UserInfo, right: Right, _: &str, _: &str) -> Permission {
        match self.fleet.replicas[self.replica].is_cut {
            _ if self.bug == Bug::LetsAnybodyDecide && right == Right::Decide => Permission::Yes,
            true => Permission::Unknown("the API server does not answer".to_owned()),
            false if may(&user.username, right) => Permission::Yes,
            false => Permission::No,
        }
    }
}

/// Whether two states of a cluster differ in anything but their version.
pub(super) fn differ(a: &Cluster, b: &Cluster) -> bool {
    let plain = |cluster: &Cluster| Cluster {
        resource_version: String::new(),
        ..cluster.clone()
    };
    plain(a) != plain(b)
}

thread_local! {
    /// Deletions that passed in the schedule under way.
    pub(super) static PASSED: Cell<u64> = const { Cell::new(0) };
    /// Clusters that were let go in it because their storage was proven done.
    pub(super) static PROVEN: Cell<u64> = const { Cell::new(0) };
}
