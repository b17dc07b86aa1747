//! The facts about the objects of one kind, by namespace and name.
//!
//! Readers take a fact as an `Arc` and hold no lock while they decide. What was read once stays readable when the
//! connection is lost; [`Table::age`] says how far behind it may be.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// How a table stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Not read yet, and why, if that is known.
    Starting(Option<String>),
    /// In step with the API server.
    InStep,
    /// The API server does not serve the kind: its CRD is not installed. The table is empty.
    NotServed,
    /// Was in step; what is in it may be out of date.
    Lost {
        /// When the connection was found lost.
        since: Instant,
        /// What happened.
        why: String,
    },
}

impl Health {
    /// Whether the table can be decided with: it was read, or there is nothing to be read.
    pub fn has_answer(&self) -> bool {
        !matches!(self, Self::Starting(_))
    }
}

/// Facts of one kind.
#[derive(Debug)]
pub struct Table<T> {
    inner: RwLock<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    rows: Rows<T>,
    /// What a list that is under way has brought so far; replaces `rows` when it is complete.
    listed: Rows<T>,
    health: Health,
    unreadable: u64,
    revision: u64,
}

/// Namespace (empty for what lies in none), then name.
type Rows<T> = HashMap<Box<str>, HashMap<Box<str>, Arc<T>>>;

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            inner: RwLock::new(Inner {
                rows: Rows::new(),
                listed: Rows::new(),
                health: Health::Starting(None),
                unreadable: 0,
                revision: 0,
            }),
        }
    }
}

impl<T> Table<T> {
    /// The fact about one object; `namespace` is empty for what lies in none.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.read().rows.get(namespace)?.get(name).cloned()
    }

    /// All facts of a namespace, with names.
    pub fn in_namespace(&self, namespace: &str) -> Vec<(Box<str>, Arc<T>)> {
        let inner = self.read();
        let rows = inner.rows.get(namespace).into_iter().flatten();
        rows.map(|(name, fact)| (name.clone(), Arc::clone(fact)))
            .collect()
    }

    /// All facts, in no order.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.read()
            .rows
            .values()
            .flat_map(HashMap::values)
            .cloned()
            .collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.read().rows.values().map(HashMap::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How it stands.
    pub fn health(&self) -> Health {
        self.read().health.clone()
    }

    /// How long the facts may have been out of date, beyond [`super::MAX_AGE`]: nothing while in step, none if they
    /// were never read.
    pub fn age(&self) -> Option<Duration> {
        match &self.read().health {
            Health::Starting(_) => None,
            Health::InStep | Health::NotServed => Some(Duration::ZERO),
            Health::Lost { since, .. } => Some(since.elapsed()),
        }
    }

    /// How many objects could not be understood since the start.
    pub fn unreadable(&self) -> u64 {
        self.read().unreadable
    }

    /// Grows with every change, so that what was made of all facts need not be made again.
    pub fn revision(&self) -> u64 {
        self.read().revision
    }

    /// A list begins.
    pub fn begin(&self) {
        self.write().listed = Rows::new();
    }

    /// The list has this.
    pub fn listed(&self, namespace: &str, name: &str, fact: T) {
        let mut inner = self.write();
        insert(&mut inner.listed, namespace, name, fact);
    }

    /// The list is complete.
    pub fn end(&self) {
        let mut inner = self.write();
        inner.rows = std::mem::take(&mut inner.listed);
        inner.health = Health::InStep;
        inner.revision += 1;
    }

    /// An object was made or changed.
    pub fn put(&self, namespace: &str, name: &str, fact: T) {
        let mut inner = self.write();
        insert(&mut inner.rows, namespace, name, fact);
        inner.revision += 1;
    }

    /// An object is gone.
    pub fn remove(&self, namespace: &str, name: &str) {
        let mut inner = self.write();
        inner.revision += 1;
        let is_empty = inner.rows.get_mut(namespace).is_some_and(|rows| {
            rows.remove(name);
            rows.is_empty()
        });
        if is_empty {
            inner.rows.remove(namespace);
        }
    }

    /// An object could not be understood.
    pub fn count_unreadable(&self) {
        self.write().unreadable += 1;
    }

    /// The kind is not served.
    pub fn not_served(&self) {
        let mut inner = self.write();
        (inner.rows, inner.listed) = (Rows::new(), Rows::new());
        inner.health = Health::NotServed;
        inner.revision += 1;
    }

    /// The connection is lost. The first loss counts, not the last attempt.
    pub fn lost(&self, why: String) {
        let mut inner = self.write();
        inner.listed = Rows::new();
        inner.health = match &inner.health {
            Health::Starting(_) => Health::Starting(Some(why)),
            Health::Lost { since, .. } => Health::Lost { since: *since, why },
            Health::InStep | Health::NotServed => Health::Lost {
                since: Instant::now(),
                why,
            },
        };
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner<T>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<T>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn insert<T>(rows: &mut Rows<T>, namespace: &str, name: &str, fact: T) {
    let fact = Arc::new(fact);
    match rows.get_mut(namespace) {
        Some(rows) => {
            rows.insert(name.into(), fact);
        }
        None => {
            rows.insert(namespace.into(), HashMap::from([(name.into(), fact)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Health, Table};

    #[test]
    fn a_list_replaces_what_was_there_only_when_it_is_complete() {
        let table = Table::default();
        table.put("a", "old", 1);
        table.begin();
        table.listed("a", "new", 2);
        assert!(table.get("a", "old").is_some() && table.get("a", "new").is_none());
        table.end();
        assert!(table.get("a", "old").is_none() && table.get("a", "new").is_some());
        assert_eq!((table.len(), table.health()), (1, Health::InStep));
    }

    #[test]
    fn what_was_read_stays_readable_when_the_connection_is_lost() {
        let table = Table::default();
        assert_eq!(table.age(), None);
        table.put("", "n", 1);
        table.end();
        table.put("", "n", 1);
        table.lost("reset".to_owned());
        assert!(table.get("", "n").is_some());
        assert!(table.health().has_answer());
        let first = table.health();
        table.lost("refused".to_owned());
        match (first, table.health()) {
            (Health::Lost { since: one, .. }, Health::Lost { since: other, why }) => {
                assert_eq!((one, why.as_str()), (other, "refused"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_table_that_was_never_read_is_no_answer() {
        let table = Table::<u8>::default();
        table.lost("forbidden".to_owned());
        assert_eq!(table.health(), Health::Starting(Some("forbidden".to_owned())));
        assert!(!table.health().has_answer());
        table.not_served();
        assert!(table.health().has_answer());
    }

    #[test]
    fn a_namespace_without_rows_takes_no_room() {
        let table = Table::default();
        table.put("a", "x", 1);
        table.remove("a", "x");
        table.remove("b", "x");
        assert!(table.is_empty() && table.in_namespace("a").is_empty());
    }
}
