//! Which Velero in a cluster this program may put there, move, use or has to leave alone.
//!
//! In come labels, annotations and owners of Velero's Deployment, its version and the version that this program ships; out
//! goes a [`Step`], or a [`Refusal`] that names the way. Later code may rely on: a Velero that somebody else looks after is
//! never written to, since two owners undo each other's work; one is never moved back, and never over a minor version,
//! which its project does not support (its upgrade guide asks for the minor version before).

use std::{collections::BTreeMap, fmt};

use crate::versions::{self, Move};

/// Oldest release whose backups and API objects are tested against, as `MAJOR.MINOR`.
pub const OLDEST: (u64, u64) = (1, 16);

/// Who looks after a Velero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// This program.
    Us,
    /// Another tool would undo changes.
    Tool {
        /// Which, in its own spelling.
        tool: String,
        /// What it calls the thing; empty if it has no name for it.
        name: String,
    },
    /// Nobody: `velero install` has put it there and forgotten it.
    Nobody,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Us => f.write_str("kubectl backup"),
            Self::Tool { tool, name } if name.is_empty() => f.write_str(tool),
            Self::Tool { tool, name } => write!(f, "{tool} ({name})"),
            Self::Nobody => f.write_str("nobody (`velero install`)"),
        }
    }
}

/// Marks by which tools know what is theirs: key, whether it is an annotation, the tool. From the documentation of each.
const MARKS: [(&str, bool, &str); 8] = [
    ("meta.helm.sh/release-name", true, "Helm"),
    ("helm.toolkit.fluxcd.io/name", false, "Flux"),
    ("kustomize.toolkit.fluxcd.io/name", false, "Flux"),
    ("argocd.argoproj.io/tracking-id", true, "Argo CD"),
    ("argocd.argoproj.io/instance", false, "Argo CD"),
    ("packaging.carvel.dev/package-name", true, "a Carvel package"),
    ("kapp.k14s.io/app", false, "kapp"),
    ("olm.owner", false, "the Operator Lifecycle Manager"),
];

/// Reads the owner from what a Deployment says of itself. `controller` is kind and name of its controlling owner.
pub fn owner(
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    controller: Option<(&str, &str)>,
    is_marked_ours: bool,
) -> Owner {
    let tool = |tool: &str, name: &str| Owner::Tool {
        tool: tool.to_owned(),
        name: name.to_owned(),
    };
    if let Some((kind, name)) = controller {
        return match kind {
            "DataProtectionApplication" => tool("OADP", &format!("{kind} {name}")),
            _ => tool(kind, name),
        };
    }
    for (key, is_annotation, name) in MARKS {
        let from = if is_annotation { annotations } else { labels };
        if let Some(value) = from.get(key) {
            return tool(name, value);
        }
    }
    match labels.get("app.kubernetes.io/managed-by").map(String::as_str) {
        Some("oadp-operator") => tool("OADP", ""),
        Some(other) => tool(other, ""),
        None if is_marked_ours => Owner::Us,
        None => Owner::Nobody,
    }
}

/// The version in the name of an image; `None` where its tag is none.
pub fn version_of_image(image: &str) -> Option<String> {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let (_, tag) = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
    versions::parse(tag).map(|_| tag.to_owned())
}

/// A Velero that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where.
    pub namespace: String,
    /// Who looks after it.
    pub owner: Owner,
    /// Its version, where that can be told.
    pub version: Option<String>,
    /// The version to which this program was moving it when it was cut off.
    pub coming: Option<String>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write all of it.
    Write,
    /// Use it as it is: only a location is added.
    Adopt {
        /// What is worth saying about that.
        doubt: Option<String>,
    },
}

/// Why nothing is done, with the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// For `enable --engine velero`. `ships` is the version that this program carries.
///
/// # Errors
/// [`Refusal`].
pub fn for_enable(found: Option<&Found>, ships: &str, take_over: bool) -> Result<Step, Refusal> {
    let Some(found) = found else {
        return Ok(Step::Write);
    };
    match &found.owner {
        Owner::Us => for_upgrade(found, ships).map(|()| Step::Write),
        Owner::Nobody if take_over => for_upgrade(found, ships).map(|()| Step::Write),
        owner if take_over => Err(Refusal(format!(
            "Velero in namespace {} is looked after by {owner}, which would undo what is changed here; leave --take-over out \
             to use it as it is, or take it from its owner first",
            found.namespace
        ))),
        _ => adopt(found, ships),
    }
}

fn adopt(found: &Found, ships: &str) -> Result<Step, Refusal> {
    let numbers = found.version.as_deref().and_then(versions::parse);
    let (Some(there), Some(newest)) = (numbers, versions::parse(ships)) else {
        return Ok(Step::Adopt {
            doubt: Some(format!(
                "which version Velero in namespace {} is cannot be told from its image; {}.{} to {ships} are tested",
                found.namespace, OLDEST.0, OLDEST.1
            )),
        });
    };
    if (there.0, there.1) < OLDEST {
        return Err(Refusal(format!(
            "Velero in namespace {} is {}, and {}.{} is the oldest that works with this program; {} has to move it first, one \
             minor version after the other",
            found.namespace,
            found.version.as_deref().unwrap_or_default(),
            OLDEST.0,
            OLDEST.1,
            match &found.owner {
                Owner::Nobody => "whoever ran `velero install`".to_owned(),
                owner => owner.to_string(),
            }
        )));
    }
    let is_newer = (there.0, there.1) > (newest.0, newest.1);
    Ok(Step::Adopt {
        doubt: is_newer.then(|| {
            format!(
                "Velero in namespace {} is {}, newer than {ships}, with which this program is tested",
                found.namespace,
                found.version.as_deref().unwrap_or_default()
            )
        }),
    })
}

/// Whether a Velero may be moved to the version that this program ships.
///
/// # Errors
/// [`Refusal`].
pub fn for_upgrade(found: &Found, ships: &str) -> Result<(), Refusal> {
    let namespace = &found.namespace;
    let Some(version) = &found.version else {
        return Err(Refusal(format!(
            "which version Velero in namespace {namespace} is cannot be told from its image, so it is not moved; give its \
             Deployment an image whose tag is the version"
        )));
    };
    // What was begun by a newer program is not taken back, although the pods are old still.
    for there in [Some(version), found.coming.as_ref()].into_iter().flatten() {
        match versions::between(there, ships) {
            Move::Same | Move::Forward => {}
            Move::Back => {
                return Err(Refusal(format!(
                    "Velero in namespace {namespace} is {there} or on its way there, this program ships {ships}: it is never \
                     moved back; take a newer kubectl-backup"
                )));
            }
            Move::TooFar { through } => return Err(Refusal(way(namespace, there, ships, &through))),
            Move::Unknown => {
                return Err(Refusal(format!(
                    "Velero in namespace {namespace} says that it is {there:?}, which is no version"
                )));
            }
        }
    }
    Ok(())
}

/// The AWS plugin that goes with a minor version, by the plugin's own table of compatibility.
fn plugin_for(minor: u64) -> String {
    format!("v1.{}", minor.saturating_sub(4))
}

fn way(namespace: &str, there: &str, ships: &str, through: &str) -> String {
    let minor = versions::parse(&format!("{through}.0")).map_or(0, |(_, minor, _)| minor);
    format!(
        "Velero in namespace {namespace} is {there}, this program ships {ships}, and Velero supports no step over a minor \
         version. Go through v{through} first, with the newest patch P of it: `velero install --crds-only --dry-run -o yaml | \
         kubectl apply -f -` with the velero command of v{through}.P; `kubectl set image deployment/velero -n {namespace} \
         velero=velero/velero:v{through}.P velero-velero-plugin-for-aws=velero/velero-plugin-for-aws:{}.P`; \
         `kubectl set image daemonset/node-agent -n {namespace} node-agent=velero/velero:v{through}.P`; then this command again",
        plugin_for(minor)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn owners_are_known_by_their_marks() {
        type Pairs = &'static [(&'static str, &'static str)];
        type Row = (
            Pairs,
            Pairs,
            Option<(&'static str, &'static str)>,
            bool,
            &'static str,
        );
        let rows: [Row; 9] = [
            (
                &[("component", "velero")],
                &[],
                None,
                false,
                "nobody (`velero install`)",
            ),
            (&[("component", "velero")], &[], None, true, "kubectl backup"),
            (
                &[("app.kubernetes.io/managed-by", "Helm")],
                &[("meta.helm.sh/release-name", "velero")],
                None,
                false,
                "Helm (velero)",
            ),
            // A chart that was taken over is its owner's again.
            (
                &[("app.kubernetes.io/managed-by", "Helm")],
                &[("meta.helm.sh/release-name", "velero")],
                None,
                true,
                "Helm (velero)",
            ),
            (
                &[("app.kubernetes.io/managed-by", "oadp-operator")],
                &[],
                Some(("DataProtectionApplication", "dpa")),
                false,
                "OADP (DataProtectionApplication dpa)",
            ),
            (
                &[("app.kubernetes.io/managed-by", "oadp-operator")],
                &[],
                None,
                false,
                "OADP",
            ),
            (
                &[("app.kubernetes.io/managed-by", "tanka")],
                &[],
                None,
                false,
                "tanka",
            ),
            (&[("kapp.k14s.io/app", "17")], &[], None, false, "kapp (17)"),
            (&[], &[], Some(("Backupper", "b")), false, "Backupper (b)"),
        ];
        for (labels, annotations, controller, ours, expected) in rows {
            let owner = owner(&map(labels), &map(annotations), controller, ours);
            assert_eq!(owner.to_string(), expected, "{labels:?} {annotations:?}");
        }
    }

    #[test]
    fn a_tag_is_a_version_or_it_is_not() {
        for (image, expected) in [
            ("velero/velero:v1.18.3", Some("v1.18.3")),
            ("registry.local:5000/velero:v1.17.2@sha256:00", Some("v1.17.2")),
            ("registry.local:5000/velero", None),
            ("velero/velero:main", None),
            ("velero/velero@sha256:00", None),
        ] {
            assert_eq!(version_of_image(image).as_deref(), expected, "{image}");
        }
    }

    fn found(owner: Owner, version: &str, coming: Option<&str>) -> Found {
        Found {
            namespace: "velero".to_owned(),
            owner,
            version: (!version.is_empty()).then(|| version.to_owned()),
            coming: coming.map(str::to_owned),
        }
    }

    #[test]
    fn what_enable_does_with_a_velero() {
        const SHIPS: &str = "v1.18.3";
        let helm = || Owner::Tool {
            tool: "Helm".to_owned(),
            name: "velero".to_owned(),
        };
        let rows = [
            (Owner::Us, "v1.18.3", None, false, "write"),
            (Owner::Us, "v1.17.2", None, false, "write"),
            (Owner::Us, "v1.17.2", Some("v1.18.3"), false, "write"),
            (Owner::Us, "v1.16.2", None, false, "v1.17.P"),
            (Owner::Us, "v1.16.2", Some("v1.18.3"), false, "v1.17.P"),
            (Owner::Us, "v1.19.0", None, false, "never moved back"),
            (Owner::Us, "v1.18.3", Some("v1.19.0"), false, "never moved back"),
            (Owner::Us, "", None, false, "cannot be told"),
            (Owner::Nobody, "v1.17.2", None, false, "adopt"),
            (Owner::Nobody, "v1.17.2", None, true, "write"),
            (Owner::Nobody, "v1.15.2", None, true, "v1.16.P"),
            (
                Owner::Nobody,
                "v1.15.2",
                None,
                false,
                "whoever ran `velero install`",
            ),
            (Owner::Nobody, "", None, true, "cannot be told"),
            (helm(), "v1.18.0", None, false, "adopt"),
            (helm(), "v1.18.0", None, true, "would undo"),
            (helm(), "v1.14.0", None, false, "Helm (velero) has to move it"),
            (helm(), "v1.19.0", None, false, "adopt: "),
            (helm(), "", None, false, "adopt: "),
        ];
        for (owner, version, coming, take_over, expected) in rows {
            let found = found(owner, version, coming);
            let said = match for_enable(Some(&found), SHIPS, take_over) {
                Ok(Step::Write) => "write".to_owned(),
                Ok(Step::Adopt { doubt: None }) => "adopt".to_owned(),
                Ok(Step::Adopt { doubt: Some(doubt) }) => format!("adopt: {doubt}"),
                Err(refusal) => refusal.to_string(),
            };
            assert!(said.contains(expected), "{found:?} {take_over}: {said}");
        }
        assert_eq!(for_enable(None, SHIPS, false), Ok(Step::Write));
    }

    #[test]
    fn the_way_names_every_image() {
        let refused = for_upgrade(&found(Owner::Us, "v1.16.2", None), "v1.18.3").unwrap_err();
        let way = refused.to_string();
        for needed in [
            "velero/velero:v1.17.P",
            "velero-plugin-for-aws:v1.13.P",
            "daemonset/node-agent",
        ] {
            assert!(way.contains(needed), "{way}");
        }
    }
}
