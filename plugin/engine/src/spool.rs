//! Sorting lines of an index, of any number, in little memory.
//!
//! Lines come in any order, each with its key; full runs are sorted and written to an unnamed temporary file, and are
//! merged at the end. Only keys are looked at: a line goes through as the bytes it came in as, and becomes an [`Entry`]
//! for those alone who ask for one. The file has no name from the beginning, so nothing is left when the process dies.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    mem,
    os::unix::fs::FileExt,
    sync::Arc,
};

use velero_model::index::{Entry, Key};

/// Bytes of keys and lines that are sorted in memory at once.
const RUN: usize = 512 << 10;

/// Bytes that are read from a run at once while merging, and written at once.
const CHUNK: usize = 16 << 10;

/// Lengths of resource, namespace, name and line, four bytes each, before the four themselves.
const HEADER: usize = 16;

/// Keys and lines in one piece of memory, in the order in which they came.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
}

impl Batch {
    /// Adds a line.
    ///
    /// # Errors
    /// When the line or a part of its key is longer than 4 GiB.
    pub fn push(&mut self, key: Key<'_>, line: &[u8]) -> io::Result<()> {
        let parts = [key.0.as_bytes(), key.1.as_bytes(), key.2.as_bytes(), line];
        for part in parts {
            let length = u32::try_from(part.len()).map_err(io::Error::other)?;
            self.bytes.extend_from_slice(&length.to_le_bytes());
        }
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        Ok(())
    }

    /// Bytes that the lines take.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// All keys and lines.
    pub fn iter(&self) -> impl Iterator<Item = io::Result<(Key<'_>, &[u8])>> {
        let mut begin = 0;
        std::iter::from_fn(move || {
            let record = Record::at(&self.bytes, begin);
            begin += record.bytes.len();
            (!record.bytes.is_empty()).then(|| record.as_text())
        })
    }
}

/// Lines on their way to being sorted.
#[derive(Debug, Default)]
pub struct SortedSpool {
    run: Batch,
    /// Where its lines begin.
    begins: Vec<usize>,
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
    pub fn push(&mut self, entry: &Entry) -> io::Result<()> {
        self.push_line(entry.key(), &serde_json::to_vec(entry)?)
    }

    /// Adds the line of an entry.
    ///
    /// # Errors
    /// As [`SortedSpool::push`].
    pub fn push_line(&mut self, key: Key<'_>, line: &[u8]) -> io::Result<()> {
        let begin = self.run.bytes.len();
        self.run.push(key, line)?;
        self.begins.push(begin);
        self.count += 1;
        if self.run.bytes.len() >= RUN {
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

    fn sort_run(&mut self) {
        let run = &self.run.bytes;
        self.begins
            .sort_unstable_by(|a, b| Record::at(run, *a).key.cmp(&Record::at(run, *b).key));
    }

    fn write_run(&mut self) -> io::Result<()> {
        self.sort_run();
        let file = match self.file.take() {
            Some(file) => file,
            None => tempfile::tempfile()?,
        };
        let mut out = BufWriter::with_capacity(CHUNK, &file);
        for begin in self.begins.drain(..) {
            out.write_all(Record::at(&self.run.bytes, begin).bytes)?;
        }
        out.flush()?;
        drop(out);
        let begin = self.written;
        self.written += self.run.bytes.len() as u64;
        self.bounds.push((begin, self.written));
        self.run.bytes.clear();
        self.file = Some(file);
        Ok(())
    }

    /// Gives all lines back in ascending order of their keys. Equal keys stay beside each other.
    ///
    /// # Errors
    /// When the temporary file cannot be read.
    pub fn finish_lines(mut self) -> io::Result<SortedLines> {
        if self.file.is_none() {
            self.sort_run();
            return Ok(SortedLines {
                current: Vec::new(),
                source: Source::Memory {
                    run: self.run.bytes,
                    begins: self.begins.into_iter(),
                },
            });
        }
        if !self.begins.is_empty() {
            self.write_run()?;
        }
        // What was needed for sorting is not needed for merging.
        drop(mem::take(&mut self.run));
        let file = Arc::new(self.file.take().ok_or(io::ErrorKind::NotFound)?);
        let mut runs = Vec::with_capacity(self.bounds.len());
        let mut heads = BinaryHeap::with_capacity(self.bounds.len());
        for (position, &(offset, end)) in self.bounds.iter().enumerate() {
            let section = Section {
                file: Arc::clone(&file),
                offset,
                end,
            };
            let mut run = BufReader::with_capacity(CHUNK, section);
            let mut record = Vec::new();
            if next_record(&mut run, &mut record)? {
                heads.push(Reverse(Head {
                    record,
                    run: position,
                }));
            }
            runs.push(run);
        }
        Ok(SortedLines {
            current: Vec::new(),
            source: Source::Merge { runs, heads },
        })
    }

    /// Gives all entries back, sorted as [`SortedSpool::finish_lines`] does.
    ///
    /// # Errors
    /// When the temporary file cannot be read.
    pub fn finish(self) -> io::Result<Sorted> {
        Ok(Sorted(self.finish_lines()?))
    }
}

/// Sorted lines, given out one at a time.
pub struct SortedLines {
    /// The record that was given out last.
    current: Vec<u8>,
    source: Source,
}

enum Source {
    /// Everything was small enough.
    Memory {
        run: Vec<u8>,
        begins: std::vec::IntoIter<usize>,
    },
    /// Runs of the file with the smallest record of each.
    Merge {
        runs: Vec<BufReader<Section>>,
        heads: BinaryHeap<Reverse<Head>>,
    },
}

impl SortedLines {
    /// The next key and line, or `None` after the last.
    ///
    /// # Errors
    /// When the temporary file cannot be read.
    // Borrows from itself, so it cannot be an iterator.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> io::Result<Option<(Key<'_>, &[u8])>> {
        let record = match &mut self.source {
            Source::Memory { run, begins } => match begins.next() {
                Some(begin) => Record::at(run, begin),
                None => return Ok(None),
            },
            Source::Merge { runs, heads } => {
                let Some(mut head) = heads.peek_mut() else {
                    return Ok(None);
                };
                let Reverse(head_of_run) = &mut *head;
                mem::swap(&mut self.current, &mut head_of_run.record);
                let run = runs.get_mut(head_of_run.run).ok_or(io::ErrorKind::NotFound)?;
                if !next_record(run, &mut head_of_run.record)? {
                    std::collections::binary_heap::PeekMut::pop(head);
                }
                Record::at(&self.current, 0)
            }
        };
        record.as_text().map(Some)
    }
}

/// Sorted entries.
pub struct Sorted(SortedLines);

impl Iterator for Sorted {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.next() {
            Ok(Some((_, line))) => Some(serde_json::from_slice(line).map_err(Into::into)),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// One line with its key.
struct Record<'a> {
    bytes: &'a [u8],
    key: (&'a [u8], &'a [u8], &'a [u8]),
    line: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record that begins there. Records are written by this file alone; what is cut is empty.
    fn at(bytes: &'a [u8], begin: usize) -> Self {
        let bytes = bytes.get(begin..).unwrap_or_default();
        let lengths = lengths(bytes);
        let mut end = HEADER;
        let [resource, namespace, name, line] = lengths.map(|length| {
            let begin = end;
            end += length;
            bytes.get(begin..end).unwrap_or_default()
        });
        Self {
            bytes: bytes.get(..end).unwrap_or_default(),
            key: (resource, namespace, name),
            line,
        }
    }

    fn as_text(&self) -> io::Result<(Key<'a>, &'a [u8])> {
        let text = |bytes| str::from_utf8(bytes).map_err(io::Error::other);
        let (resource, namespace, name) = self.key;
        Ok(((text(resource)?, text(namespace)?, text(name)?), self.line))
    }
}

fn lengths(record: &[u8]) -> [usize; 4] {
    let mut lengths = [0; 4];
    let (numbers, _) = record.as_chunks::<4>();
    for (length, number) in lengths.iter_mut().zip(numbers) {
        *length = u32::from_le_bytes(*number) as usize;
    }
    lengths
}

/// The next record of a run.
struct Head {
    record: Vec<u8>,
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
        let (mine, theirs) = (Record::at(&self.record, 0), Record::at(&other.record, 0));
        (mine.key, self.run).cmp(&(theirs.key, other.run))
    }
}

/// A part of the file, read without moving the file's own position.
struct Section {
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

/// Reads the next record; `false` at the end of the run.
fn next_record(run: &mut BufReader<Section>, record: &mut Vec<u8>) -> io::Result<bool> {
    record.clear();
    record.resize(HEADER, 0);
    match run.read_exact(record) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        other => other?,
    }
    let length = HEADER + lengths(record).iter().sum::<usize>();
    record.resize(length, 0);
    run.read_exact(record.get_mut(HEADER..).unwrap_or_default())?;
    Ok(true)
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
            labels: [("app".to_owned(), "x".repeat(400))].into(),
        }
    }

    #[test]
    fn entries_of_many_runs_come_back_sorted_and_whole() {
        for (count, runs) in [(0, 0), (10, 0), (RUN as u64 / 600, 0), (RUN as u64 / 120 + 17, 3)] {
            let mut spool = SortedSpool::new();
            // A step that is prime to the count visits every number once, in no order.
            let mut expected: Vec<Entry> = (0..count).map(|n| entry(n * 7919 % count)).collect();
            for entry in &expected {
                spool.push(entry).unwrap();
            }
            assert_eq!(spool.len(), count);
            assert!(
                spool.bounds.len() >= runs,
                "{count} entries fill {} runs",
                spool.bounds.len()
            );
            expected.sort_by(|a, b| a.key().cmp(&b.key()));
            let sorted: Vec<Entry> = spool.finish().unwrap().map(Result::unwrap).collect();
            assert_eq!(sorted, expected);
        }
    }

    #[test]
    fn lines_go_through_untouched_and_equal_keys_stay_together() {
        let long = vec![b'x'; RUN * 2];
        let lines: [(Key<'_>, &[u8]); 5] = [
            (("pods", "b", "a"), b"1"),
            (("pods", "a-b", "a"), &long),
            (("pods", "a", "z"), b"3"),
            (("pods", "", "a"), b""),
            (("pods", "b", "a"), b"5"),
        ];
        let mut spool = SortedSpool::new();
        for (key, line) in lines {
            spool.push_line(key, line).unwrap();
        }
        let mut sorted = spool.finish_lines().unwrap();
        let mut together = Batch::default();
        while let Some((key, line)) = sorted.next().unwrap() {
            together.push(key, line).unwrap();
        }
        let found: Vec<_> = together
            .iter()
            .map(Result::unwrap)
            .map(|(key, line)| (format!("{}/{}/{}", key.0, key.1, key.2), line.len()))
            .collect();
        let expected = [
            ("pods//a", 0),
            ("pods/a/z", 1),
            ("pods/a-b/a", long.len()),
            ("pods/b/a", 1),
            ("pods/b/a", 1),
        ];
        assert_eq!(found, expected.map(|(key, length)| (key.to_owned(), length)));
    }
}
