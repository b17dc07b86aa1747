//! Whose is what below a prefix that may be shared: which stored things go with a cluster, and which belong to others.
//!
//! Pure. In come the identity of the cluster (UID of its `kube-system`) and what the backups below its prefix say of
//! themselves; out comes an [`Owner`] for each thing. The rules:
//!
//! - What says whose it is belongs to that cluster, whatever the prefix is called.
//! - What says nothing (Velero's backups, litter, volume repositories) belongs to the cluster that the prefix was recorded
//!   for, as long as nothing below it says that it is another's. In a prefix that is shared nobody can tell, and what
//!   nobody can tell is never deleted.
//! - What lies outside Velero's layout is neither Velero's work nor ours: perhaps another cluster's prefix below this one.
//!   It is not touched, whoever else is there.
//! - Where the cluster's own identity is not known, a backup that says whose it is settles nothing: no answer is given.

use std::collections::BTreeSet;

/// Whose a stored thing is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The cluster's.
    Ours,
    /// Another's, by its identity.
    Foreign(String),
    /// Perhaps the cluster's, perhaps not.
    Unknown,
}

/// The identities below a prefix are known and the cluster's own is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnUnknown {
    /// Those identities.
    pub found: BTreeSet<String>,
}

/// The rules for one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    own: Option<String>,
    others: BTreeSet<String>,
}

impl Ownership {
    /// From the cluster's identity and all identities that were found; empty ones say nothing.
    ///
    /// # Errors
    /// [`OwnUnknown`].
    pub fn judge<'a>(
        own: Option<&str>,
        found: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, OwnUnknown> {
        let own = own.filter(|own| !own.is_empty());
        let found: BTreeSet<String> = found
            .into_iter()
            .filter(|identity| !identity.is_empty() && Some(*identity) != own)
            .map(str::to_owned)
            .collect();
        if own.is_none() && !found.is_empty() {
            return Err(OwnUnknown { found });
        }
        Ok(Self {
            own: own.map(str::to_owned),
            others: found,
        })
    }

    /// Whether others use the prefix too.
    pub fn is_shared(&self) -> bool {
        !self.others.is_empty()
    }

    /// The others, by identity.
    pub fn others(&self) -> &BTreeSet<String> {
        &self.others
    }

    /// Whose a thing is that says it comes from `identity`, or says nothing.
    pub fn of(&self, identity: Option<&str>) -> Owner {
        match identity.filter(|identity| !identity.is_empty()) {
            Some(identity) if self.own.as_deref() == Some(identity) => Owner::Ours,
            Some(identity) => Owner::Foreign(identity.to_owned()),
            None if self.is_shared() => Owner::Unknown,
            None => Owner::Ours,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_goes_with_the_prefix_unless_it_is_shared() {
        let foreign = |identity: &str| Owner::Foreign(identity.to_owned());
        type Case<'a> = (Option<&'a str>, &'a [&'a str], Option<&'a str>, Owner);
        let table: [Case<'_>; 9] = [
            (Some("a"), &["a"], Some("a"), Owner::Ours),
            (Some("a"), &["a"], None, Owner::Ours),
            (Some("a"), &["a", ""], Some(""), Owner::Ours),
            (Some("a"), &["a", "b"], Some("b"), foreign("b")),
            (Some("a"), &["a", "b"], Some("a"), Owner::Ours),
            (Some("a"), &["a", "b"], None, Owner::Unknown),
            (Some("a"), &[], None, Owner::Ours),
            // Identities that came later than the rules are not believed to be ours either.
            (Some("a"), &[], Some("c"), foreign("c")),
            (None, &["", ""], None, Owner::Ours),
        ];
        for (own, found, identity, expected) in table {
            let ownership = Ownership::judge(own, found.iter().copied()).unwrap();
            assert_eq!(ownership.of(identity), expected, "{own:?} {found:?} {identity:?}");
        }
    }

    #[test]
    fn without_the_own_identity_backups_with_one_settle_nothing() {
        for own in [None, Some("")] {
            let refused = Ownership::judge(own, ["b", "", "c", "b"]).unwrap_err();
            assert_eq!(refused.found, BTreeSet::from(["b".to_owned(), "c".to_owned()]));
        }
        let shared = Ownership::judge(Some("a"), ["b"]).unwrap();
        assert!(shared.is_shared());
        assert_eq!(shared.others().len(), 1);
    }
}
