//! The same backup restored twice, by Velero 1.18.3 and by us, into two clusters without controllers, so that what stands
//! there is what was restored. Every object is compared; each difference stands in a table with its reason.

use anyhow::Result;
use backup_tests::applications;
use backup_tests::cluster::Cluster;
use backup_tests::compare::{Difference, Ignored, compare};
use backup_tests::plugin::Plugin;
use backup_tests::snapshot::{ObjectKey, Snapshot};
use backup_tests::store::Store;
use backup_tests::velero::Velero;
use serde_json::json;

use crate::site::{applications_in, back_up_applications};

const fn entry(
    resources: &'static [&'static str],
    path: &'static [&'static str],
    why: &'static str,
) -> Ignored {
    Ignored { resources, path, why }
}

const NEW_OBJECT: &str = "each API server gives it to its new object";
const NEW_ADDRESS: &str = "each API server allocates it";

/// What two API servers never give the same.
const TWO_CLUSTERS: &[Ignored] = &[
    entry(&[], &["metadata", "uid"], NEW_OBJECT),
    entry(&[], &["metadata", "resourceVersion"], NEW_OBJECT),
    entry(&[], &["metadata", "creationTimestamp"], NEW_OBJECT),
    entry(
        &[],
        &["metadata", "managedFields"],
        "names the writer and the time",
    ),
    entry(
        &[],
        &["metadata", "labels", "velero.io/restore-name"],
        "the two restores have two names",
    ),
    entry(&[], &["status"], "written by the API server about its own start"),
    entry(&["services"], &["spec", "clusterIP"], NEW_ADDRESS),
    entry(&["services"], &["spec", "clusterIPs"], NEW_ADDRESS),
    entry(&["services"], &["spec", "ports", "*", "nodePort"], NEW_ADDRESS),
    entry(&["services"], &["spec", "healthCheckNodePort"], NEW_ADDRESS),
    entry(
        &["jobs.batch"],
        &[
            "spec",
            "selector",
            "matchLabels",
            "batch.kubernetes.io/controller-uid",
        ],
        NEW_OBJECT,
    ),
    entry(
        &["jobs.batch"],
        &[
            "spec",
            "template",
            "metadata",
            "labels",
            "batch.kubernetes.io/controller-uid",
        ],
        NEW_OBJECT,
    ),
    entry(
        &["jobs.batch"],
        &["spec", "template", "metadata", "labels", "controller-uid"],
        NEW_OBJECT,
    ),
    entry(
        &["ipaddresses.networking.k8s.io"],
        &[],
        "is named after an address that each API server allocates",
    ),
];

/// Which restore has it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Only {
    Velero,
    Us,
}

/// What the two restores do not do alike.
struct Known {
    resource: &'static str,
    /// The end of the object's name.
    name: &'static str,
    path: &'static [&'static str],
    only: Only,
    why: &'static str,
}

const fn known(
    resource: &'static str,
    name: &'static str,
    path: &'static [&'static str],
    only: Only,
    why: &'static str,
) -> Known {
    Known {
        resource,
        name,
        path,
        only,
        why,
    }
}

const OWNED: &str = "we keep owner references, with the owner's new uid; Velero makes orphans";
const OWNERS: &[&str] = &["metadata", "ownerReferences"];

const DIFFERENT: &[Known] = &[
    known("configmaps", "market-square-schedule", OWNERS, Only::Us, OWNED),
    known("secrets", "market-square-valve", OWNERS, Only::Us, OWNED),
    known("replicasets.apps", "", OWNERS, Only::Us, OWNED),
    known("controllerrevisions.apps", "", OWNERS, Only::Us, OWNED),
    known(
        "pods",
        "",
        &[],
        Only::Velero,
        "we leave pods to the controllers that made them",
    ),
    known(
        "endpoints",
        "",
        &[],
        Only::Velero,
        "made of its Service, with addresses of pods that are gone",
    ),
    known(
        "endpointslices.discovery.k8s.io",
        "",
        &[],
        Only::Velero,
        "as endpoints",
    ),
    known(
        "configmaps",
        "kube-root-ca.crt",
        &[],
        Only::Velero,
        "each cluster publishes its own authority",
    ),
];

impl Known {
    fn covers(&self, difference: &Difference) -> bool {
        let only = match (&difference.left, &difference.right) {
            (Some(_), None) => Some(Only::Velero),
            (None, Some(_)) => Some(Only::Us),
            _ => None,
        };
        self.resource == difference.key.resource
            && difference.key.name.ends_with(self.name)
            && difference.path == self.path
            && only == Some(self.only)
    }
}

#[test]
fn the_same_backup_restored_by_velero_and_by_us_differs_where_the_table_says() -> Result<()> {
    let store = Store::shared_versitygw()?;
    back_up_applications(&store, "all")?;
    let quiet = |name| Cluster::builder().name(name).controllers(false).start();
    let (theirs, ours) = (quiet("theirs")?, quiet("ours")?);
    let mut velero = Velero::start(&theirs, &store)?;
    velero.restart()?;
    velero.wait_until_synced("all")?;
    let (restored, took) = velero.restore(
        "theirs",
        json!({ "backupName": "all", "includedNamespaces": ["*"] }),
    )?;
    assert_eq!(restored["status"]["phase"], "Completed");
    let ran = Plugin::new(&ours, &store)?
        .run(["restore", "all", "--name", "ours"])?
        .ok();
    println!(
        "Velero: {} items in {took:?}; we, with the start of the plugin: {:?}",
        restored["status"]["progress"]["itemsRestored"], ran.took
    );

    let (theirs, ours) = (applications_in(&theirs)?, applications_in(&ours)?);
    let compared = compare(&theirs, &ours, TWO_CLUSTERS);
    assert!(compared.compared > 200, "{}", compared.compared);
    let unknown: Vec<String> = compared
        .differences
        .iter()
        .filter(|difference| !DIFFERENT.iter().any(|known| known.covers(difference)))
        .map(ToString::to_string)
        .collect();
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
    // An entry that nothing needs any more would hide a fault one day.
    assert_eq!(compared.unused(), Vec::<&Ignored>::new());
    for known in DIFFERENT {
        let needed = compared
            .differences
            .iter()
            .any(|difference| known.covers(difference));
        assert!(
            needed,
            "no {} {} differs any more: {}",
            known.resource, known.name, known.why
        );
    }
    assert_children_are_orphans_by_velero_alone(&theirs, &ours);
    Ok(())
}

/// What an operator's object owned: nobody adopts it again, and nobody deletes it with its owner.
fn assert_children_are_orphans_by_velero_alone(theirs: &Snapshot, ours: &Snapshot) {
    let owner = ObjectKey::namespaced("fountains.water.example.com", "operator", "market-square");
    for (resource, name) in [
        ("configmaps", "market-square-schedule"),
        ("secrets", "market-square-valve"),
    ] {
        let child = ObjectKey::namespaced(resource, "operator", name);
        assert_eq!(theirs[&child]["metadata"].get("ownerReferences"), None);
        let reference = &ours[&child]["metadata"]["ownerReferences"][0];
        assert_eq!(reference["uid"], ours[&owner]["metadata"]["uid"]);
        assert_eq!(
            (&reference["controller"], &reference["kind"]),
            (&json!(true), &json!("Fountain"))
        );
    }
}

#[test]
fn what_a_custom_resource_owned_goes_with_it_after_our_restore_and_stays_after_veleros() -> Result<()> {
    let store = Store::shared_versitygw()?;
    let source = Cluster::builder().controllers(false).start()?;
    applications::install_operator(&source)?;
    Plugin::new(&source, &store)?
        .run(["create", "b", "-n", "operator"])?
        .ok();
    let (theirs, ours) = (Cluster::start()?, Cluster::start()?);
    let mut velero = Velero::start(&theirs, &store)?;
    velero.restart()?;
    velero.wait_until_synced("b")?;
    velero.restore("theirs", json!({ "backupName": "b" }))?;
    Plugin::new(&ours, &store)?
        .run(["restore", "b", "--name", "ours"])?
        .ok();

    let fountain = "/apis/water.example.com/v1/namespaces/operator/fountains/market-square";
    let children = ["configmaps/market-square-schedule", "secrets/market-square-valve"]
        .map(|child| format!("/api/v1/namespaces/operator/{child}"));
    for cluster in [&theirs, &ours] {
        for child in &children {
            assert!(cluster.get(child)?.is_some(), "{child}");
        }
        // No operator runs here that would take its finalizer off.
        cluster.patch(fountain, json!({ "metadata": { "finalizers": null } }))?;
        cluster.delete(fountain)?;
        cluster.wait_until_gone(fountain)?;
    }
    for child in &children {
        ours.wait_until_gone(child)?;
    }
    for child in &children {
        assert!(
            theirs.get(child)?.is_some(),
            "{child} has an owner after a restore by Velero"
        );
    }
    Ok(())
}
