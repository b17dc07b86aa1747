//! Which new object an old owner has become.
//!
//! In come the UIDs that objects of the restore name as owners, then what became of each owner; out go the references that
//! may be written. A reference with a UID that no live object has would make the garbage collector delete the object, so
//! one is only ever written with the UID that the API server gave. Memory: only UIDs that something refers to are kept, 16
//! bytes each way.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry as Slot},
    sync::{Mutex, MutexGuard, PoisonError},
};

use backup_plan::restore::transform::Owner;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// What is known about an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not among the objects that are restored; whether it lives has not been asked.
    Outside,
    /// Will be restored.
    Expected,
    /// Restored or found; this is its UID now.
    Known(Uuid),
    /// In the backup, and left to a controller or ended.
    LeftOut,
    /// Neither restored nor alive.
    Gone,
}

/// What to write as an object's owners.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct References {
    /// `metadata.ownerReferences` with new UIDs.
    pub(super) references: Vec<Value>,
    /// Owners that are gone.
    pub(super) dropped: Vec<Owner>,
    /// Whether an owner is still to come, so that all of them are written at the end.
    pub(super) later: bool,
}

/// The owners of a restore.
#[derive(Debug, Default)]
pub(super) struct Owners {
    states: Mutex<HashMap<u128, State>>,
    /// Owners that were still to come when an object of theirs was written.
    awaited: Mutex<HashSet<u128>>,
    /// UIDs of the cluster that end with this restore: their objects are deleted and made anew.
    recreated: Mutex<HashSet<u128>>,
}

/// UIDs are UUIDs; other text (no API server writes any) is hashed to the same size.
fn key(uid: &str) -> u128 {
    Uuid::parse_str(uid).map_or_else(
        |_| {
            let digest = Sha256::digest(uid.as_bytes());
            digest
                .iter()
                .take(16)
                .fold(0, |number, byte| (number << 8) | u128::from(*byte))
        },
        |uuid| uuid.as_u128(),
    )
}

impl Owners {
    fn lock(&self) -> MutexGuard<'_, HashMap<u128, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that something refers to an owner.
    pub(super) fn refer(&self, uid: &str) {
        self.lock().entry(key(uid)).or_insert(State::Outside);
    }

    /// Whether nothing refers to any owner.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Notes that an object will be restored; has no effect unless something refers to it.
    pub(super) fn expect(&self, uid: &str) {
        if let Slot::Occupied(mut slot) = self.lock().entry(key(uid)) {
            slot.insert(State::Expected);
        }
    }

    /// Notes what became of an object; has no effect unless something refers to it.
    pub(super) fn settle(&self, uid: &str, state: State) {
        if let Slot::Occupied(mut slot) = self.lock().entry(key(uid)) {
            slot.insert(state);
        }
    }

    /// Notes what became of an owner that was looked up.
    pub(super) fn settle_outside(&self, uid: &str, state: State) {
        self.lock().insert(key(uid), state);
    }

    /// Whether something refers to this object, so that its new UID is wanted.
    pub(super) fn wants(&self, uid: &str) -> bool {
        !uid.is_empty() && self.lock().contains_key(&key(uid))
    }

    /// What is known about an owner.
    pub(super) fn state(&self, uid: &str) -> State {
        self.lock().get(&key(uid)).copied().unwrap_or(State::Outside)
    }

    /// Whether an owner is restored, left to its controller, or alive.
    pub(super) fn is_there(&self, uid: &str) -> bool {
        matches!(
            self.state(uid),
            State::Expected | State::Known(_) | State::LeftOut
        )
    }

    /// Whether objects of an owner came before it.
    pub(super) fn is_awaited(&self, uid: &str) -> bool {
        let awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        !uid.is_empty() && awaited.contains(&key(uid))
    }

    /// Notes that an object of the cluster is deleted and made anew: the garbage collector goes for what it owns.
    pub(super) fn note_recreated(&self, live_uid: &str) {
        let mut recreated = self.recreated.lock().unwrap_or_else(PoisonError::into_inner);
        recreated.insert(key(live_uid));
    }

    /// Whether an owner of a live object is deleted and made anew.
    pub(super) fn any_is_recreated(&self, live_owners: &[Owner]) -> bool {
        let recreated = self.recreated.lock().unwrap_or_else(PoisonError::into_inner);
        live_owners
            .iter()
            .any(|owner| recreated.contains(&key(&owner.uid)))
    }

    /// What to write now. At the end of a restore (`finally`) an owner that never came is gone.
    pub(super) fn references(&self, owners: &[Owner], finally: bool) -> References {
        let mut result = References::default();
        for owner in owners {
            match self.state(&owner.uid) {
                State::Known(uid) => result.references.push(reference(owner, uid)),
                State::Expected if !finally => {
                    result.later = true;
                    let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
                    awaited.insert(key(&owner.uid));
                }
                _ => result.dropped.push(owner.clone()),
            }
        }
        if result.later {
            result.references.clear();
        }
        result
    }
}

fn reference(owner: &Owner, uid: Uuid) -> Value {
    let mut reference = json!({
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.name,
        "uid": uid.to_string(),
    });
    for (field, value) in [
        ("controller", owner.controller),
        ("blockOwnerDeletion", owner.block_owner_deletion),
    ] {
        if let Some(value) = value {
            reference[field] = value.into();
        }
    }
    reference
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: &str) -> Owner {
        Owner {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: "web".into(),
            uid: uid.into(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }

    const OLD: &str = "0b9f9a40-0000-4000-8000-000000000001";
    const OTHER: &str = "0b9f9a40-0000-4000-8000-000000000002";

    #[test]
    fn references_carry_only_uids_that_live() {
        let owners = Owners::default();
        let new = Uuid::from_u128(7);
        owners.refer(OLD);
        let both = [owner(OLD), owner(OTHER)];
        assert_eq!(owners.references(&both, false).dropped.len(), 2);

        owners.expect(OLD);
        owners.expect(OTHER);
        let now = owners.references(&both[..1], false);
        assert!(now.later && now.references.is_empty());
        assert_eq!(owners.state(OTHER), State::Outside, "nothing refers to it");
        assert_eq!(owners.references(&both[..1], true).dropped, both[..1]);

        owners.settle(OLD, State::Known(new));
        let now = owners.references(&both, false);
        assert_eq!(
            now.references,
            [
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web",
                "uid": new.to_string(), "controller": true})
            ]
        );
        assert_eq!(now.dropped, both[1..]);
    }

    #[test]
    fn nothing_is_written_while_one_of_several_owners_is_to_come() {
        let owners = Owners::default();
        owners.refer(OLD);
        owners.refer(OTHER);
        owners.settle(OLD, State::Known(Uuid::from_u128(7)));
        owners.expect(OTHER);
        let now = owners.references(&[owner(OLD), owner(OTHER)], false);
        assert!(now.later && now.references.is_empty() && now.dropped.is_empty());
    }

    #[test]
    fn an_owner_that_comes_after_its_objects_is_known_by_it() {
        let owners = Owners::default();
        for uid in [OLD, OTHER] {
            owners.refer(uid);
            owners.expect(uid);
        }
        assert!(!owners.is_awaited(OLD));
        assert!(owners.references(&[owner(OLD)], false).later);
        assert!(owners.is_awaited(OLD) && !owners.is_awaited(OTHER) && !owners.is_awaited(""));
    }

    #[test]
    fn what_is_owned_by_a_recreated_object_is_told_by_the_uid_it_had_in_the_cluster() {
        let owners = Owners::default();
        owners.note_recreated(OLD);
        assert!(owners.any_is_recreated(&[owner(OTHER), owner(OLD)]));
        assert!(!owners.any_is_recreated(&[owner(OTHER)]) && !owners.any_is_recreated(&[]));
    }

    #[test]
    fn uids_that_are_no_uuids_are_told_apart() {
        let owners = Owners::default();
        owners.refer("x");
        assert!(owners.wants("x") && !owners.wants("y") && !owners.wants(""));
    }
}
