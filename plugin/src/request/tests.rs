//! Command lines and what they mean, through the real parser.

use clap::Parser;

use super::*;

const NOW: &str = "2026-11-22T01:02:03Z";

fn environment() -> Environment {
    Environment {
        locations_file: None,
        records_folder: None,
        working_folder: "/work".into(),
        user: Some("me".into()),
        keys: Credentials::Unknown,
        words: Vec::new(),
        now: NOW.parse().unwrap(),
    }
}

/// The meaning of a command line at the location `file:///b`.
fn meaning(line: &str) -> Result<Request, RequestError> {
    let words = ["kubectl-backup"]
        .into_iter()
        .chain(line.split_whitespace())
        .chain(["--location", "file:///b"]);
    let arguments = Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
    Request::parse(arguments, &environment())
}

fn command(line: &str) -> Command {
    meaning(line)
        .unwrap_or_else(|error| panic!("{line}: {error}"))
        .command
}

fn create(line: &str) -> Create {
    match command(line) {
        Command::Create(create) => *create,
        other => panic!("{other:?}"),
    }
}

fn restore(line: &str) -> Restore {
    match command(line) {
        Command::Restore(restore) => *restore,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_backup_without_flags_takes_everything_for_thirty_days() {
    let create = create("create");
    assert_eq!(create.name.as_str(), "backup-20261122010203");
    assert!(create.scope.is_everything());
    assert_eq!(create.ttl.map(|ttl| ttl.to_string()).as_deref(), Some("720h0m0s"));
    assert!(create.place.is_some());
}

#[test]
fn a_namespace_is_short_for_including_it() {
    let create = create("create nightly -n shop --include-namespaces db-*,shop --exclude-resources events");
    assert_eq!(create.scope.included_namespaces, ["shop", "db-*"]);
    assert_eq!(create.scope.excluded_resources.words(), ["events"]);
    assert!(create_is_everything("create -A"));
}

fn create_is_everything(line: &str) -> bool {
    create(line).scope.is_everything()
}

#[test]
fn a_preview_needs_no_location() {
    let arguments = Arguments::try_parse_from(["kubectl-backup", "create", "--dry-run"]).unwrap();
    assert!(
        matches!(Request::parse(arguments, &environment()).unwrap().command, Command::Create(create) if create.place.is_none())
    );
    let arguments = Arguments::try_parse_from(["kubectl-backup", "create"]).unwrap();
    let error = Request::parse(arguments, &environment()).unwrap_err();
    assert!(
        matches!(error, RequestError::Location(LocationError::Nothing)),
        "{error}"
    );
}

#[test]
fn booleans_are_flags_and_values() {
    let included = |line| create(line).scope.include_cluster_resources;
    assert_eq!(included("create"), None);
    assert_eq!(included("create --include-cluster-resources"), Some(true));
    assert_eq!(included("create --include-cluster-resources=false"), Some(false));
    assert!(restore("restore b --preserve-nodeports").preserve_node_ports);
    assert!(!restore("restore b --restore-volumes=false").restore_volumes);
}

#[test]
fn a_ttl_of_zero_keeps_for_ever() {
    assert_eq!(create("create --ttl 0").ttl, None);
    assert_eq!(
        create("create --ttl 1h30m")
            .ttl
            .map(|ttl| ttl.to_string())
            .as_deref(),
        Some("1h30m0s")
    );
}

#[test]
fn a_restore_is_planned_and_told_what_to_do_with_existing_objects() {
    let planned = |line: &str| restore(line).plan;
    assert!(!planned("restore b"));
    assert!(planned("restore b --plan") && planned("restore b --dry-run"));
    let policies = |line: &str| restore(line).existing.to_string();
    assert_eq!(policies("restore b"), "none");
    assert_eq!(
        policies("restore b --existing-resource-policy update,jobs.batch=recreate"),
        "update,jobs.batch=recreate"
    );
    let error = meaning("restore b --existing-resource-policy often").expect_err("no policy");
    assert!(
        error.to_string().contains("--existing-resource-policy"),
        "{error}"
    );
    assert!(restore("restore b --restore-managed-fields").managed_fields);
}

#[test]
fn objects_of_a_restore_take_the_namespace_that_is_given() {
    let restore = restore("restore nightly secret/login cm/settings -n shop");
    assert_eq!(
        restore.source,
        RestoreSource::Backup(BackupName::parse("nightly").unwrap())
    );
    assert_eq!(restore.only.len(), 2);
    assert!(
        restore
            .only
            .iter()
            .all(|object| object.namespace.as_deref() == Some("shop"))
    );
    let name = restore.name_for(&BackupName::parse("nightly").unwrap()).unwrap();
    assert_eq!(name.as_str(), "nightly-20261122010203");
}

#[test]
fn a_schedule_stands_in_for_the_backup() {
    let whole = restore("restore --from-schedule nightly");
    assert_eq!(whole.source, RestoreSource::Schedule("nightly".into()));
    let part = restore("restore --from-schedule nightly secret/login -n shop");
    assert_eq!(part.only.len(), 1);
    assert!(meaning("restore b --from-schedule nightly").is_err());
}

#[test]
fn names_of_backups_may_carry_their_kind() {
    assert!(
        matches!(command("describe backup/nightly"), Command::Describe { names, .. } if names[0].as_str() == "nightly")
    );
}

#[test]
fn a_download_goes_into_the_working_folder() {
    assert!(
        matches!(command("download b"), Command::Download { file, .. } if file == std::path::Path::new("/work"))
    );
    assert!(
        matches!(command("download b x/y.tar"), Command::Download { file, .. } if file == std::path::Path::new("/work/x/y.tar"))
    );
}

#[test]
fn what_means_nothing_is_named_with_what_to_write() {
    let table = [
        ("create Not_A_Name", "lower-case"),
        ("create -l a==", ""),
        ("create -l app=<web", "label selector"),
        (
            "create --include-resources pods --include-cluster-scoped-resources nodes",
            "cannot be combined",
        ),
        (
            "create -n shop --exclude-namespaces shop",
            "both included and excluded",
        ),
        ("create --include-namespaces a**", "single *"),
        ("create -A --include-namespaces shop", "--all-namespaces"),
        ("create --ttl soon", "--ttl"),
        ("create --lock-until yesterday", "--lock-until"),
        ("create --requests-per-second 0", "above 0"),
        ("create --upload-bandwidth fast", "10Mi"),
        ("create --labels team", "KEY=VALUE"),
        ("create --ordered-resources pods", "--ordered-resources"),
        ("create --timeout 1d", "--timeout"),
        ("list --wait=false", "takes no --wait=false"),
        ("verify b --engine velero", "leave --engine velero out"),
        ("cat b secret", "KIND/NAME"),
        ("cat b secret/a -n one,two", "one namespace"),
        ("cat b secret/a -n shop/x", "no name of a namespace"),
        ("find secret/a/b", "KIND/NAME"),
        ("list -n shop", "takes no --namespace"),
        ("describe b -l a=b", "takes no --selector"),
        ("copy b --to file:///c --dry-run=server", "takes no --dry-run"),
        ("cat b secret/a -o wide", "-o json or yaml"),
        ("logs b -o json", "-o table"),
        ("restore b --namespace-mappings shop", "OLD:NEW"),
        ("restore b --namespace-mappings a:c,b:c", "same one"),
        ("restore b --namespace-mappings a:b,a:c", "twice"),
        ("restore b --namespace-mappings a:B", "no name of a namespace"),
        ("copy b --to s3://k:s@b", "credentials"),
        ("location add x gs://b", "not supported"),
    ];
    for (line, expected) in table {
        match meaning(line) {
            Err(error) => assert!(error.to_string().contains(expected), "{line}: {error}"),
            Ok(_) if expected.is_empty() => {}
            Ok(request) => panic!("{line}: {request:?}"),
        }
    }
}

#[test]
fn dry_run_none_is_no_dry_run() {
    assert!(create("create --dry-run=none").place.is_some());
    assert!(matches!(
        command("delete b --dry-run"),
        Command::Delete { dry_run: true, .. }
    ));
    assert!(meaning("restore b --dry-run=none").is_ok());
}

#[test]
fn engine_velero_is_taken_where_velero_can_do_something() {
    for line in [
        "create",
        "restore b",
        "delete b",
        "list",
        "describe b",
        "contents b",
        "logs b",
        "restores logs r",
    ] {
        let request = meaning(&format!("{line} --engine velero")).expect(line);
        assert_eq!(request.common.engine, EngineWord::Velero);
    }
    assert!(!meaning("create --wait=false").unwrap().common.wait);
    assert!(meaning("create").unwrap().common.wait);
    assert!(meaning("find po/a --engine auto").is_ok());
}

#[test]
fn a_name_that_the_file_does_not_know_may_be_a_backup_storage_location() {
    let folder = std::env::temp_dir().join(format!("kubectl-backup-request-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("locations.yaml");
    std::fs::write(&file, "default: main\nlocations:\n  main:\n    url: file:///b\n").unwrap();
    let environment = Environment {
        locations_file: Some(file),
        ..environment()
    };
    let of = |word| place::of(word, &environment).unwrap();
    assert!(matches!(of(None), Place::Known { name, .. } if name == "main"));
    assert!(matches!(of(Some("")), Place::Known { name, .. } if name == "main"));
    assert!(matches!(of(Some("file:///c")), Place::Known { name, .. } if name == "default"));
    assert!(matches!(of(Some("site-b")), Place::Named { name, .. } if name == "site-b"));
    std::fs::remove_dir_all(folder).unwrap();
}

fn diff(line: &str) -> Diff {
    match command(line) {
        Command::Diff(diff) => *diff,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_word_with_a_slash_is_an_object_and_not_the_other_backup() {
    let kinds = |diff: &Diff| {
        let objects = diff.only.iter().map(|object| object.kind.clone());
        objects.collect::<Vec<_>>()
    };
    let live = diff("diff a secret/login cm/x -n shop");
    assert!(live.other.is_none() && kinds(&live) == ["secret", "cm"]);
    assert_eq!(live.only[0].namespace.as_deref(), Some("shop"));
    let two = diff("diff a backup/b cm/x --exit-code");
    assert_eq!(two.other.as_ref().map(|(_, name)| name.as_str()), Some("b"));
    assert!(kinds(&two) == ["cm"] && two.exit_code && !two.everything);
    let moved = diff("diff a b --other-location file:///c --show-all");
    assert!(matches!(
        moved.other,
        Some((
            Place::Known {
                location: backup_engine::location::Location::Folder(_),
                ..
            },
            _
        ))
    ));
    assert!(moved.everything && diff("diff a").other.is_none());
    for (line, expected) in [
        ("diff a --other-location file:///c", "second backup"),
        ("diff a b c", "KIND/NAME"),
        ("diff a secret/x -n a,b", "one namespace"),
    ] {
        let error = meaning(line).unwrap_err().to_string();
        assert!(error.contains(expected), "{line}: {error}");
    }
}
