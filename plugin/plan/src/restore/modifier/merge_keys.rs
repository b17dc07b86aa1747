//! How the lists of Kubernetes' own types are merged, as their Go types say it.
//!
//! The table beside this file is printed by the peer of the differential test from the very scheme that Velero's server
//! uses. A kind that is not in it has no strategic merge patches, in Velero as here. A field that is not in it merges as
//! mappings do and is replaced as lists are.

use std::{collections::HashMap, sync::LazyLock};

const TABLE: &str = include_str!("merge_keys.txt");

/// How a field merges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Field {
    /// `merge`, `replace` or nothing.
    pub(super) strategy: &'static str,
    /// The field by which the items of a list are told apart; empty for lists of plain values.
    pub(super) key: &'static str,
    /// The type of the field, or of its items.
    pub(super) of: Type,
}

/// A type of the table; one that is unknown has no fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Type(&'static str);

#[derive(Default)]
struct Table {
    kinds: HashMap<(&'static str, &'static str), Type>,
    fields: HashMap<(&'static str, &'static str), Field>,
}

static PARSED: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table::default();
    for line in TABLE.lines() {
        let mut words = line.split(' ');
        match (words.next(), words.next()) {
            (Some("kind"), Some(version)) => {
                if let (Some(kind), Some(of)) = (words.next(), words.next()) {
                    table.kinds.insert((version, kind), Type(of));
                }
            }
            (Some("type"), Some(of)) => {
                for word in words {
                    let mut parts = word.split(':');
                    let mut part = || parts.next().unwrap_or_default();
                    let (name, child, strategy, key) = (part(), part(), part(), part());
                    let field = Field {
                        strategy,
                        key,
                        of: Type(child),
                    };
                    table.fields.insert((of, name), field);
                }
            }
            _ => {}
        }
    }
    table
});

/// The type of a kind, if Velero knows the kind.
pub(super) fn of_kind(api_version: &str, kind: &str) -> Option<Type> {
    PARSED.kinds.get(&(api_version, kind)).copied()
}

impl Type {
    /// A field of the type.
    pub(super) fn field(self, name: &str) -> Field {
        PARSED.fields.get(&(self.0, name)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_lists_have_their_keys() {
        let deployment = of_kind("apps/v1", "Deployment").unwrap();
        let template = deployment.field("spec").of.field("template").of;
        let pod = template.field("spec").of;
        let containers = pod.field("containers");
        assert_eq!((containers.strategy, containers.key), ("merge", "name"));
        for (name, key) in [
            ("ports", "containerPort"),
            ("env", "name"),
            ("volumeMounts", "mountPath"),
        ] {
            assert_eq!(containers.of.field(name).key, key);
        }
        assert_eq!(pod.field("volumes").key, "name");
        assert_eq!(pod.field("tolerations"), Field::default());
        let finalizers = deployment.field("metadata").of.field("finalizers");
        assert_eq!((finalizers.strategy, finalizers.key), ("merge", ""));
        assert!(of_kind("v1", "Service").is_some());
        assert!(of_kind("shop.io/v1", "Order").is_none());
    }
}
