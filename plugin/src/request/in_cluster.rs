//! Running in the cluster, as meant: what pods are made with, and the command line that they get.
//!
//! In come flags and the words as they were typed; out go [`Pods`] and, by [`words`], those words without what only means
//! something here: how this cluster is reached, how the result is printed, how pods are made.

use std::{path::PathBuf, time::Duration};

use backup_engine::location::Location;
use clap::{Arg, Command};

use super::{Credentials, Place, RequestError, fields};
use crate::arguments::{
    environment::Environment,
    global::Global,
    help,
    mover::PasswordFlag,
    pods::{CredentialFlags, InClusterFlags, PodFlags},
};

/// The image of this version.
const IMAGE: &str = concat!("localhost/kubectl-backup:", env!("CARGO_PKG_VERSION"));

/// Flags that a pod does not get.
const HERE: [&str; 18] = [
    "in-cluster",
    "image",
    "image-pull-secret",
    "credentials-file",
    "no-credentials",
    "repository-password-file",
    "kubeconfig",
    "context",
    "cluster",
    "user",
    "as",
    "as-group",
    "location",
    "engine",
    "wait",
    "timeout",
    "output",
    "yes",
];

/// What pods are made with.
#[derive(Debug, Clone)]
pub(crate) struct Pods {
    pub(crate) image: String,
    pub(crate) image_pull_secret: Option<String>,
    pub(crate) credentials: Credentials,
}

/// A command that runs in the cluster.
#[derive(Debug, Clone)]
pub(crate) struct InCluster {
    pub(crate) pods: Pods,
    /// Command line of the pod, without location and name.
    pub(crate) words: Vec<String>,
}

pub(super) fn pods(typed: PodFlags, environment: &Environment) -> Pods {
    Pods {
        image: image(&typed),
        image_pull_secret: typed.image_pull_secret,
        credentials: credentials(typed.credentials, environment),
    }
}

/// What movers are made with.
#[derive(Debug, Clone)]
pub(crate) struct Movers {
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) image: String,
    pub(crate) image_pull_secret: Option<String>,
    /// Longest time of one volume.
    pub(crate) deadline: Duration,
}

/// Longest time of one volume unless --timeout says otherwise: Velero's own.
const VOLUME_DEADLINE: Duration = Duration::from_hours(4);

/// The movers of a backup or restore.
pub(super) fn movers(
    password: &PasswordFlag,
    pods: &PodFlags,
    global: &Global,
    environment: &Environment,
) -> Result<Movers, RequestError> {
    Ok(Movers {
        password_file: password_file(password, environment),
        image: image(pods),
        image_pull_secret: pods.image_pull_secret.clone(),
        deadline: fields::wait("--timeout", global.timeout.as_deref())?.unwrap_or(VOLUME_DEADLINE),
    })
}

/// The password's file, from wherever it is meant.
pub(super) fn password_file(typed: &PasswordFlag, environment: &Environment) -> Option<PathBuf> {
    typed
        .repository_password_file
        .as_ref()
        .map(|file| environment.working_folder.join(file))
}

/// The image of pods.
fn image(typed: &PodFlags) -> String {
    typed.image.clone().unwrap_or_else(|| IMAGE.to_owned())
}

/// What a location in the cluster is to log in with.
pub(super) fn credentials(typed: CredentialFlags, environment: &Environment) -> Credentials {
    match (typed.credentials_file, typed.no_credentials) {
        (Some(file), _) => Credentials::File(environment.working_folder.join(file)),
        (None, true) => Credentials::None,
        (None, false) => environment.keys.clone(),
    }
}

/// `--in-cluster` and the flags that go with it.
pub(super) fn parse(
    typed: InClusterFlags,
    command: &'static str,
    environment: &Environment,
) -> Result<Option<InCluster>, RequestError> {
    let InClusterFlags { in_cluster, pods } = typed;
    // Movers are pods too, in a backup as in a restore.
    if in_cluster {
        return Ok(Some(InCluster {
            pods: self::pods(pods, environment),
            words: words(&environment.words, command),
        }));
    }
    let stray = [
        ("--credentials-file", pods.credentials.credentials_file.is_some()),
        ("--no-credentials", pods.credentials.no_credentials),
    ];
    match stray.into_iter().find(|(_, is_given)| *is_given) {
        Some((flag, _)) => Err(RequestError::flag(
            flag,
            "",
            "it is about pods; give --in-cluster too",
        )),
        None => Ok(None),
    }
}

/// Refuses a place that pods cannot see.
pub(super) fn visible(place: &Place) -> Result<(), RequestError> {
    match place {
        Place::Known {
            location: folder @ Location::Folder(_),
            ..
        } => Err(RequestError::flag(
            "--in-cluster",
            "",
            format!(
                "a pod cannot see the folder {}; give a bucket as --location",
                folder.describe()
            ),
        )),
        _ => Ok(()),
    }
}

/// The words as they were typed, as far as a pod should get them.
fn words(typed: &[String], command: &str) -> Vec<String> {
    let tree = help::tree();
    let flags: Vec<&Arg> = tree
        .get_arguments()
        .chain(
            tree.find_subcommand(command)
                .into_iter()
                .flat_map(Command::get_arguments),
        )
        .collect();
    let takes_next = |arg: &Arg| arg.get_action().takes_values() && !arg.is_require_equals_set();
    let stays = |arg: &Arg| !HERE.contains(&arg.get_long().unwrap_or_default());
    let mut kept = vec![command.to_owned()];
    let mut is_command_read = false;
    let mut rest = typed.iter().skip(1);
    while let Some(word) = rest.next() {
        if word == "--" {
            kept.push(word.clone());
            kept.extend(rest.cloned());
            break;
        }
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let Some(arg) = flags.iter().find(|arg| arg.get_long() == Some(name)) else {
                continue;
            };
            let value = match value {
                None if takes_next(arg) => rest.next().cloned(),
                value => value,
            };
            if stays(arg) {
                kept.push(match value {
                    Some(value) => format!("--{name}={value}"),
                    None => word.clone(),
                });
            }
        } else if let Some(cluster) = word.strip_prefix('-').filter(|cluster| !cluster.is_empty()) {
            let mut letters = cluster.chars();
            while let Some(letter) = letters.next() {
                let Some(arg) = flags.iter().find(|arg| arg.get_short() == Some(letter)) else {
                    break;
                };
                if takes_next(arg) {
                    let value = letters.as_str().trim_start_matches('=');
                    let value = if value.is_empty() {
                        rest.next().cloned().unwrap_or_default()
                    } else {
                        value.to_owned()
                    };
                    if stays(arg) {
                        kept.extend([format!("-{letter}"), value]);
                    }
                    break;
                }
                if stays(arg) {
                    kept.push(format!("-{letter}"));
                }
            }
        } else if !is_command_read && word == command {
            is_command_read = true;
        } else {
            kept.push(word.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_gets_what_means_something_there() {
        let table = [
            (
                "create nightly -n shop --ttl 720h --in-cluster",
                "create nightly -n shop --ttl=720h",
            ),
            (
                "--context prod -ojson create --labels=a=b -nshop -vv --location main",
                "create --labels=a=b -n shop -v -v",
            ),
            (
                "restore b secret/login -y --kubeconfig /k --wait=false --image=i --restore-volumes",
                "restore b secret/login --restore-volumes",
            ),
            (
                "create --in-cluster --image-pull-secret s -o=json -- create",
                "create -- create",
            ),
        ];
        for (typed, expected) in table {
            let typed: Vec<String> = ["kubectl-backup"]
                .into_iter()
                .chain(typed.split(' '))
                .map(str::to_owned)
                .collect();
            let command = if typed.contains(&"restore".to_owned()) {
                "restore"
            } else {
                "create"
            };
            assert_eq!(words(&typed, command).join(" "), expected);
        }
    }
}
