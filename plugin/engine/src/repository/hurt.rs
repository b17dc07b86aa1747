//! Which snapshots damage hurts, so that whoever has it knows what is lost and what is not.
//!
//! In come the packs that are damaged, by id; out come the snapshots that need something of them. Packs that are missing or
//! have another length than the index says count as damaged too, and so does a folder that cannot be read. Each folder is
//! looked at once, however many snapshots have it. Later code may rely on: a snapshot that is not named restores.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rustic_core::{
    BlobId, IndexedFullStatus, TreeId,
    repofile::{IndexFile, Node},
};

use super::{Repository, RepositoryError, Snapshot, snapshot};

impl Repository {
    /// The snapshots that need any of these packs, oldest first. Packs are named by their ids, as in
    /// [`super::Findings::packs`]; a blob that lies in a damaged pack and in a whole one too counts as hurt, since nobody says
    /// which of the two a reader takes.
    ///
    /// # Errors
    /// When indexes or snapshots cannot be read, or the place fails; damage is in the result.
    pub fn hurt_by(self, packs: &BTreeSet<String>) -> Result<Vec<Snapshot>, RepositoryError> {
        let damaged = self.damaged_blobs(packs)?;
        let mut snapshots = self
            .rustic
            .get_all_snapshots()
            .map_err(|error| self.fail(&error))?;
        snapshots.sort_by_key(|snapshot| (snapshot.time.timestamp(), snapshot.id));
        let Self {
            rustic,
            files,
            faults,
            ..
        } = self;
        let rustic = rustic
            .to_indexed()
            .map_err(|error| RepositoryError::of(&files, &faults, &error))?;
        let mut walk = Walk {
            rustic,
            damaged,
            known: HashMap::new(),
        };
        let hurt = snapshots
            .iter()
            .filter(|found| walk.is_hurt(found.tree))
            .map(snapshot::read)
            .collect();
        // What is missing was not asked for; whatever else the place has refused says nothing about damage.
        match faults.first() {
            Some(reason) => Err(RepositoryError::Files {
                place: files.describe(),
                reason,
            }),
            None => Ok(hurt),
        }
    }

    /// What lies in these packs and in those that are not as the index has them.
    fn damaged_blobs(&self, packs: &BTreeSet<String>) -> Result<BTreeSet<BlobId>, RepositoryError> {
        let lengths: BTreeMap<String, u64> = self
            .handle
            .block_on(self.files.list("data/"))
            .map_err(|error| RepositoryError::Files {
                place: self.place(),
                reason: error.to_string(),
            })?
            .into_iter()
            .filter_map(|file| Some((file.name.rsplit('/').next()?.to_owned(), file.size)))
            .collect();
        let mut damaged = BTreeSet::new();
        let indexes = self
            .rustic
            .stream_files::<IndexFile>()
            .map_err(|error| self.fail(&error))?;
        for index in indexes {
            let (_, index) = index.map_err(|error| self.fail(&error))?;
            for pack in index.packs {
                let hex = pack.id.to_hex();
                let is_as_said = lengths
                    .get(hex.as_str())
                    .is_some_and(|length| *length == u64::from(pack.pack_size()));
                if !is_as_said || packs.contains(hex.as_str()) {
                    damaged.extend(pack.blobs.iter().map(|blob| blob.id));
                }
            }
        }
        Ok(damaged)
    }
}

/// The walk through all folders of all snapshots.
struct Walk {
    rustic: rustic_core::Repository<IndexedFullStatus>,
    damaged: BTreeSet<BlobId>,
    /// Folders that were looked at already.
    known: HashMap<TreeId, bool>,
}

impl Walk {
    /// Whether anything in a folder is hurt, however deep.
    fn is_hurt(&mut self, tree: TreeId) -> bool {
        if let Some(known) = self.known.get(&tree) {
            return *known;
        }
        let is_hurt = self.damaged.contains(&tree.into())
            || match self.rustic.get_tree(&tree) {
                Ok(found) => found.nodes.iter().any(|node| self.is_node_hurt(node)),
                Err(error) => {
                    tracing::debug!(%tree, %error, "a folder of a snapshot cannot be read");
                    true
                }
            };
        self.known.insert(tree, is_hurt);
        is_hurt
    }

    fn is_node_hurt(&mut self, node: &Node) -> bool {
        let is_missing =
            |id| self.damaged.contains(&BlobId::from(id)) || self.rustic.get_index_entry(&id).is_err();
        node.content.iter().flatten().copied().any(is_missing)
            || node.subtree.is_some_and(|below| self.is_hurt(below))
    }
}
