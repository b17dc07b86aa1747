//! Objects whose owners come later: they are created without owners and get them at the end.
//!
//! They wait in an unnamed temporary file, since an operator may own any number of them.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write},
    sync::{Arc, PoisonError},
};

use backup_plan::restore::transform::Owner;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    RestoreError, apply::Refusal, owners::References, report::object_text, run::Run, window::Window,
    writes::repeatable,
};
use crate::api::PatchKind;

/// An object that was created and waits for its owners.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Waiting {
    /// Path of the object.
    pub(super) path: String,
    /// Its UID: the patch is for this very object.
    pub(super) uid: String,
    /// Resource group, for messages.
    pub(super) resource_group: String,
    /// Namespace in the cluster.
    pub(super) namespace: Option<String>,
    /// Name.
    pub(super) name: String,
    /// The owners it had.
    pub(super) owners: Vec<Owner>,
}

/// The objects that wait.
#[derive(Debug, Default)]
pub(super) struct Pending {
    out: Option<BufWriter<File>>,
    count: u64,
}

impl Pending {
    /// Adds one.
    pub(super) fn push(&mut self, waiting: &Waiting) -> io::Result<()> {
        let out = match &mut self.out {
            Some(out) => out,
            None => self.out.insert(BufWriter::new(tempfile::tempfile()?)),
        };
        serde_json::to_writer(&mut *out, waiting)?;
        self.count += 1;
        out.write_all(b"\n")
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.count
    }

    /// Gives them back in the order in which they came.
    pub(super) fn drain(&mut self) -> io::Result<impl Iterator<Item = io::Result<Waiting>> + use<>> {
        let file = match self.out.take() {
            Some(out) => {
                let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.seek(SeekFrom::Start(0))?;
                Some(BufReader::new(file))
            }
            None => None,
        };
        self.count = 0;
        Ok(file
            .into_iter()
            .flat_map(BufRead::lines)
            .map(|line| Ok(serde_json::from_str(&line?)?)))
    }
}

impl Run {
    /// Gives owners to the objects that were there before them.
    pub(super) async fn write_late_owners(self: &Arc<Self>) -> Result<(), RestoreError> {
        let waiting = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            if pending.len() == 0 {
                return Ok(());
            }
            self.progress
                .set_step(&format!("setting the owners of {} objects", pending.len()));
            pending.drain().map_err(RestoreError::Temporary)?
        };
        let mut window = Window::new(self);
        for waiting in waiting {
            let waiting = waiting.map_err(RestoreError::Temporary)?;
            if !window
                .start(|run| async move { run.write_owners(&waiting).await })
                .await
            {
                break;
            }
        }
        window.finish().await?;
        self.check_interrupted()
    }

    async fn write_owners(&self, waiting: &Waiting) -> Result<(), RestoreError> {
        let References {
            references, dropped, ..
        } = self.selection.owners.references(&waiting.owners, true);
        let text = object_text(
            &waiting.resource_group,
            waiting.namespace.as_deref(),
            &waiting.name,
        );
        for owner in dropped {
            self.report.log(&format!(
                "{text}: its owner {} {} was not restored",
                owner.kind, owner.name
            ));
        }
        if references.is_empty() {
            return Ok(());
        }
        // With its UID the patch meets this very object or none.
        let patch = json!({"metadata": {"uid": waiting.uid, "ownerReferences": references}}).to_string();
        // Repeating it does no harm: it sets what it set.
        let sent = repeatable(self, || {
            let patch = patch.clone().into();
            self.writes.patch(&waiting.path, &PatchKind::Merge, patch)
        });
        match sent.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) if error.is_not_found() => {
                self.report
                    .log(&format!("{text} was deleted before its owners were set"));
            }
            Ok(Err(error)) => {
                let reason = format!("restored without its owner: {}", error.server_message());
                self.report.error(&text, waiting.namespace.as_deref(), &reason);
            }
            Err(Refusal::Run(error)) => return Err(error),
            Err(Refusal::Object(reason)) => self.report.error(&text, waiting.namespace.as_deref(), &reason),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_comes_back() {
        let mut pending = Pending::default();
        assert_eq!(pending.drain().unwrap().count(), 0);
        let waiting = |name: &str| Waiting {
            path: format!("/api/v1/namespaces/a/configmaps/{name}"),
            uid: "u".into(),
            resource_group: "configmaps".into(),
            namespace: Some("a".into()),
            name: name.into(),
            owners: vec![Owner::default()],
        };
        pending.push(&waiting("x")).unwrap();
        pending.push(&waiting("y\n")).unwrap();
        assert_eq!(pending.len(), 2);
        let back: Vec<_> = pending.drain().unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(back, [waiting("x"), waiting("y\n")]);
        assert_eq!(pending.len(), 0);
    }
}
