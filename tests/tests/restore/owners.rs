//! Owners have new uids after a restore, and what they own has to name those, or the garbage collector deletes it.

use std::time::Duration;

use anyhow::Result;
use backup_tests::cluster::Cluster;
use serde_json::{Value, json};

use crate::custom_resources::{define_things, delete_definition, thing};
use crate::site::{
    Site, assert_completed, config_map, delete_namespace, object, of_namespaces, only, path, request, uid,
};

#[test]
fn owners_have_their_new_uids_and_the_garbage_collector_agrees() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    let things = define_things(cluster, &namespace)?;
    let owner = cluster.create(thing(&namespace, "owner"))?;
    let reference = |owner: &Value| {
        json!([{ "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true }])
    };
    // Comes before its owner, after its owner, and with an owner that is not there.
    let mut early = config_map(&namespace, "early", "1");
    early["metadata"]["ownerReferences"] = reference(&owner);
    let early = cluster.create(early)?;
    let mut late = thing(&namespace, "late");
    late["metadata"]["ownerReferences"] = reference(&early);
    cluster.create(late)?;
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    delete_namespace(cluster, namespace.name())?;
    delete_definition(cluster, &namespace)?;

    let summary = site.restore(cluster, "b", request("r"))?;
    assert_completed(&summary);
    let owner = object(cluster, &format!("{things}/owner"))?;
    let check = |cluster: &Cluster| -> Result<()> {
        let early = object(cluster, &path(namespace.name(), "configmaps", "early"))?;
        let late = object(cluster, &format!("{things}/late"))?;
        for (child, owner) in [(&early, &owner), (&late, &early)] {
            let reference = &child["metadata"]["ownerReferences"][0];
            assert_eq!(reference["uid"], uid(owner));
            assert_eq!(reference["controller"], true);
            assert_eq!(reference["blockOwnerDeletion"], true);
        }
        Ok(())
    };
    check(cluster)?;
    std::thread::sleep(Duration::from_secs(3));
    check(cluster)?;

    // An owner that still lives keeps its child; one that is gone lets go of it.
    cluster.delete(&format!("{things}/late"))?;
    site.back_up(cluster, "again", of_namespaces(&[namespace.name()]))?;
    let early = path(namespace.name(), "configmaps", "early");
    cluster.delete(&early)?;
    assert_completed(&site.restore(cluster, "again", only("living", "configmaps", "early"))?);
    assert_eq!(
        object(cluster, &early)?["metadata"]["ownerReferences"][0]["uid"],
        uid(&owner)
    );
    cluster.delete(&early)?;
    cluster.delete(&format!("{things}/owner"))?;
    assert_completed(&site.restore(cluster, "again", only("gone", "configmaps", "early"))?);
    assert_eq!(object(cluster, &early)?["metadata"].get("ownerReferences"), None);
    delete_definition(cluster, &namespace)
}
