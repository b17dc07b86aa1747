//! What the pods of a schedule log in with, and what their image is pulled with.

use anyhow::{Context, Result};
use backup_tests::cluster::{Cluster, base64};
use backup_tests::plugin::Plugin;
use backup_tests::store::Store;
use serde_json::Value;

const SECRET: &str = "/api/v1/namespaces/kubectl-backup/secrets/location-main";

#[test]
fn pods_get_the_credentials_that_were_meant() -> Result<()> {
    let (cluster, store) = (
        Cluster::builder().controllers(false).start()?,
        Store::shared_versitygw()?,
    );
    let plugin = Plugin::new(&cluster, &store)?;
    plugin
        .run(["location", "add", "main", &store.location_url()])?
        .ok();
    let plugin = plugin.with_env("KUBECTL_BACKUP_LOCATION", "main");
    let create = |name: &str, more: &[&str]| {
        let words = [
            "schedule",
            "create",
            name,
            "--schedule",
            "@daily",
            "--engine=direct",
        ];
        plugin.run([&words[..], more].concat())
    };
    let secret = || -> Result<Value> { Ok(cluster.get(SECRET)?.context("no Secret")?["data"].clone()) };

    create("role", &["--no-credentials"])?.ok();
    assert!(secret()?.get("credentials").is_none(), "{}", secret()?);
    assert!(secret()?["url"].is_string());
    plugin.run(["schedule", "delete", "role"])?.ok();

    let text = "[default]\naws_access_key_id = from-a-file\naws_secret_access_key = secret-of-a-file\n";
    let file = plugin.home().join("credentials");
    std::fs::write(&file, text)?;
    let given = ["--credentials-file", file.to_str().context("not UTF-8")?];
    create("file", &given)?.ok().nowhere_has("secret-of-a-file");
    assert_eq!(secret()?["credentials"], base64(text.as_bytes()));
    create("both", &[&given[..], &["--no-credentials"]].concat())?.exits(2);
    create("gone", &["--credentials-file", "/no/such/file"])?
        .exits(1)
        .stderr_has("/no/such/file");

    // A second schedule keeps what is there when it has nothing of its own to give.
    let keyless = Plugin::bare()?
        .with_kubeconfig(cluster.kubeconfig())?
        .with_env("AWS_EC2_METADATA_DISABLED", "true");
    keyless
        .run(["location", "add", "main", &store.location_url()])?
        .ok();
    keyless
        .run([
            "schedule",
            "create",
            "second",
            "--schedule",
            "@daily",
            "--location",
            "main",
            "--engine=direct",
        ])?
        .ok();
    assert_eq!(secret()?["credentials"], base64(text.as_bytes()));
    // Keys that expire are not given on.
    let passing = keyless
        .with_env("AWS_ACCESS_KEY_ID", "a")
        .with_env("AWS_SECRET_ACCESS_KEY", "b")
        .with_env("AWS_SESSION_TOKEN", "c");
    let url = store.location_url_with_prefix("elsewhere");
    passing
        .run([
            "schedule",
            "create",
            "third",
            "--schedule",
            "@daily",
            "--location",
            &url,
            "--engine=direct",
        ])?
        .exits(4)
        .stderr_has("AWS_SESSION_TOKEN");

    create(
        "mirror",
        &[
            "--image",
            "mirror.example.org/kubectl-backup:1",
            "--image-pull-secret",
            "pull",
        ],
    )?
    .ok();
    let cron_job = cluster.get("/apis/batch/v1/namespaces/kubectl-backup/cronjobs/mirror")?;
    let pod = &cron_job.context("no CronJob")?["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    assert_eq!(pod["imagePullSecrets"][0]["name"], "pull");
    assert_eq!(
        pod["containers"][0]["image"],
        "mirror.example.org/kubectl-backup:1"
    );
    // What is about pods is refused where there are none.
    plugin
        .run(["create", "-n", "default", "--no-credentials"])?
        .exits(2)
        .stderr_has("--in-cluster");
    Ok(())
}
