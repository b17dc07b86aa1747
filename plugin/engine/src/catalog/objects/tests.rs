//! Objects are found, listed and read the same way in our backups and in Velero's.

use std::sync::Arc;

use super::*;
use crate::catalog::{
    fixture::{Fixture, json, kind, name},
    open::open,
};

async fn objects(fixture: &Fixture, of: &str) -> Objects {
    let backup = open(&fixture.bucket(), &name(of)).await.unwrap();
    backup
        .objects(&Arc::default(), &CancellationToken::new())
        .await
        .unwrap()
}

async fn both(count: usize) -> (Fixture, [Objects; 2]) {
    let fixture = Fixture::new();
    fixture.ours("ours", count).await;
    fixture.velero("theirs", count).await;
    let objects = [objects(&fixture, "ours").await, objects(&fixture, "theirs").await];
    (fixture, objects)
}

#[tokio::test]
async fn an_object_is_found_and_read_whoever_wrote_the_backup() {
    let (_, both) = both(40).await;
    for objects in both {
        assert_eq!(objects.directory().objects, 40);
        let entry = objects
            .get("configmaps", Some("a-b"), "map-00010")
            .await
            .unwrap()
            .unwrap();
        let body = objects.read(&entry).await.unwrap();
        assert_eq!(
            body,
            json(&kind("configmaps", "ConfigMap", true), Some("a-b"), "map-00010")
        );
        assert_eq!(entry.owners, ["owner-map-00010"]);
        let namespace = objects.get("namespaces", None, "shop").await.unwrap().unwrap();
        assert!(objects.read(&namespace).await.is_ok());
        for (group, namespace, name) in [
            ("configmaps", Some("shop"), "map-00010"),
            ("configmaps", None, "map-00010"),
            ("pods", None, "x"),
        ] {
            assert_eq!(objects.get(group, namespace, name).await.unwrap(), None);
        }
        assert_eq!(
            objects.candidates("configmaps", "map-00010").await.unwrap(),
            [entry]
        );
    }
}

#[tokio::test]
async fn filters_name_what_is_wanted() {
    let (_, both) = both(2000).await;
    for objects in both {
        assert!(objects.directory().blocks.len() > 2);
        let count = async |filter: EntryFilter| {
            let entries: Vec<Entry> = objects.entries(filter).try_collect().await.unwrap();
            assert!(entries.is_sorted_by(|a, b| a.key() < b.key()));
            entries.len()
        };
        let all = EntryFilter::default;
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(count(all()).await, 2000);
        assert_eq!(
            count(EntryFilter {
                namespace: some("a-b"),
                ..all()
            })
            .await,
            399
        );
        assert_eq!(
            count(EntryFilter {
                name: some("shop"),
                ..all()
            })
            .await,
            1
        );
        assert_eq!(
            count(EntryFilter {
                name: some("map-01999"),
                ..all()
            })
            .await,
            1
        );
        let groups = Some(vec!["namespaces".to_owned(), "pods".to_owned()]);
        assert_eq!(
            count(EntryFilter {
                resource_groups: groups,
                ..all()
            })
            .await,
            1
        );
        let selector = Some(Selector::parse("app in (map-00007,map-00008)").unwrap());
        assert_eq!(count(EntryFilter { selector, ..all() }).await, 2);
    }
}

#[tokio::test]
async fn every_member_comes_once_with_its_objects_in_place() {
    let (fixture, both) = both(500).await;
    for objects in both {
        fixture.observed.reset();
        let groups = ["configmaps".to_owned()];
        let members: Vec<Member> = objects.members_in_order(&groups).try_collect().await.unwrap();
        let mut seen = 0;
        for member in &members {
            assert!(member.entries().is_sorted_by_key(|entry| entry.offset));
            for entry in member.entries() {
                let expected = json(
                    &kind("configmaps", "ConfigMap", true),
                    entry.namespace.as_deref(),
                    &entry.name,
                );
                assert_eq!(member.object(entry).unwrap(), expected);
                seen += 1;
            }
        }
        assert_eq!(seen, 499);
        let (reads, _) = fixture.observed.seen();
        assert!(
            reads <= members.len() as u64 + 1,
            "{reads} reads for {} members",
            members.len()
        );
    }
}

#[tokio::test]
async fn one_object_costs_less_than_a_hundredth_of_a_large_backup() {
    let fixture = Fixture::new();
    fixture.ours("b", 60_000).await;
    let backup = open(&fixture.bucket(), &name("b")).await.unwrap();
    fixture.observed.reset();
    let objects = backup
        .objects(&Arc::default(), &CancellationToken::new())
        .await
        .unwrap();
    let entry = objects
        .get("configmaps", Some("shop"), "map-31416")
        .await
        .unwrap()
        .unwrap();
    assert!(objects.read(&entry).await.is_ok());
    let (reads, bytes) = fixture.observed.seen();
    assert!(reads <= 4, "{reads} reads");
    assert!(bytes * 100 < backup.size(), "{bytes} of {} bytes", backup.size());
}

#[tokio::test]
async fn an_entry_that_names_another_object_is_refused() {
    let fixture = Fixture::new();
    fixture
        .assemble("b", 10, |entries| {
            let (first, second) = (entries[0].clone(), &mut entries[1]);
            (second.member, second.member_length) = (first.member, first.member_length);
            (second.offset, second.size) = (first.offset, first.size);
            entries[2].member = 1 << 40;
            entries[3].member_length = u64::MAX;
            entries[4].size += 100_000;
        })
        .await;
    let objects = objects(&fixture, "b").await;
    let entries: Vec<Entry> = objects
        .entries(EntryFilter::default())
        .try_collect()
        .await
        .unwrap();
    assert!(objects.read(&entries[0]).await.is_ok());
    assert!(matches!(
        objects.read(&entries[1]).await,
        Err(CatalogError::Object { .. })
    ));
    assert!(matches!(
        objects.read(&entries[2]).await,
        Err(CatalogError::Index { .. })
    ));
    assert!(matches!(
        objects.read(&entries[3]).await,
        Err(CatalogError::Index { .. })
    ));
    assert!(matches!(
        objects.read(&entries[4]).await,
        Err(CatalogError::Member { .. })
    ));
}

#[tokio::test]
async fn a_damaged_index_is_an_error_and_the_archive_is_the_way_around() {
    let fixture = Fixture::new();
    fixture.ours("b", 10).await;
    let key = "backups/b/b-index.gz";
    let whole = fixture.bytes(key).await;
    let open = open(&fixture.bucket(), &name("b")).await.unwrap();
    let (progress, cancel) = (Arc::default(), CancellationToken::new());
    for damaged in [
        Vec::new(),
        whole[..20].to_vec(),
        whole[..whole.len() - 1].to_vec(),
    ] {
        fixture.put(key, damaged).await;
        let open = crate::catalog::open(&fixture.bucket(), &name("b")).await.unwrap();
        let error = open.objects(&progress, &cancel).await.unwrap_err();
        assert!(error.is_damage(), "{error}");
    }
    let objects = open.objects_from_archive(&progress, &cancel).await.unwrap();
    assert_eq!(objects.directory().objects, 10);
}

#[tokio::test]
async fn a_cut_foreign_archive_is_an_error() {
    let fixture = Fixture::new();
    fixture.velero("b", 20).await;
    let key = "backups/b/b.tar.gz";
    let whole = fixture.bytes(key).await;
    fixture.put(key, &whole[..whole.len() / 2]).await;
    let open = open(&fixture.bucket(), &name("b")).await.unwrap();
    let error = open
        .objects(&Arc::default(), &CancellationToken::new())
        .await
        .unwrap_err();
    assert!(matches!(error, CatalogError::Archive { .. }), "{error}");
    let cancel = CancellationToken::new();
    cancel.cancel();
    let error = open.objects(&Arc::default(), &cancel).await.unwrap_err();
    assert!(matches!(error, CatalogError::Interrupted), "{error}");
}
