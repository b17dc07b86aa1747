//! Disposal over layouts that were made up: of one cluster, of several in one prefix, of prefixes inside each other, with
//! versions and without; cut off anywhere; with locks and without rights. What is whose is known here from the making of
//! the layout, not from the product's reading of it.

use std::collections::BTreeSet;

use serde_json::json;
use velero_model::recovery::ticket_key;

use super::*;
use crate::catalog::fixture::{Versioned, gz_json};

const OWN: &str = "uid-own";

/// Small numbers that are the same for one seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

/// A layout and the truth about it.
struct Layout {
    bucket: Arc<Versioned>,
    ours: BTreeSet<String>,
    theirs: BTreeSet<String>,
    /// Things that say nothing about whose they are.
    silent: BTreeSet<String>,
    is_shared: bool,
}

impl Layout {
    fn new(keeps_versions: bool) -> Self {
        Self {
            bucket: Arc::new(Versioned::new(keeps_versions)),
            ours: BTreeSet::new(),
            theirs: BTreeSet::new(),
            silent: BTreeSet::new(),
            is_shared: false,
        }
    }

    fn put(&mut self, key: &str, body: impl Into<bytes::Bytes>, whose: Whose) {
        self.bucket.seed(key, body);
        self.know(key, whose);
    }

    fn know(&mut self, key: &str, whose: Whose) {
        let set = match whose {
            Whose::Own => &mut self.ours,
            Whose::Other => &mut self.theirs,
            Whose::Silent => &mut self.silent,
        };
        set.insert(key.to_owned());
    }

    fn backup(&mut self, name: &str, uid: &str, random: &mut Random, whose: Whose) {
        let folder = format!("backups/{name}");
        let marker = json!({
            "apiVersion": "velero.io/v1", "kind": "Backup",
            "metadata": { "name": name, "namespace": "velero",
                "annotations": { "kubectl-backup.io/source-cluster-uid": uid } },
            "status": { "version": 1, "formatVersion": "1", "phase": "Completed" },
        });
        self.put(&format!("{folder}/{name}.tar.gz"), "tar", whose);
        if random.one_in(3) && self.bucket.keeps_versions() {
            self.put(&format!("{folder}/{name}.tar.gz"), "tar again", whose);
        }
        if !uid.is_empty() {
            let outcome = gz_json(&json!({ "version": 1, "source": { "clusterUid": uid } }));
            self.put(&format!("{folder}/{name}-outcome.json.gz"), outcome, whose);
        }
        if random.one_in(4) {
            let upload = format!("{folder}/{name}-index.gz");
            self.bucket.open_upload(&upload);
            self.know(&upload, whose);
        }
        // A deletion that was cut off, a marker that is damaged: the account of the run says whose it is.
        match (uid.is_empty(), random.below(8)) {
            (false, 0) => {}
            (false, 1) => self.put(&format!("{folder}/velero-backup.json"), "{", whose),
            _ => self.put(&format!("{folder}/velero-backup.json"), marker.to_string(), whose),
        }
        if random.one_in(3) {
            let restore = format!("restores/r-{name}");
            let record = json!({ "version": 1, "name": format!("r-{name}"), "backup": name });
            self.put(
                &format!("{restore}/restore-r-{name}.json"),
                record.to_string(),
                whose,
            );
            self.put(&format!("{restore}/restore-r-{name}-logs.gz"), "log", whose);
        }
    }

    fn ticket(&mut self, uid: &str, whose: Whose) {
        let ticket = json!({
            "apiVersion": "v", "kind": "RecoveryTicket", "version": 1,
            "cluster": { "group": "g", "kind": "k", "namespace": "n", "name": "n", "uid": uid },
            "source": { "clusterUid": uid }, "location": "l", "toolVersion": "0", "written": "2026-11-25T01:00:00Z",
            "backups": [], "keys": 0, "bytes": 0, "repositoryKey": { "state": "noVolumeData" }, "mustKnow": [],
        });
        self.put(&ticket_key(uid), ticket.to_string(), whose);
    }

    fn random(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            random.below(2);
        }
        let mut layout = Self::new(random.one_in(2));
        layout.is_shared = random.one_in(2);
        for number in 0..random.below(4) {
            layout.backup(&format!("own-{number}"), OWN, &mut random, Whose::Own);
        }
        if layout.is_shared {
            for number in 0..=random.below(3) {
                let uid = format!("uid-{}", random.below(2));
                layout.backup(&format!("other-{number}"), &uid, &mut random, Whose::Other);
            }
        }
        if random.one_in(2) {
            layout.ticket(OWN, Whose::Own);
        }
        if layout.is_shared && random.one_in(2) {
            layout.ticket("uid-0", Whose::Other);
        }
        if random.one_in(3) {
            layout.backup("by-velero", "", &mut random, Whose::Silent);
        }
        if random.one_in(3) {
            layout.put("kopia/shop/p0", "pack", Whose::Silent);
            layout.put("restic/shop/config", "config", Whose::Silent);
        }
        if random.one_in(4) {
            layout.put("backups/loose", "x", Whose::Silent);
            layout.put("restores/nobody/x", "x", Whose::Silent);
            layout.put("metadata/x", "x", Whose::Silent);
        }
        // Another cluster's prefix below this one, and what lies beside all layouts.
        if random.one_in(2) {
            layout.put("eu/backups/own-0/velero-backup.json", "{}", Whose::Other);
            layout.put("eu/restic/shop/config", "{}", Whose::Other);
            layout.put("readme.txt", "hello", Whose::Other);
        }
        layout
    }

    fn bucket(&self) -> Arc<dyn Bucket> {
        Arc::clone(&self.bucket) as Arc<dyn Bucket>
    }

    fn has(&self, keys: &BTreeSet<String>) -> usize {
        let left = self.bucket.everything();
        keys.iter().filter(|key| left.contains_key(*key)).count()
    }
}

#[derive(Debug, Clone, Copy)]
enum Whose {
    Own,
    Other,
    Silent,
}

async fn run(layout: &Layout) -> Result<(Disposal, Ended), CatalogError> {
    dispose(&layout.bucket(), Some(OWN), async |_| Ok::<_, CatalogError>(true)).await
}

/// Runs until it ends without a fault, dying after a few changes again and again.
async fn run_dying(layout: &Layout, changes: u64) -> Ended {
    for _ in 0..400 {
        layout.bucket.dies_after(Some(changes));
        match run(layout).await {
            Ok((_, Ended::Refused { is_denied: false, .. })) | Err(_) => {}
            Ok((_, ended)) => return ended,
        }
    }
    panic!("it does not converge");
}

fn is_ambiguous(layout: &Layout) -> bool {
    layout.is_shared && !layout.silent.is_empty()
}

fn judge(layout: &Layout, ended: &Ended, others: &[(String, (usize, usize))], seed: u64) {
    let left = layout.bucket.everything();
    for (key, count) in others {
        assert_eq!(left.get(key), Some(count), "seed {seed}: {key} is another's");
    }
    if is_ambiguous(layout) {
        assert!(matches!(ended, Ended::Shared { .. }), "seed {seed}: {ended:?}");
        assert_eq!(layout.has(&layout.silent), layout.silent.len(), "seed {seed}");
    } else {
        assert_eq!(*ended, Ended::Empty, "seed {seed}");
        assert_eq!(
            layout.has(&layout.ours) + layout.has(&layout.silent),
            0,
            "seed {seed}: {left:?}"
        );
    }
}

fn of_others(layout: &Layout) -> Vec<(String, (usize, usize))> {
    let all = layout.bucket.everything();
    let theirs = layout.theirs.iter();
    theirs
        .map(|key| (key.clone(), all.get(key).copied().unwrap_or_default()))
        .collect()
}

#[tokio::test]
async fn nothing_of_another_cluster_is_ever_deleted() {
    for seed in 0..1500 {
        let layout = Layout::random(seed);
        let others = of_others(&layout);
        let (_, ended) = run(&layout).await.unwrap();
        judge(&layout, &ended, &others, seed);
    }
}

#[tokio::test]
async fn a_disposal_that_dies_after_any_change_is_finished_by_the_next() {
    for seed in 0..250 {
        let whole = Layout::random(seed);
        run(&whole).await.unwrap();
        let changes = whole.bucket.changes();
        // Dying once, after each change there is; and dying after every single one.
        for at in (0..changes).step_by(usize::try_from(changes / 12).unwrap() + 1) {
            let layout = Layout::random(seed);
            let others = of_others(&layout);
            layout.bucket.dies_after(Some(at));
            let _ = run(&layout).await;
            layout.bucket.dies_after(None);
            let (_, ended) = run(&layout).await.unwrap();
            judge(&layout, &ended, &others, seed);
        }
        let layout = Layout::random(seed);
        let others = of_others(&layout);
        let ended = run_dying(&layout, 1).await;
        judge(&layout, &ended, &others, seed);
    }
}

#[tokio::test]
async fn counts_are_those_of_the_store() {
    let mut layout = Layout::new(true);
    let mut random = Random(1);
    layout.backup("b", OWN, &mut random, Whose::Own);
    layout.put("kopia/shop/p0", "pack", Whose::Silent);
    layout.bucket.hide("kopia/shop/p0");
    layout.bucket.open_upload("backups/b/b-more");
    layout.put("eu/backups/x/velero-backup.json", "{}", Whose::Other);
    let visible = layout.bucket().list_all("").await.unwrap();
    let own: Vec<_> = visible
        .iter()
        .filter(|info| !info.key.starts_with("eu/"))
        .collect();
    let (disposal, ended) = run(&layout).await.unwrap();
    assert_eq!(ended, Ended::Empty);
    assert_eq!(disposal.purged.keys, own.len() as u64);
    assert_eq!(
        disposal.purged.bytes,
        own.iter().map(|info| info.size).sum::<u64>()
    );
    assert!(disposal.purged.delete_markers >= 1 && disposal.purged.uploads >= 1);
    assert_eq!(disposal.backups, 1);
    assert_eq!(disposal.foreign, BTreeMap::from([(String::new(), 1)]));
}

#[tokio::test]
async fn a_locked_backup_stays_whole_and_visible_and_its_date_is_told() {
    let mut layout = Layout::new(true);
    let mut random = Random(1);
    layout.backup("free", OWN, &mut random, Whose::Own);
    layout.backup("kept", OWN, &mut random, Whose::Own);
    layout.put("kopia/shop/p0", "pack", Whose::Silent);
    let until: jiff::Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
    let keys = layout.bucket().list_all("backups/kept/").await.unwrap();
    for info in &keys {
        layout
            .bucket
            .locked
            .lock()
            .unwrap()
            .insert(info.key.clone(), until);
    }
    let (disposal, ended) = run(&layout).await.unwrap();
    assert_eq!(ended, Ended::Locked);
    assert_eq!(disposal.purged.locks.len(), 1, "{:?}", disposal.purged.locks);
    assert_eq!(disposal.purged.locks[0].until, Some(until));
    let left = layout.bucket().list_all("").await.unwrap();
    let left: Vec<_> = left.into_iter().map(|info| info.key).collect();
    let mut expected: Vec<_> = keys.into_iter().map(|info| info.key).collect();
    // Its volume data stays with it.
    expected.push("kopia/shop/p0".to_owned());
    let restores: Vec<_> = left.iter().filter(|key| key.starts_with("restores/")).collect();
    assert!(restores.is_empty(), "{restores:?}");
    assert_eq!(left, expected);
    layout.bucket.locked.lock().unwrap().clear();
    assert_eq!(run(&layout).await.unwrap().1, Ended::Empty);
}

#[tokio::test]
async fn without_the_right_nothing_is_hidden_halfway_and_the_right_is_named() {
    let mut layout = Layout::new(false);
    layout.backup("b", OWN, &mut Random(1), Whose::Own);
    *layout.bucket.may_not_delete.lock().unwrap() = true;
    let before = layout.bucket.everything();
    let (_, ended) = run(&layout).await.unwrap();
    let Ended::Refused {
        first,
        is_denied: true,
    } = ended
    else {
        panic!("{ended:?}");
    };
    assert!(first.contains("s3:DeleteObject"), "{first}");
    assert_eq!(layout.bucket.everything(), before);
}

#[tokio::test]
async fn nothing_is_deleted_where_the_cluster_is_not_known_or_a_run_is_at_work() {
    let mut layout = Layout::new(true);
    layout.backup("b", OWN, &mut Random(1), Whose::Own);
    let before = layout.bucket.everything();
    let unknown = dispose(&layout.bucket(), None, async |_| Ok::<_, CatalogError>(true)).await;
    assert_eq!(unknown.unwrap().1, Ended::SourceUnknown(vec![OWN.to_owned()]));
    let claim = serde_json::to_vec(&crate::claim::new_claim()).unwrap();
    layout.put("backups/now/now-claim.json", claim, Whose::Own);
    assert_eq!(
        run(&layout).await.unwrap().1,
        Ended::AtWork(vec!["backup now".to_owned()])
    );
    let stopped = dispose(&layout.bucket(), Some(OWN), async |_| {
        Ok::<_, CatalogError>(false)
    })
    .await;
    assert!(matches!(stopped.unwrap().1, Ended::AtWork(_)));
    assert_eq!(layout.bucket.everything().len(), before.len() + 1);
}

#[tokio::test]
async fn what_is_kept_is_counted_by_the_same_rules() {
    let mut layout = Layout::new(false);
    let mut random = Random(3);
    layout.backup("a", OWN, &mut random, Whose::Own);
    layout.backup("b", "uid-1", &mut random, Whose::Other);
    layout.put("kopia/shop/p0", "pack", Whose::Silent);
    let found = belongings(&layout.bucket(), Some(OWN)).await.unwrap().unwrap();
    assert_eq!(found.backups, [BackupName::parse("a").unwrap()]);
    assert_eq!(usize::try_from(found.keys).unwrap(), layout.has(&layout.ours));
    assert!(!found.has_repositories);
    assert!(found.foreign.contains_key("uid-1"));
}
