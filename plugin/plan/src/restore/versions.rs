//! Which form of an object is restored when the cluster does not serve the version that it was stored in.
//!
//! In come the stored kind, the versions that the cluster serves, and the versions in which the backup holds second copies
//! (Velero makes them with its feature `EnableAPIGroupVersions`). Out goes a [`Form`]: the object as it is, a copy that the
//! old cluster converted itself, or the object moved to a version of identical schema by the table below; else a refusal
//! that names the version to convert to. A row is in the table only where every field and every default is the same on both
//! sides; where one value means something else, a check refuses the objects that have it.

use serde_json::{Map, Value};
use velero_model::resource::ApiKind;

/// In which form an object is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// As it is stored.
    AsStored,
    /// From the copy in this version.
    Copy {
        /// The version, without the group.
        version: String,
    },
    /// As it is stored, under another version.
    Moved(&'static Move),
    /// Not at all, for this reason.
    Refused(String),
}

/// A move between two versions.
#[derive(Debug)]
pub struct Move {
    group: &'static str,
    plurals: &'static [&'static str],
    from: &'static str,
    /// The version that it moves to, without the group.
    pub to: &'static str,
    /// Why nothing is lost.
    pub reason: &'static str,
    /// Refuses objects with a value that means something else.
    check: Option<Check>,
}

type Check = fn(&Map<String, Value>) -> Result<(), &'static str>;

/// Each row is there once.
impl PartialEq for Move {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Move {}

const RENAMED_ONLY: &str = "v1 is the beta under another name: same fields, same defaults";

static MOVES: [Move; 14] = [
    Move {
        group: "autoscaling",
        plurals: &["horizontalpodautoscalers"],
        from: "v2beta2",
        to: "v2",
        reason: "v2 took over all fields of v2beta2",
        check: None,
    },
    Move {
        group: "batch",
        plurals: &["cronjobs"],
        from: "v1beta1",
        to: "v1",
        reason: RENAMED_ONLY,
        check: None,
    },
    Move {
        group: "policy",
        plurals: &["poddisruptionbudgets"],
        from: "v1beta1",
        to: "v1",
        reason: "the same but for an empty selector, which is refused",
        check: Some(selects_something),
    },
    Move {
        group: "rbac.authorization.k8s.io",
        plurals: &["clusterrolebindings", "clusterroles", "rolebindings", "roles"],
        from: "v1beta1",
        to: "v1",
        reason: RENAMED_ONLY,
        check: None,
    },
    Move {
        group: "scheduling.k8s.io",
        plurals: &["priorityclasses"],
        from: "v1beta1",
        to: "v1",
        reason: RENAMED_ONLY,
        check: None,
    },
    Move {
        group: "node.k8s.io",
        plurals: &["runtimeclasses"],
        from: "v1beta1",
        to: "v1",
        reason: RENAMED_ONLY,
        check: None,
    },
    Move {
        group: "storage.k8s.io",
        plurals: &["csidrivers", "csistoragecapacities", "storageclasses"],
        from: "v1beta1",
        to: "v1",
        reason: RENAMED_ONLY,
        check: None,
    },
    Move {
        group: "storage.k8s.io",
        plurals: &["volumeattributesclasses"],
        from: "v1beta1",
        to: "v1",
        reason: RENAMED_ONLY,
        check: None,
    },
    Move {
        group: "coordination.k8s.io",
        plurals: &["leases"],
        from: "v1beta1",
        to: "v1",
        reason: RENAMED_ONLY,
        check: None,
    },
    Move {
        group: "networking.k8s.io",
        plurals: &["ingressclasses", "ipaddresses", "servicecidrs"],
        from: "v1beta1",
        to: "v1",
        reason: RENAMED_ONLY,
        check: None,
    },
    Move {
        group: "apiregistration.k8s.io",
        plurals: &["apiservices"],
        from: "v1beta1",
        to: "v1",
        reason: RENAMED_ONLY,
        check: None,
    },
    Move {
        group: "admissionregistration.k8s.io",
        plurals: &["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
        from: "v1beta1",
        to: "v1",
        reason: RENAMED_ONLY,
        check: None,
    },
    Move {
        group: "flowcontrol.apiserver.k8s.io",
        plurals: &["flowschemas"],
        from: "v1beta3",
        to: "v1",
        reason: RENAMED_ONLY,
        check: None,
    },
    Move {
        group: "flowcontrol.apiserver.k8s.io",
        plurals: &["prioritylevelconfigurations"],
        from: "v1beta3",
        to: "v1",
        reason: "the same but for shares of zero, which are refused",
        check: Some(has_shares),
    },
];

/// An empty selector selected nothing in v1beta1 and selects every pod in v1.
fn selects_something(object: &Map<String, Value>) -> Result<(), &'static str> {
    let Some(Value::Object(selector)) = object.get("spec").and_then(|spec| spec.get("selector")) else {
        return Ok(());
    };
    let is_empty = |value: &Value| match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        other => other.is_null(),
    };
    if selector.values().all(is_empty) {
        return Err("its empty selector selected no pod in v1beta1 and would select all of them in v1");
    }
    Ok(())
}

/// Zero shares were replaced by the default in v1beta3; in v1 they mean zero.
fn has_shares(object: &Map<String, Value>) -> Result<(), &'static str> {
    let limited = object.get("spec").and_then(|spec| spec.get("limited"));
    let shares = |limited: &Value| limited["nominalConcurrencyShares"].as_i64().unwrap_or(0);
    match limited.filter(|limited| !limited.is_null()) {
        Some(limited) if shares(limited) == 0 => {
            Err("its nominalConcurrencyShares of zero meant the default in v1beta3 and mean zero in v1")
        }
        _ => Ok(()),
    }
}

/// Kinds whose versions differ, and in what.
const DIFFERENT: [(&str, &str, &str, &str); 9] = [
    (
        "networking.k8s.io",
        "ingresses",
        "v1beta1",
        "in v1 backends have another form and pathType is required",
    ),
    (
        "flowcontrol.apiserver.k8s.io",
        "prioritylevelconfigurations",
        "v1beta2",
        "assuredConcurrencyShares is nominalConcurrencyShares since v1beta3",
    ),
    (
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        "v1beta1",
        "v1 requires sideEffects and admissionReviewVersions that v1 knows, and has other defaults",
    ),
    (
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        "v1beta1",
        "v1 requires sideEffects and admissionReviewVersions that v1 knows, and has other defaults",
    ),
    (
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "v1beta1",
        "v1 requires a structural schema for each version",
    ),
    (
        "discovery.k8s.io",
        "endpointslices",
        "v1beta1",
        "topology is nodeName and zone in v1",
    ),
    (
        "certificates.k8s.io",
        "certificatesigningrequests",
        "v1beta1",
        "v1 requires a signerName",
    ),
    (
        "autoscaling",
        "horizontalpodautoscalers",
        "v2beta1",
        "metrics and their targets have another form in v2",
    ),
    (
        "apps",
        "deployments",
        "v1beta1",
        "v1 requires a selector and has other defaults",
    ),
];

/// Chooses the form. `served` are the cluster's versions of the kind, the preferred one first; `copies` those that the
/// backup holds besides the stored one.
pub fn choose(kind: &ApiKind, served: &[&str], copies: &[&str]) -> Form {
    if served.contains(&kind.version.as_str()) {
        return Form::AsStored;
    }
    if let Some(version) = served.iter().find(|version| copies.contains(version)) {
        return Form::Copy {
            version: (*version).to_owned(),
        };
    }
    moved(kind, served)
}

/// As [`choose`], where there is no copy.
pub fn moved(kind: &ApiKind, served: &[&str]) -> Form {
    let fits = |row: &&Move| {
        row.group == kind.group
            && row.plurals.contains(&kind.plural.as_str())
            && row.from == kind.version
            && served.contains(&row.to)
    };
    MOVES
        .iter()
        .find(fits)
        .map_or_else(|| Form::Refused(advice(kind, served)), Form::Moved)
}

fn advice(kind: &ApiKind, served: &[&str]) -> String {
    let qualified = |version: &str| {
        ApiKind {
            version: version.to_owned(),
            ..kind.clone()
        }
        .api_version()
    };
    let names: Vec<String> = served.iter().map(|version| qualified(version)).collect();
    let why = DIFFERENT
        .iter()
        .find(|(group, plural, from, _)| {
            *group == kind.group && *plural == kind.plural && *from == kind.version
        })
        .map_or_else(String::new, |(.., why)| format!(" ({why})"));
    format!(
        "the cluster does not serve {} in version {}, it serves {}{why}; convert the object to {} (kubectl backup cat, \
         kubectl convert) and apply it by hand",
        kind.plural,
        qualified(&kind.version),
        names.join(", "),
        names.first().map_or("a version that is served", String::as_str)
    )
}

impl Move {
    /// Moves an object; gives the reason if this one cannot be moved.
    ///
    /// # Errors
    /// When it has a value that means something else in the other version.
    pub fn apply(&self, object: &mut Value) -> Result<(), String> {
        let Some(fields) = object.as_object_mut() else {
            return Ok(());
        };
        self.check.map_or(Ok(()), |check| check(fields)).map_err(|why| {
            format!(
                "the cluster serves it in version {} only, and {why}; convert it (kubectl backup cat, kubectl convert) and \
                 apply it by hand",
                self.to
            )
        })?;
        fields.insert(
            "apiVersion".to_owned(),
            format!("{}/{}", self.group, self.to).into(),
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kind(group: &str, version: &str, plural: &str) -> ApiKind {
        ApiKind {
            group: group.into(),
            version: version.into(),
            plural: plural.into(),
            kind: "X".into(),
            namespaced: true,
        }
    }

    #[test]
    fn the_form_that_needs_least_is_chosen() {
        let hpa = kind("autoscaling", "v2beta2", "horizontalpodautoscalers");
        let row = || MOVES.iter().find(|row| row.group == "autoscaling").unwrap();
        for (served, copies, expected) in [
            (&["v2", "v2beta2"][..], &["v2"][..], Form::AsStored),
            (&["v2", "v1"], &["v1", "v2"], Form::Copy { version: "v2".into() }),
            (&["v2", "v1"], &["v1"], Form::Copy { version: "v1".into() }),
            (&["v2", "v1"], &["v2beta1"], Form::Moved(row())),
        ] {
            assert_eq!(choose(&hpa, served, copies), expected, "{served:?} {copies:?}");
        }
        let Form::Refused(text) = choose(&hpa, &["v1"], &[]) else {
            panic!("v1 has another form");
        };
        assert!(
            text.contains("autoscaling/v2beta2, it serves autoscaling/v1"),
            "{text}"
        );
        let ingress = kind("networking.k8s.io", "v1beta1", "ingresses");
        let Form::Refused(text) = choose(&ingress, &["v1"], &[]) else {
            panic!("ingresses have another form");
        };
        assert!(text.contains("pathType is required"), "{text}");
        assert!(
            text.contains("convert the object to networking.k8s.io/v1"),
            "{text}"
        );
    }

    #[test]
    fn every_row_moves_and_no_kind_is_both_moved_and_different() {
        for row in &MOVES {
            for plural in row.plurals {
                let stored = kind(row.group, row.from, plural);
                assert_eq!(choose(&stored, &[row.to], &[]), Form::Moved(row));
                assert!(!DIFFERENT.iter().any(|(group, other, from, _)| {
                    (*group, *other, *from) == (row.group, *plural, row.from)
                }));
            }
            assert!(!row.reason.is_empty());
        }
    }

    #[test]
    fn values_that_mean_something_else_are_refused() {
        for (group, plural, spec, moves) in [
            (
                "policy",
                "poddisruptionbudgets",
                json!({"selector": {"matchLabels": {"a": "b"}}}),
                true,
            ),
            (
                "policy",
                "poddisruptionbudgets",
                json!({"selector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}),
                true,
            ),
            ("policy", "poddisruptionbudgets", json!({"minAvailable": 1}), true),
            ("policy", "poddisruptionbudgets", json!({"selector": {}}), false),
            (
                "policy",
                "poddisruptionbudgets",
                json!({"selector": {"matchLabels": {}}}),
                false,
            ),
            (
                "flowcontrol.apiserver.k8s.io",
                "prioritylevelconfigurations",
                json!({"limited": {"nominalConcurrencyShares": 5}}),
                true,
            ),
            (
                "flowcontrol.apiserver.k8s.io",
                "prioritylevelconfigurations",
                json!({"limited": {"nominalConcurrencyShares": 0}}),
                false,
            ),
            (
                "flowcontrol.apiserver.k8s.io",
                "prioritylevelconfigurations",
                json!({"type": "Exempt"}),
                true,
            ),
        ] {
            let row = MOVES
                .iter()
                .find(|row| row.group == group && row.plurals.contains(&plural))
                .unwrap();
            let mut object = json!({"apiVersion": "old", "spec": spec});
            let moved = row.apply(&mut object);
            assert_eq!(moved.is_ok(), moves, "{object} {moved:?}");
            let expected = if moves {
                format!("{group}/{}", row.to)
            } else {
                "old".to_owned()
            };
            assert_eq!(object["apiVersion"], expected);
        }
    }
}
