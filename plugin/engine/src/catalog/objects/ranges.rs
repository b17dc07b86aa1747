//! Parts of a file, wherever it lies: stored in a bucket, or rebuilt in a temporary file.
//!
//! The end of a stored file may be kept in memory, so that footer, directory and the blocks of a small index cost one
//! request together. [`Recent`] keeps the last few things that were made of such parts.

use std::{
    collections::VecDeque,
    fs::File,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use super::super::{error::CatalogError, stream::blocking};
use crate::storage::{Bucket, ObjectInfo};

/// A file that is read in parts.
pub(super) enum Ranges {
    /// In a bucket.
    Stored {
        bucket: Arc<dyn Bucket>,
        key: String,
        size: u64,
        tail: Mutex<Option<(u64, Bytes)>>,
    },
    /// In an unnamed temporary file.
    Spooled { file: Arc<File>, size: u64 },
}

impl std::fmt::Debug for Ranges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ranges")
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

impl Ranges {
    pub(super) fn stored(bucket: &Arc<dyn Bucket>, file: &ObjectInfo) -> Self {
        let (bucket, key, size) = (Arc::clone(bucket), file.key.clone(), file.size);
        Self::Stored {
            bucket,
            key,
            size,
            tail: Mutex::new(None),
        }
    }

    pub(super) fn spooled(file: File, size: u64) -> Self {
        Self::Spooled {
            file: Arc::new(file),
            size,
        }
    }

    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Stored { size, .. } | Self::Spooled { size, .. } => *size,
        }
    }

    /// Fetches the last `length` bytes, or the whole file if it is shorter, and keeps them.
    pub(super) async fn keep_tail(&self, length: u64) -> Result<(), CatalogError> {
        let Self::Stored {
            bucket,
            key,
            size,
            tail,
        } = self
        else {
            return Ok(());
        };
        let begin = size.saturating_sub(length);
        if tail
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .is_some_and(|(kept, _)| *kept <= begin)
        {
            return Ok(());
        }
        let bytes = bucket.get_range(key, begin, size - begin).await?;
        *tail.lock().unwrap_or_else(PoisonError::into_inner) = Some((begin, bytes));
        Ok(())
    }

    /// Exactly these bytes. The caller has checked that they lie in the file.
    pub(super) async fn read(&self, offset: u64, length: u64) -> Result<Bytes, CatalogError> {
        match self {
            Self::Stored {
                bucket, key, tail, ..
            } => {
                let kept = tail.lock().unwrap_or_else(PoisonError::into_inner).clone();
                match kept.and_then(|(begin, bytes)| part(&bytes, begin, offset, length)) {
                    Some(bytes) => Ok(bytes),
                    None => Ok(bucket.get_range(key, offset, length).await?),
                }
            }
            Self::Spooled { file, .. } => {
                let file = Arc::clone(file);
                blocking(move || {
                    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
                    file.read_exact_at(&mut bytes, offset)
                        .map_err(CatalogError::Spool)?;
                    Ok(bytes.into())
                })
                .await
            }
        }
    }
}

fn part(kept: &Bytes, begin: u64, offset: u64, length: u64) -> Option<Bytes> {
    let from = usize::try_from(offset.checked_sub(begin)?).ok()?;
    let to = from.checked_add(usize::try_from(length).ok()?)?;
    (to <= kept.len()).then(|| kept.slice(from..to))
}

/// The last few values, by the offset that they were made from.
#[derive(Debug)]
pub(super) struct Recent<V> {
    values: VecDeque<(u64, V)>,
    capacity: usize,
}

impl<V: Clone> Recent<V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            values: VecDeque::with_capacity(capacity),
            capacity,
        }
    }

    pub(super) fn get(&mut self, offset: u64) -> Option<V> {
        let at = self.values.iter().position(|(kept, _)| *kept == offset)?;
        let found = self.values.remove(at)?;
        let value = found.1.clone();
        self.values.push_front(found);
        Some(value)
    }

    pub(super) fn put(&mut self, offset: u64, value: V) {
        self.values.retain(|(kept, _)| *kept != offset);
        self.values.truncate(self.capacity.saturating_sub(1));
        self.values.push_front((offset, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_parts_come_from_the_tail() {
        let kept = Bytes::from_static(b"cdef");
        for (offset, length, expected) in [
            (2, 4, Some("cdef")),
            (3, 2, Some("de")),
            (1, 2, None),
            (5, 2, None),
            (6, 0, Some("")),
            (u64::MAX, 2, None),
        ] {
            assert_eq!(
                part(&kept, 2, offset, length).as_deref(),
                expected.map(str::as_bytes),
                "{offset}+{length}"
            );
        }
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut recent = Recent::new(2);
        recent.put(1, 'a');
        recent.put(2, 'b');
        assert_eq!(recent.get(1), Some('a'));
        recent.put(3, 'c');
        assert_eq!(
            (recent.get(1), recent.get(2), recent.get(3)),
            (Some('a'), None, Some('c'))
        );
    }
}
