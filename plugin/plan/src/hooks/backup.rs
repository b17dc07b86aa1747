//! Hooks around the reading of a pod's volumes.
//!
//! Keys without a phase mean before; an unknown word about errors means `Fail`, an unreadable time means 30 seconds.

use super::{HookedPod, OnError, Phase, Read, Spec, of_annotations};

/// The hooks of a phase, in their order: what the pod says itself, else what the spec says.
pub fn of_backup(pod: &HookedPod, spec: Option<&Spec>, phase: Phase) -> Vec<Read> {
    match by_annotations(pod, phase) {
        Some(hook) => vec![hook],
        None => spec.map(|spec| spec.of_backup(pod, phase)).unwrap_or_default(),
    }
}

fn by_annotations(pod: &HookedPod, phase: Phase) -> Option<Read> {
    let value = |key: &str| -> &str {
        let of = |prefix: &str| {
            pod.annotations
                .get(&format!("{prefix}hook.backup.velero.io/{key}"))
        };
        let found = match phase {
            Phase::Pre => of("pre.").or_else(|| of("")),
            Phase::Post => of("post."),
        };
        found.map(String::as_str).unwrap_or_default()
    };
    of_annotations(pod, &value, OnError::Fail, "timeout")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::hooks::Hook;

    fn read(annotations: &[(&str, &str)], phase: Phase) -> Option<Read> {
        let pod = HookedPod {
            annotations: annotations
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            containers: vec!["db".to_owned(), "sidecar".to_owned()],
            ..HookedPod::default()
        };
        of_backup(&pod, None, phase).into_iter().next()
    }

    #[test]
    fn annotations_are_read_as_velero_reads_them() {
        type Row<'a> = (&'a [(&'a str, &'a str)], Phase, Option<Hook>);
        let rows: [Row<'_>; 7] = [
            (&[("pre.hook.backup.velero.io/container", "db")], Phase::Pre, None),
            (
                &[(
                    "pre.hook.backup.velero.io/command",
                    r#"["/sbin/fsfreeze", "--freeze", "/data"]"#,
                )],
                Phase::Pre,
                Some(hook(
                    "db",
                    &["/sbin/fsfreeze", "--freeze", "/data"],
                    OnError::Fail,
                    30,
                )),
            ),
            (
                &[
                    ("hook.backup.velero.io/command", "sync"),
                    ("hook.backup.velero.io/container", "sidecar"),
                ],
                Phase::Pre,
                Some(hook("sidecar", &["sync"], OnError::Fail, 30)),
            ),
            (&[("hook.backup.velero.io/command", "sync")], Phase::Post, None),
            (
                &[
                    ("post.hook.backup.velero.io/command", "[not json"),
                    ("post.hook.backup.velero.io/on-error", "Continue"),
                    ("post.hook.backup.velero.io/timeout", "1m30s"),
                ],
                Phase::Post,
                Some(hook("db", &["[not json"], OnError::Continue, 90)),
            ),
            (
                &[
                    ("pre.hook.backup.velero.io/command", "a b"),
                    ("pre.hook.backup.velero.io/timeout", "soon"),
                    ("pre.hook.backup.velero.io/on-error", "continue"),
                ],
                Phase::Pre,
                Some(hook("db", &["a b"], OnError::Fail, 30)),
            ),
            (
                &[
                    ("pre.hook.backup.velero.io/command", "new"),
                    ("hook.backup.velero.io/command", "old"),
                ],
                Phase::Pre,
                Some(hook("db", &["new"], OnError::Fail, 30)),
            ),
        ];
        for (annotations, phase, expected) in rows {
            let found = read(annotations, phase).map(|read| read.hook.unwrap());
            assert_eq!(found, expected, "{annotations:?}");
        }
    }

    fn hook(container: &str, command: &[&str], on_error: OnError, seconds: u64) -> Hook {
        Hook {
            container: container.to_owned(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            on_error,
            timeout: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let odd = read(
            &[
                ("pre.hook.backup.velero.io/command", "x"),
                ("pre.hook.backup.velero.io/container", "nobody"),
                ("pre.hook.backup.velero.io/timeout", "soon"),
                ("pre.hook.backup.velero.io/on-error", "ignore"),
            ],
            Phase::Pre,
        )
        .unwrap();
        assert_eq!(odd.hook, Err("the pod has no container nobody".to_owned()));
        assert_eq!(odd.warnings.len(), 2, "{odd:?}");
    }
}
