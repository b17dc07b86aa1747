//! Velero's `resource-list.json`: names by kind, as `velero backup describe --details` shows them.
//!
//! Backups list `namespace/name`, restores `namespace/name(created)`. The writer takes objects grouped by kind and keeps
//! none of them, so the list may be of any length.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

/// The list as read: `apps/v1/Deployment` to names.
pub type ResourceList = BTreeMap<String, Vec<String>>;

/// Writes the list while objects come by, all of one kind after another.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    current: Option<String>,
}

impl<W: Write> Writer<W> {
    /// Begins the list.
    ///
    /// # Errors
    /// When writing fails; so for all methods.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(b"{")?;
        Ok(Self { out, current: None })
    }

    /// Adds one object of the kind `key` (`v1/Pod`).
    ///
    /// # Errors
    /// When writing fails.
    pub fn push(&mut self, key: &str, namespace: Option<&str>, name: &str) -> io::Result<()> {
        if self.current.as_deref() == Some(key) {
            self.out.write_all(b",")?;
        } else {
            if self.current.is_some() {
                self.out.write_all(b"],")?;
            }
            serde_json::to_writer(&mut self.out, key)?;
            self.out.write_all(b":[")?;
            self.current = Some(key.to_owned());
        }
        match namespace {
            Some(namespace) => serde_json::to_writer(&mut self.out, &format!("{namespace}/{name}"))?,
            None => serde_json::to_writer(&mut self.out, name)?,
        }
        Ok(())
    }

    /// Ends the list and gives the writer back.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(mut self) -> io::Result<W> {
        let end: &[u8] = if self.current.is_some() { b"]}" } else { b"}" };
        self.out.write_all(end)?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_as_velero_reads_it() {
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.push("v1/Pod", Some("a"), "x").unwrap();
        writer.push("v1/Pod", Some("b"), "y").unwrap();
        writer.push("v1/Node", None, "n").unwrap();
        let text = writer.finish().unwrap();
        let list: ResourceList = serde_json::from_slice(&text).unwrap();
        assert_eq!(list["v1/Pod"], ["a/x", "b/y"]);
        assert_eq!(list["v1/Node"], ["n"]);
        assert_eq!(Writer::new(Vec::new()).unwrap().finish().unwrap(), b"{}");
    }
}
