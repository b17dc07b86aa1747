//! What is said beside a decision: warnings, who chose, policies that make no sense, counts.

use super::*;

#[test]
fn lists_that_velero_honours_in_part_are_warned_about() {
    let volumes = [
        claim("data"),
        claim("logs"),
        json!({ "name": "host", "hostPath": { "path": "/" } }),
    ];
    for (list, expected) in [
        ("data,logs", None),
        (
            "data, logs",
            Some(
                "backup-volumes has spaces, which Velero takes as part of the name: no volume \" logs\" in the pod",
            ),
        ),
        (
            "dta",
            Some("backup-volumes names \"dta\", but the pod has no such volume"),
        ),
        (
            "dta,lgs,x",
            Some("backup-volumes names \"dta\" (and 2 more), but the pod has no such volume"),
        ),
        (
            "data,",
            Some("backup-volumes names \"\", but the pod has no such volume"),
        ),
        (
            "host",
            Some("backup-volumes names \"host\", but Velero skips it: it is a folder of the node (hostPath)"),
        ),
    ] {
        let pod = pod(&annotated("backup.velero.io/backup-volumes", list), &volumes);
        let warnings = Place::labelled(&[]).warnings(&Rules::default(), &pod);
        assert_eq!(warnings, expected.into_iter().collect::<Vec<_>>(), "{list}");
        assert!(
            warnings.iter().all(|warning| warning.len() <= WARNING_LENGTH),
            "{warnings:?}"
        );
    }
    let both = json!({ "name": "p", "annotations": { "backup.velero.io/backup-volumes": "data",
        "backup.velero.io/backup-volumes-excludes": "data" } });
    assert_eq!(
        Place::labelled(&[]).warnings(&Rules::default(), &pod(&both, &volumes)),
        ["volume \"data\" is in backup-volumes and in backup-volumes-excludes: Velero takes it"]
    );
    let many: Vec<String> = (0..30).map(|number| format!("v{number}")).collect();
    let hosts: Vec<Value> = many
        .iter()
        .map(|name| json!({ "name": name, "hostPath": {} }))
        .collect();
    let pod = pod(
        &annotated("backup.velero.io/backup-volumes", &many.join(",")),
        &hosts,
    );
    assert_eq!(Place::labelled(&[]).warnings(&Rules::default(), &pod).len(), 8);
}

#[test]
fn who_chose_is_recorded_beside_the_list() {
    let rules = Rules::new(
        vec![
            policy("all", &json!({})),
            policy("b", &json!({ "volumes": { "claimNames": ["*-b"] } })),
        ],
        [],
    );
    let place = Place::labelled(&[("kubectl-backup.io/volumes", "include")]);
    let chosen_by = |rules: &Rules, pod: &Value| {
        place.decide(rules, pod, "shop", |decision: &Decision<'_>| decision.chosen_by())
    };
    let plain = pod(&json!({ "name": "p" }), &[claim("a"), claim("b")]);
    assert_eq!(chosen_by(&rules, &plain), "namespace-label,all@3,b@3");
    let again = json!({ "name": "p", "annotations": { "kubectl-backup.io/volumes-chosen-by": "old@1,nonsense,@2,pod-label,all@3",
        "backup.velero.io/backup-volumes": "a" } });
    assert_eq!(
        chosen_by(&rules, &pod(&again, &[claim("a"), claim("b")])),
        "old@1,pod-label,all@3,namespace-label,b@3"
    );
}

#[test]
fn a_policy_that_makes_no_sense_is_named() {
    for (spec, expected) in [
        (
            json!({ "volumes": { "claimNames": [""] } }),
            "volumes.claimNames: a name is empty",
        ),
        (
            json!({ "volumes": { "claimNames": ["^a$"] } }),
            "volumes.claimNames: \"^a$\" has '^'",
        ),
        (
            json!({ "volumes": { "storageClasses": [""] } }),
            "volumes.storageClasses: a name is empty",
        ),
        (
            json!({ "volumes": { "minimumCapacity": "ten" } }),
            "volumes.minimumCapacity: \"ten\" is no quantity",
        ),
        (
            json!({ "volumes": { "minimumCapacity": "2Gi", "maximumCapacity": "2G" } }),
            "volumes.minimumCapacity is larger",
        ),
        (
            json!({ "podSelector": { "matchLabels": { "a b": "c" } } }),
            "podSelector: label key \"a b\"",
        ),
        (
            json!({ "namespaceSelector": { "matchExpressions": [{ "key": "a", "operator": "Like" }] } }),
            "namespaceSelector: ",
        ),
    ] {
        let problem = Policy::compile(&parsed("p", &spec)).unwrap_err().to_string();
        assert!(problem.starts_with(expected), "{problem}");
    }
}

#[test]
fn policies_are_counted_with_their_conflicts() {
    let rules = Rules::new(
        vec![
            policy("all", &json!({})),
            policy(
                "no-tmp",
                &json!({ "action": "Exclude", "volumes": { "claimNames": ["*-tmp"] } }),
            ),
            policy(
                "none",
                &json!({ "podSelector": { "matchLabels": { "app": "none" } } }),
            ),
        ],
        [],
    );
    let mut tally = Tally::new(&rules);
    let place = Place::labelled(&[]);
    for list in ["", "tmp"] {
        let pod = pod(
            &annotated("backup.velero.io/backup-volumes", list),
            &[claim("data"), claim("tmp")],
        );
        place.decide(&rules, &pod, "shop", |decision| tally.add(decision));
    }
    let counts = |pods, volumes, conflicts| {
        Some(PolicyCounts {
            pods,
            volumes,
            conflicts,
        })
    };
    assert_eq!(tally.of("all"), counts(2, 4, 1));
    assert_eq!(tally.of("no-tmp"), counts(2, 2, 1));
    assert_eq!(tally.of("none"), counts(0, 0, 0));
    assert_eq!(tally.of("gone"), None);
}
