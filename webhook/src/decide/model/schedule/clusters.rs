//! Requests about clusters.

use backup_plan::disposition::{Cluster, Owner, Right, floor};
use futures::FutureExt;
use serde_json::Value;
use velero_model::api::{
    ACCEPTED, BREAK_GLASS, DECIDED_BY, DECIDED_FOR, DELETE_FOR_MOVE, DISPOSITION, PROTECTED,
};

use super::super::book::Made;
use super::super::fleet::{CLUSTERS, Dice, NAMESPACE, json_of};
use super::super::view::{Bug, OURS, PASSED, may};
use super::request::{answered, cluster_request};
use super::{Schedule, Step};
use crate::decide::{guard, hold};
use crate::review::{Answer, Operation};

impl Schedule {
    pub(super) fn make(&mut self, user: &str, which: usize) -> Step {
        if self.fleet.clusters.contains_key(&which) {
            return Ok("is there".to_owned());
        }
        let (group, kind, name) = CLUSTERS[which];
        let mut new = Cluster {
            group: group.to_owned(),
            kind: kind.to_owned(),
            namespace: NAMESPACE.to_owned(),
            name: name.to_owned(),
            ..Cluster::default()
        };
        // What a copy of an older cluster brings along.
        if self.dice.once_in(3) {
            let uid = self.fleet.last_uid.clone().unwrap_or_else(|| "uid-1".to_owned());
            for (key, value) in [
                (DISPOSITION, "Delete".to_owned()),
                (DECIDED_BY, "ann".to_owned()),
                (DECIDED_FOR, format!("{uid} 2026-11-25T12:00:00Z")),
                (ACCEPTED, format!("Delete/{uid}")),
                (PROTECTED, "prod:x".to_owned()),
            ] {
                new.annotations.insert(key.to_owned(), value);
            }
        }
        let Some(mut new) = self.admitted(user, None, &new) else {
            return Ok(format!("{user} may not make {kind} {name}"));
        };
        new.uid = self.fleet.uid();
        let adopts = which == 0 && self.dice.once_in(2);
        if let Some(owner) = self.fleet.clusters.get(&1).filter(|_| adopts) {
            self.book.owners.insert(new.uid.clone(), owner.uid.clone());
            new.owners.push(Owner {
                uid: owner.uid.clone(),
                is_controller: true,
            });
        }
        if new.annotation(DISPOSITION).is_some() {
            return Err("a choice without the right came with a new cluster".to_owned());
        }
        self.store(user, which, None, new)?;
        Ok(format!("{user} makes {kind} {name}"))
    }

    pub(super) fn protect(&mut self, which: usize) -> Step {
        self.change("bob", which, "protects", |_, new| {
            new.annotations.insert(PROTECTED.to_owned(), "prod:x".to_owned());
        })
    }

    pub(super) fn annotate(&mut self, user: &str, which: usize) -> Step {
        self.change(user, which, "annotates", |dice, new| {
            match *dice.one(&["Retain", "Delete", "Retain", "Delete", "keep", ""]) {
                "" => new.annotations.remove(DISPOSITION),
                word => new.annotations.insert(DISPOSITION.to_owned(), word.to_owned()),
            };
            forge(dice, new);
        })
    }

    pub(super) fn strip(&mut self, user: &str, which: usize) -> Step {
        self.change(user, which, "strips", |dice, new| {
            if dice.once_in(2) {
                new.annotations.remove(PROTECTED);
            }
            if dice.once_in(2) {
                new.finalizers.clear();
            }
            forge(dice, new);
        })
    }

    pub(super) fn mark(&mut self, user: &str, which: usize) -> Step {
        let user = if self.dice.once_in(2) { "mover" } else { user };
        self.change(user, which, "marks as moved", |dice, new| {
            // clusterctl replaces the map, and takes finalizers off later; somebody's script may just add the mark.
            if dice.once_in(2) {
                new.annotations.clear();
                if dice.once_in(3) {
                    new.finalizers.clear();
                }
            }
            new.annotations.insert(DELETE_FOR_MOVE.to_owned(), String::new());
        })
    }

    pub(super) fn break_glass(&mut self, user: &str, which: usize) -> Step {
        let user = if self.dice.once_in(2) { "root" } else { user };
        self.change(user, which, "breaks the glass of", |_, new| {
            new.annotations.insert(BREAK_GLASS.to_owned(), "lost".to_owned());
        })
    }

    pub(super) fn change(
        &mut self,
        user: &str,
        which: usize,
        verb: &str,
        change: impl FnOnce(&mut Dice, &mut Cluster),
    ) -> Step {
        let Some(old) = self.fleet.clusters.get(&which).cloned() else {
            return Ok("nothing there".to_owned());
        };
        let mut new = old.clone();
        change(&mut self.dice, &mut new);
        let Some(new) = self.admitted(user, Some(&old), &new) else {
            return Ok(format!("{user} {verb} {which}: refused"));
        };
        self.store(user, which, Some(&old), new)?;
        Ok(format!("{user} {verb} {which}"))
    }

    /// The object as guard and floor let it through.
    pub(super) fn admitted(&mut self, user: &str, old: Option<&Cluster>, new: &Cluster) -> Option<Cluster> {
        let mut object = json_of(new);
        let operation = match old {
            None => Operation::Create,
            Some(_) => Operation::Update,
        };
        let request = cluster_request(user, operation, new, old.map(json_of).as_ref(), Some(&object));
        let replica = self.replica();
        let answer = answered(guard(&request, &self.guards(replica)).now_or_never());
        self.patched(&answer, &mut object)?;
        let admitted = Cluster::read(&new.group, &new.kind, &object.to_string()).unwrap();
        let passes =
            !self.has_floor || user == OURS || old.is_none_or(|old| marks_floor(user, old, &admitted));
        passes.then_some(admitted)
    }

    pub(super) fn patched(&self, answer: &Answer, object: &mut Value) -> Option<()> {
        if !answer.is_allowed() {
            return None;
        }
        if let Some(patch) = answer.patch.as_ref().filter(|_| self.bug != Bug::LeavesStampsOut) {
            json_patch::patch(object, patch).unwrap();
        }
        Some(())
    }

    /// Commits a cluster, and writes down what that means.
    pub(super) fn store(
        &mut self,
        user: &str,
        which: usize,
        old: Option<&Cluster>,
        mut new: Cluster,
    ) -> Result<(), String> {
        new.resource_version = self.fleet.version();
        if let Some(old) = old {
            self.note(user, old, &new)?;
        }
        let is_moved = new.is_marked_as_moved() && may(user, Right::Move);
        let had = old.is_some_and(|old| old.annotation(PROTECTED).is_some());
        match (had, new.annotation(PROTECTED).is_some()) {
            (false, true) => {
                self.book.protected.insert(new.uid.clone());
            }
            (true, false) if is_moved || may(user, Right::Decide) => {
                self.book.protected.remove(&new.uid);
            }
            _ => {}
        }
        // Under the mark a mover may take the finalizer off, whatever else is left.
        if is_moved && old.is_some_and(Cluster::has_finalizer) && !new.has_finalizer() {
            self.book.protected.remove(&new.uid);
        }
        self.book.saw(&new);
        if new.finalizers.is_empty() && new.is_dying() {
            self.fleet.last_uid = Some(new.uid.clone());
            self.fleet.clusters.remove(&which);
        } else {
            self.fleet.clusters.insert(which, new);
        }
        self.fleet.committed();
        Ok(())
    }

    pub(super) fn note(&mut self, user: &str, old: &Cluster, new: &Cluster) -> Result<(), String> {
        let (before, after) = (old.annotation(DISPOSITION), new.annotation(DISPOSITION));
        let is_moved = new.is_marked_as_moved() && may(user, Right::Move);
        match after {
            Some(word) if before != after => {
                if !may(user, Right::Decide) {
                    return Err(format!("{user} chose without the right"));
                }
                let made = Made {
                    uid: new.uid.clone(),
                    word: word.to_owned(),
                    author: user.to_owned(),
                    expires: None,
                };
                self.book.chose(&made);
                self.book.annotated.insert(new.uid.clone(), made);
            }
            None if before.is_some() => {
                if !may(user, Right::Decide) && !is_moved {
                    return Err(format!("{user} withdrew without the right"));
                }
                self.book.annotated.remove(&new.uid);
            }
            _ => {}
        }
        let glass = new.annotation(BREAK_GLASS);
        if glass.is_some() && glass != old.annotation(BREAK_GLASS) {
            if !may(user, Right::BreakGlass) {
                return Err(format!("{user} broke the glass without the right"));
            }
            self.book.broken.insert(new.uid.clone(), self.fleet.now);
        }
        let turned = old.is_dying()
            && old
                .annotation(ACCEPTED)
                .is_some_and(|says| says.starts_with("Retain"))
            && new
                .annotation(ACCEPTED)
                .is_some_and(|says| says.starts_with("Delete"));
        if turned && old.has_finalizer() && !new.is_marked_as_moved() {
            Err("the mirror of a cluster that is going turned from Retain to Delete".to_owned())
        } else {
            Ok(())
        }
    }

    pub(super) fn delete(&mut self, user: &str, which: usize) -> Step {
        let Some(cluster) = self.fleet.clusters.get(&which).cloned() else {
            return Ok("nothing there".to_owned());
        };
        let mut request = cluster_request(user, Operation::Delete, &cluster, Some(&json_of(&cluster)), None);
        if self.dice.once_in(3) {
            request.name.clear();
        }
        let replica = self.replica();
        let answer = answered(hold(&request, &self.view(replica)).now_or_never());
        let is_dry = self.dice.once_in(4);
        if is_dry {
            request.dry_run = true;
            let dry = answered(hold(&request, &self.view(replica)).now_or_never());
            if dry != answer {
                return Err("a dry run was answered otherwise".to_owned());
            }
        }
        let what = format!("{user} deletes {which}");
        if !answer.is_allowed() {
            return Ok(format!("{what}: refused"));
        }
        let moves = cluster.is_marked_as_moved() && may(user, Right::Move);
        self.book.judge(&cluster, self.fleet.now, moves)?;
        if self.book.protected.contains(&cluster.uid) && !cluster.is_dying() {
            PASSED.set(PASSED.get() + 1);
        }
        let passes = floor(&cluster, may(user, Right::Move), may(user, Right::BreakGlass));
        if is_dry || self.has_floor && !passes {
            return Ok(format!("{what}: not done"));
        }
        let mut gone = cluster.clone();
        gone.deletion.get_or_insert(self.fleet.now);
        gone.resource_version = self.fleet.version();
        self.book.saw(&gone);
        if gone.finalizers.is_empty() {
            self.fleet.last_uid = Some(gone.uid);
            self.fleet.clusters.remove(&which);
        } else {
            self.fleet.clusters.insert(which, gone);
        }
        self.fleet.committed();
        Ok(what)
    }
}

/// What people write who would rather not be stopped.
fn forge(dice: &mut Dice, new: &mut Cluster) {
    if dice.once_in(3) {
        new.annotations.insert(DECIDED_BY.to_owned(), "ann".to_owned());
        let stamp = format!("{} 2026-11-25T12:00:00Z", new.uid);
        new.annotations.insert(DECIDED_FOR.to_owned(), stamp);
    }
    if dice.once_in(3) {
        new.annotations
            .insert(ACCEPTED.to_owned(), format!("Delete/{}", new.uid));
    }
}

/// The floor policy about marks, in Rust.
fn marks_floor(user: &str, old: &Cluster, new: &Cluster) -> bool {
    let keeps_mirror =
        new.annotation(ACCEPTED).is_none() || new.annotation(ACCEPTED) == old.annotation(ACCEPTED);
    let loses = old.annotation(PROTECTED).is_some() && new.annotation(PROTECTED).is_none()
        || old.has_finalizer() && !new.has_finalizer();
    let may_lose = new.is_marked_as_moved() && may(user, Right::Move) || may(user, Right::Decide);
    keeps_mirror && (!loses || may_lose)
}
