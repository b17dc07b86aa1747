//! Sorting index entries of any number in little memory.
//!
//! Entries come in any order; full runs are sorted and written to an unnamed temporary file, and are merged at the end.
//! The file has no name from the beginning, so nothing is left when the process dies.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    os::unix::fs::FileExt,
    sync::Arc,
};

use velero_model::index::Entry;

/// Entries that are sorted in memory at once.
const RUN: usize = 2000;

/// Bytes that are read from a run at once while merging.
const READ: usize = 16 << 10;

/// Entries on their way to being sorted.
#[derive(Debug, Default)]
pub struct SortedSpool {
    run: Vec<Entry>,
    file: Option<File>,
    /// Bounds of the runs in the file.
    bounds: Vec<(u64, u64)>,
    written: u64,
    count: u64,
}

impl SortedSpool {
    /// An empty spool. A file is only made when it is needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// When the temporary folder is full or cannot be written.
    pub fn push(&mut self, entry: Entry) -> io::Result<()> {
        self.run.push(entry);
        self.count += 1;
        if self.run.len() >= RUN {
            self.write_run()
        } else {
            Ok(())
        }
    }

    /// Entries so far.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn write_run(&mut self) -> io::Result<()> {
        self.run.sort_unstable_by(|a, b| a.key().cmp(&b.key()));
        let file = match self.file.take() {
            Some(file) => file,
            None => tempfile::tempfile()?,
        };
        let begin = self.written;
        let mut out = BufWriter::new(Counted {
            inner: &file,
            count: 0,
        });
        for entry in self.run.drain(..) {
            serde_json::to_writer(&mut out, &entry)?;
            out.write_all(b"\n")?;
        }
        self.written += out.into_inner().map_err(io::IntoInnerError::into_error)?.count;
        self.bounds.push((begin, self.written));
        self.file = Some(file);
        Ok(())
    }

    /// Gives all entries back in ascending order of [`Entry::key`]. Equal keys stay beside each other.
    ///
    /// # Errors
    /// When the temporary file cannot be read.
    pub fn finish(mut self) -> io::Result<Sorted> {
        if self.file.is_none() {
            self.run.sort_unstable_by(|a, b| a.key().cmp(&b.key()));
            return Ok(Sorted::Memory(self.run.into_iter()));
        }
        if !self.run.is_empty() {
            self.write_run()?;
        }
        let file = Arc::new(self.file.take().ok_or(io::ErrorKind::NotFound)?);
        let mut runs = Vec::with_capacity(self.bounds.len());
        let mut heads = BinaryHeap::with_capacity(self.bounds.len());
        for (position, &(offset, end)) in self.bounds.iter().enumerate() {
            let section = Section {
                file: Arc::clone(&file),
                offset,
                end,
            };
            let mut run = BufReader::with_capacity(READ, section);
            if let Some(entry) = next_entry(&mut run)? {
                heads.push(Reverse(Head { entry, run: position }));
            }
            runs.push(run);
        }
        Ok(Sorted::Merge { runs, heads })
    }
}

/// Sorted entries.
pub enum Sorted {
    /// Everything was small enough.
    Memory(std::vec::IntoIter<Entry>),
    /// Runs of the file with the smallest entry of each.
    Merge {
        /// Readers of the runs.
        runs: Vec<BufReader<Section>>,
        /// The next entry of each run.
        heads: BinaryHeap<Reverse<Head>>,
    },
}

impl Iterator for Sorted {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Memory(entries) => entries.next().map(Ok),
            Self::Merge { runs, heads } => {
                let Reverse(Head { entry, run }) = heads.pop()?;
                match runs.get_mut(run).map(next_entry) {
                    Some(Ok(Some(next))) => heads.push(Reverse(Head { entry: next, run })),
                    Some(Err(error)) => return Some(Err(error)),
                    _ => {}
                }
                Some(Ok(entry))
            }
        }
    }
}

/// The next entry of a run.
pub struct Head {
    entry: Entry,
    run: usize,
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.entry.key(), self.run).cmp(&(other.entry.key(), other.run))
    }
}

/// A part of the file, read without moving the file's own position.
pub struct Section {
    file: Arc<File>,
    offset: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let Some(buffer) = buffer.get_mut(..length) else {
            return Ok(0);
        };
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

fn next_entry(run: &mut BufReader<Section>) -> io::Result<Option<Entry>> {
    let mut line = Vec::new();
    if run.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

struct Counted<'a> {
    inner: &'a File,
    count: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u64) -> Entry {
        Entry {
            resource_group: if n.is_multiple_of(2) { "pods" } else { "secrets" }.into(),
            namespace: Some(format!("ns{}", n % 7)),
            name: format!("n{n}"),
            member: n,
            member_length: 1,
            offset: 2,
            size: 3,
            uid: String::new(),
            owners: vec![],
            labels: [("app".to_owned(), "x".to_owned())].into(),
        }
    }

    #[test]
    fn entries_of_many_runs_come_back_sorted_and_whole() {
        for count in [0, 10, RUN as u64, RUN as u64 * 3 + 17] {
            let mut spool = SortedSpool::new();
            // A step that is prime to the count visits every number once, in no order.
            let mut expected: Vec<Entry> = (0..count).map(|n| entry(n * 7919 % count)).collect();
            for entry in &expected {
                spool.push(entry.clone()).unwrap();
            }
            assert_eq!(spool.len(), count);
            expected.sort_by(|a, b| a.key().cmp(&b.key()));
            let sorted: Vec<Entry> = spool.finish().unwrap().map(Result::unwrap).collect();
            assert_eq!(sorted, expected);
        }
    }
}
