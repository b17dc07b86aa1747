//! Who really chose what, for which UID, written down as requests are committed, and what must hold by that book.

use std::collections::{BTreeMap, BTreeSet};

use backup_plan::disposition::Cluster;
use jiff::{SignedDuration, Timestamp};
use velero_model::api::{
    ACCEPTED, BREAK_GLASS, DECIDED_BY, DISPOSITION, FINALIZER, PROTECTED, StorageDisposition,
};

use super::fleet::Fleet;

/// A choice that was really made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) uid: String,
    pub(super) word: String,
    pub(super) author: String,
    pub(super) expires: Option<Timestamp>,
}

/// The book.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// By the UID of the cluster whose annotation it is.
    pub(super) annotated: BTreeMap<String, Made>,
    /// By the name of the StorageDisposition.
    pub(super) written: BTreeMap<String, Made>,
    /// Everything that was ever chosen: UID and word.
    pub(super) ever: BTreeSet<(String, String)>,
    /// UIDs whose glass was broken, and when.
    pub(super) broken: BTreeMap<String, Timestamp>,
    /// UIDs that are protected.
    pub(super) protected: BTreeSet<String>,
    /// What the mirror said while the cluster was going: UID and word.
    pub(super) going: BTreeSet<(String, String)>,
    /// UIDs that were marked as moved before they were going.
    pub(super) moved: BTreeSet<String>,
    /// UIDs whose owner may stand in, with the owner's.
    pub(super) owners: BTreeMap<String, String>,
}

impl Book {
    pub(super) fn chose(&mut self, made: &Made) {
        let _ = self.ever.insert((made.uid.clone(), made.word.clone()));
    }

    /// Notes a state of a cluster that is stored.
    pub(super) fn saw(&mut self, cluster: &Cluster) {
        let uid = cluster.uid.clone();
        match (cluster.is_dying(), cluster.is_marked_as_moved()) {
            (false, true) => drop(self.moved.insert(uid)),
            (false, false) => drop(self.moved.remove(&uid)),
            (true, _) => {
                if let Some((word, _)) = cluster.annotation(ACCEPTED).and_then(|says| says.split_once('/')) {
                    self.going.insert((uid, word.to_owned()));
                }
            }
        }
    }

    /// Whether this may be ordered for that UID.
    pub(super) fn orders(&self, uid: &str, word: &str) -> Result<(), String> {
        if self.moved.contains(uid) {
            return Err(format!("work for a moved cluster, {uid}"));
        }
        if self.going.contains(&(uid.to_owned(), word.to_owned())) {
            Ok(())
        } else {
            Err(format!("an order to {word} for {uid} from a stale choice"))
        }
    }

    /// The words that stand for this UID now.
    fn stands(&self, uid: &str, now: Timestamp) -> BTreeSet<&str> {
        let annotated = self.annotated.get(uid).into_iter();
        let written = self.written.values().filter(|made| made.uid == uid);
        annotated
            .chain(written)
            .filter(|made| made.expires.is_none_or(|expires| now < expires))
            .map(|made| made.word.as_str())
            .collect()
    }

    /// Whether this deletion was right. `moves` is whether a mover asks for what is marked as moved.
    pub(super) fn judge(&self, cluster: &Cluster, now: Timestamp, moves: bool) -> Result<(), String> {
        let uid = &cluster.uid;
        if cluster.is_dying() || moves || !self.protected.contains(uid) {
            return Ok(());
        }
        let is_broken = self
            .broken
            .get(uid)
            .is_some_and(|at| now < at.checked_add(SignedDuration::from_hours(1)).unwrap());
        let inherits = self
            .owners
            .get(uid)
            .is_some_and(|owner| !self.stands(owner, now).is_empty());
        if self.stands(uid, now).is_empty() && !inherits && !is_broken {
            Err(format!("undecided {} {uid} passed", cluster.name))
        } else {
            Ok(())
        }
    }

    /// What must hold of everything that is stored.
    pub(super) fn check(&self, fleet: &Fleet) -> Result<(), String> {
        fleet
            .clusters
            .values()
            .try_for_each(|cluster| self.check_cluster(cluster))?;
        fleet
            .dispositions
            .values()
            .try_for_each(|object| self.check_object(object))
    }

    fn check_cluster(&self, cluster: &Cluster) -> Result<(), String> {
        let uid = &cluster.uid;
        let author = cluster.annotation(DECIDED_BY);
        let made = self.annotated.get(uid).map(|made| made.author.as_str());
        if author.is_some() && author != made {
            return Err(format!("author {author:?} under an annotation of {made:?}"));
        }
        if cluster.annotation(DISPOSITION).is_some() && made.is_none() {
            return Err("a choice without the right".to_owned());
        }
        if cluster.annotation(BREAK_GLASS).is_some() && !self.broken.contains_key(uid) {
            return Err("a broken glass without the right".to_owned());
        }
        let bare = !cluster.annotations.contains_key(PROTECTED)
            || !cluster.finalizers.iter().any(|finalizer| finalizer == FINALIZER);
        if self.protected.contains(uid) && bare && !cluster.is_dying() {
            return Err(format!("{uid} lost its protection"));
        }
        let Some((word, of)) = cluster.annotation(ACCEPTED).and_then(|says| says.split_once('/')) else {
            return match cluster.annotation(ACCEPTED) {
                None => Ok(()),
                Some(says) => Err(format!("mirror says {says:?}")),
            };
        };
        let chosen = |uid: &String| self.ever.contains(&(uid.clone(), word.to_owned()));
        let is_true = of == uid
            && match word {
                "BreakGlass" => self.broken.contains_key(uid),
                _ => chosen(uid) || self.owners.get(uid).is_some_and(chosen),
            };
        if is_true {
            Ok(())
        } else {
            Err(format!("mirror of {uid} claims {word}/{of}"))
        }
    }

    fn check_object(&self, object: &StorageDisposition) -> Result<(), String> {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let author = object
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(DECIDED_BY));
        let Some(made) = self.written.get(name) else {
            return Err(format!("storagedisposition {name} without the right"));
        };
        if author.is_none_or(|author| *author == made.author) {
            Ok(())
        } else {
            Err(format!("author {author:?} under an object of {:?}", made.author))
        }
    }
}
