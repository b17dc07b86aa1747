//! Properties of every decision, over random pods and policies.

use proptest::prelude::*;

use super::*;

fn random_volume(number: usize) -> impl Strategy<Value = Value> {
    let name = format!("v{number}");
    prop::sample::select(vec![
        claim(&name),
        claim(&name),
        json!({ "name": name, "emptyDir": {} }),
        json!({ "name": name, "secret": {} }),
        json!({ "name": name, "hostPath": {} }),
        json!({ "name": name, "ephemeral": { "volumeClaimTemplate": { "spec": {} } } }),
    ])
}

fn random_rules() -> impl Strategy<Value = Rules> {
    let spec = prop::sample::select(vec![
        json!({}),
        json!({ "volumes": { "types": ["EmptyDir"] } }),
        json!({ "action": "Exclude", "volumes": { "claimNames": ["*-v1"] } }),
        json!({ "volumes": { "storageClasses": ["x"] } }),
        json!({ "action": "Exclude", "podSelector": { "matchLabels": { "app": "x" } } }),
    ]);
    prop::collection::vec(spec, 0..4).prop_map(|specs| {
        let named = specs
            .iter()
            .enumerate()
            .map(|(number, spec)| policy(&format!("p{number}"), spec));
        Rules::new(named.collect(), [])
    })
}

proptest! {
    #[test]
    fn deciding_again_adds_nothing_and_the_list_is_only_added_to(
        volumes in (random_volume(0), random_volume(1), random_volume(2), random_volume(3)),
        list in "(v[0-5]|[ ,]|x){0,6}",
        excludes in "(v[0-5],){0,2}",
        label in prop::sample::select(vec!["", "include", "exclude", "x"]),
        rules in random_rules(),
    ) {
        let volumes = [volumes.0, volumes.1, volumes.2, volumes.3];
        let mut annotations = json!({ "backup.velero.io/backup-volumes-excludes": excludes });
        if !list.is_empty() {
            annotations["backup.velero.io/backup-volumes"] = json!(list);
        }
        let metadata = |annotations: &Value| json!({ "name": "p", "annotations": annotations,
            "labels": { "kubectl-backup.io/volumes": label, "app": label } });
        let place = Place::labelled(&[]);
        let before = pod(&metadata(&annotations), &volumes);
        if let Some(value) = place.annotation(&rules, &before) {
            prop_assert!(value.starts_with(&list), "{} of {}", value, list);
            let added = value[list.len()..].trim_start_matches(',');
            let names: Vec<&str> = added.split(',').collect();
            prop_assert!(!added.contains(' '));
            for (at, name) in names.iter().enumerate() {
                prop_assert!(!names[..at].contains(name));
                prop_assert!(!list.split(',').any(|listed| listed == *name));
                prop_assert!(!excludes.split(',').any(|kept_out| kept_out == *name));
            }
            annotations["backup.velero.io/backup-volumes"] = json!(value);
            let after = pod(&metadata(&annotations), &volumes);
            prop_assert_eq!(place.annotation(&rules, &after), None);
        }
        for warning in place.warnings(&rules, &before) {
            prop_assert!(warning.chars().count() <= 2 * WARNING_LENGTH);
        }
    }

    #[test]
    fn reading_foreign_bytes_never_panics(text in "[\\[\\]{}\",:a-z0-9\\\\ ]{0,60}", number in "[0-9.eEinumkKMGTP+-]{0,12}") {
        let _ = PodFacts::parse(text.as_bytes());
        let _ = Claim::parse(text.as_bytes());
        let _ = Quantity::parse(&number);
    }
}
