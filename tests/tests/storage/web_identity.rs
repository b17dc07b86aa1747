//! Keys that a pod gets for its token (IRSA): a real backup with nothing but a role and a token file, and what a person is
//! told when that fails.
//!
//! The token service is ours and in process; the store is a real S3 server that knows the temporary key alone and checks
//! every signature. That the session token goes along is seen in the requests, since the signature covers it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use backup_tests::cluster::{Cluster, Namespace};
use backup_tests::plugin::{Plugin, Ran};
use backup_tests::proxy::{FaultProxy, ForwardProxy, Request};
use backup_tests::scratch::Scratch;
use backup_tests::store::in_process::{ACCESS_KEY, InProcess, SECRET_KEY};
use backup_tests::sts::{Answer, TokenService};

use crate::subjects::{BUCKET, in_process_server};

const ROLE: &str = "arn:aws:iam::123456789012:role/backup";
const TOKEN: &str = "eyJhbGciOi.first+token/with=signs.sig";

/// A store, a recorder in front of it, and a token file.
struct Pod {
    _store: InProcess,
    recorder: FaultProxy,
    folder: Scratch,
    namespace: Namespace,
}

impl Pod {
    async fn new() -> Result<Self> {
        let store = in_process_server()?;
        let recorder = FaultProxy::start(store.address()).await?;
        let folder = Scratch::new("token-")?;
        let pod = Self {
            _store: store,
            recorder,
            folder,
            namespace: Cluster::shared()?.namespace()?,
        };
        std::fs::write(pod.token_file(), TOKEN)?;
        Ok(pod)
    }

    fn token_file(&self) -> PathBuf {
        self.folder.join("token")
    }

    /// The plugin as a pod's environment makes it: no keys, but a role and a token.
    fn plugin(&self, service: &TokenService) -> Result<Plugin> {
        let location = format!(
            "s3://{BUCKET}/irsa?endpoint=http://{}&path-style=true",
            self.recorder.address()
        );
        let token_file = self.token_file();
        let plugin = Plugin::bare()?
            .with_kubeconfig(Cluster::shared()?.kubeconfig())?
            .with_env("KUBECTL_BACKUP_LOCATION", &location)
            .with_env("AWS_REGION", "eu-central-1")
            .with_env("AWS_ROLE_ARN", ROLE)
            .with_env("AWS_ROLE_SESSION_NAME", "nightly")
            .with_env(
                "AWS_WEB_IDENTITY_TOKEN_FILE",
                token_file.to_str().context("UTF-8")?,
            )
            .with_env("AWS_ENDPOINT_URL_STS", &format!("http://{}", service.address()))
            .with_env("AWS_EC2_METADATA_DISABLED", "true");
        Ok(plugin)
    }

    fn create(&self, plugin: &Plugin) -> Result<Ran> {
        plugin.run(["create", "b1", "-n", self.namespace.name()])
    }
}

fn keys(session_token: &str, lasts: Duration) -> Answer {
    Answer::Keys {
        access_key: ACCESS_KEY.into(),
        secret_key: SECRET_KEY.into(),
        session_token: session_token.into(),
        lasts,
    }
}

/// The session token of each request; each is signed with the temporary key, over that token too.
fn session_tokens(requests: &[Request]) -> Vec<String> {
    assert!(!requests.is_empty());
    let of = |request: &Request| {
        let authorization = request.header("authorization").unwrap_or_default();
        let scope = format!("Credential={ACCESS_KEY}/");
        assert!(authorization.contains(&scope), "{request:?}");
        assert!(
            authorization.contains("/eu-central-1/s3/aws4_request"),
            "{request:?}"
        );
        assert!(authorization.contains("x-amz-security-token"), "{request:?}");
        request
            .header("x-amz-security-token")
            .unwrap_or_default()
            .to_owned()
    };
    requests.iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_and_a_token_are_all_that_a_backup_needs() -> Result<()> {
    let pod = Pod::new().await?;
    let service = TokenService::start(|_| keys("temporary", Duration::from_hours(1))).await?;
    let plugin = pod.plugin(&service)?;
    pod.create(&plugin)?.ok().stdout_has("Completed");
    let asked = service.asked();
    // One change of token for keys is enough for a run, however many requests it makes.
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0]["Action"], "AssumeRoleWithWebIdentity");
    assert_eq!(asked[0]["RoleArn"], ROLE);
    assert_eq!(asked[0]["RoleSessionName"], "nightly");
    assert_eq!(asked[0]["WebIdentityToken"], TOKEN);
    let requests = pod.recorder.requests();
    assert!(requests.len() > 5, "{requests:?}");
    assert!(session_tokens(&requests).iter().all(|token| token == "temporary"));
    plugin.run(["verify", "b1"])?.ok();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_renewed_is_read_again_when_the_keys_run_out() -> Result<()> {
    let pod = Pod::new().await?;
    let file = pod.token_file();
    // The kubelet renews the token while the first keys, which are as good as run out, are in use.
    let service = TokenService::start(move |number| {
        let _ = std::fs::write(&file, format!("token-{}", number + 1));
        match number {
            1 => keys("temporary-1", Duration::from_secs(1)),
            _ => keys("temporary-2", Duration::from_hours(1)),
        }
    })
    .await?;
    pod.create(&pod.plugin(&service)?)?.ok().stdout_has("Completed");
    let tokens: Vec<_> = service
        .asked()
        .iter()
        .map(|asked| asked["WebIdentityToken"].clone())
        .collect();
    assert_eq!(tokens, [TOKEN, "token-2"]);
    let mut used = session_tokens(&pod.recorder.requests());
    used.dedup();
    assert_eq!(used, ["temporary-1", "temporary-2"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_service_is_asked_through_the_proxy_too() -> Result<()> {
    let pod = Pod::new().await?;
    let service = TokenService::start(|_| keys("temporary", Duration::from_hours(1))).await?;
    let (store_name, service_name) = ("s3.backups.invalid", "sts.backups.invalid");
    let routes = [
        (store_name.to_owned(), pod.recorder.address()),
        (service_name.to_owned(), service.address()),
    ];
    let proxy = ForwardProxy::start(routes).await?;
    let location = format!("s3://{BUCKET}/irsa?endpoint=http://{store_name}&path-style=true");
    let plugin = pod
        .plugin(&service)?
        .with_env("KUBECTL_BACKUP_LOCATION", &location)
        .with_env("AWS_ENDPOINT_URL_STS", &format!("http://{service_name}"))
        .with_env("HTTP_PROXY", &proxy.url());
    pod.create(&plugin)?.ok();
    let asked = proxy.asked();
    assert_eq!(asked[0], ("POST".to_owned(), service_name.to_owned()));
    assert!(
        asked[1..].iter().all(|(_, authority)| authority == store_name),
        "{asked:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_file_that_is_not_there_is_named() -> Result<()> {
    let pod = Pod::new().await?;
    let service = TokenService::start(|_| keys("temporary", Duration::from_hours(1))).await?;
    std::fs::remove_file(pod.token_file())?;
    let ran = pod.create(&pod.plugin(&service)?)?.exits(4);
    ran.stderr_has(pod.token_file().to_str().context("UTF-8")?)
        .stderr_has("No such file")
        .stderr_has("check AWS_WEB_IDENTITY_TOKEN_FILE")
        .stderr_has("service account token");
    assert_eq!(service.asked().len(), 0);
    assert_eq!(pod.recorder.requests(), []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_the_token_service_is_told_with_the_role_and_without_the_token() -> Result<()> {
    let pod = Pod::new().await?;
    let service = TokenService::start(|_| Answer::Refusal {
        status: 403,
        code: "AccessDenied",
        message: "Not authorized to perform sts:AssumeRoleWithWebIdentity",
    })
    .await?;
    pod.create(&pod.plugin(&service)?)?
        .exits(4)
        .stderr_has(ROLE)
        .stderr_has("Not authorized to perform sts:AssumeRoleWithWebIdentity")
        .stderr_has("trust policy")
        .nowhere_has(TOKEN);
    // Asking again would change nothing.
    assert_eq!(service.asked().len(), 1);
    assert_eq!(pod.recorder.requests(), []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_service_that_is_not_there_is_told() -> Result<()> {
    let pod = Pod::new().await?;
    let service = TokenService::start(|_| keys("temporary", Duration::from_hours(1))).await?;
    let plugin = pod.plugin(&service)?;
    drop(service);
    pod.create(&plugin)?
        .exits(4)
        .stderr_has(ROLE)
        .stderr_has("refused");
    Ok(())
}
