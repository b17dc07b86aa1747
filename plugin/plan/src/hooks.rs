//! Commands that run in a pod before and after its volumes are read, as Velero's annotations say.
//!
//! Pure. In come a pod's annotations and the names of its containers; out go hooks with everything decided: container, words,
//! what an error means, how long they may take. As Velero reads them (`internal/hook/item_hook_handler.go`,
//! `pkg/podexec`): keys without a phase mean before, a command is a JSON list or one word, the first container is meant where
//! none is named, an unknown word about errors means `Fail`, an unreadable time means 30 seconds. What Velero only logs is
//! a warning here.

use std::{collections::BTreeMap, time::Duration};

use velero_model::duration::GoDuration;

/// Longest time of a hook that says nothing about it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Before the pod's volumes are read.
    Pre,
    /// After that.
    Post,
}

impl Phase {
    /// `pre` or `post`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pre => "pre",
            Self::Post => "post",
        }
    }
}

/// What the failure of a hook means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The pod's volumes are not read.
    Fail,
    /// They are read all the same.
    Continue,
}

/// A command in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The container, which is there.
    pub container: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// What its failure means.
    pub on_error: OnError,
    /// Longest time.
    pub timeout: Duration,
}

/// A hook as the annotations say it; `Err` is why it cannot run, which counts as its failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The hook, or why there is none to run.
    pub hook: Result<Hook, String>,
    /// What its failure means.
    pub on_error: OnError,
    /// What was not understood.
    pub warnings: Vec<String>,
}

/// Reads the hook of a phase; `None` where there is no command.
pub fn of_pod(annotations: &BTreeMap<String, String>, containers: &[String], phase: Phase) -> Option<Read> {
    let value = |key: &str| -> &str {
        let of = |prefix: &str| annotations.get(&format!("{prefix}hook.backup.velero.io/{key}"));
        let found = match phase {
            Phase::Pre => of("pre.").or_else(|| of("")),
            Phase::Post => of("post."),
        };
        found.map(String::as_str).unwrap_or_default()
    };
    let command = value("command");
    if command.is_empty() {
        return None;
    }
    let mut warnings = Vec::new();
    let on_error = match value("on-error") {
        "Continue" => OnError::Continue,
        "" | "Fail" => OnError::Fail,
        other => {
            warnings.push(format!(
                "on-error {other:?} is neither Fail nor Continue; Fail is taken"
            ));
            OnError::Fail
        }
    };
    let timeout = match value("timeout") {
        "" => TIMEOUT,
        text => match GoDuration::parse(text) {
            Ok(GoDuration(timeout)) if timeout.is_zero() => TIMEOUT,
            Ok(GoDuration(timeout)) => timeout,
            Err(_) => {
                warnings.push(format!("timeout {text:?} is no duration; 30s is taken"));
                TIMEOUT
            }
        },
    };
    let container = match (value("container"), containers.first()) {
        ("", Some(first)) => Ok(first.clone()),
        ("", None) => Err("the pod has no containers".to_owned()),
        (name, _) if containers.iter().any(|container| container == name) => Ok(name.to_owned()),
        (name, _) => Err(format!("the pod has no container {name}")),
    };
    Some(Read {
        hook: container.map(|container| Hook {
            container,
            command: words(command),
            on_error,
            timeout,
        }),
        on_error,
        warnings,
    })
}

/// A JSON list of words; what is none is one word.
fn words(command: &str) -> Vec<String> {
    let list = command
        .starts_with('[')
        .then(|| serde_json::from_str::<Vec<String>>(command).ok())
        .flatten();
    match list {
        Some(words) if !words.is_empty() => words,
        _ => vec![command.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &[(&str, &str)], phase: Phase) -> Option<Read> {
        let annotations = annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        of_pod(&annotations, &["db".to_owned(), "sidecar".to_owned()], phase)
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
