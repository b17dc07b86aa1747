//! Proxies between the plugin and the store: real backups to names that only the proxy knows.

use std::net::SocketAddr;

use anyhow::Result;
use backup_tests::cluster::Cluster;
use backup_tests::plugin::Plugin;
use backup_tests::process::Server;
use backup_tests::proxy::ForwardProxy;
use backup_tests::scratch::Scratch;
use backup_tests::store::Store;
use backup_tests::store::in_process::{ACCESS_KEY, SECRET_KEY};

use crate::environment::{certificates, versitygw_with_tls};
use crate::subjects::{BUCKET, in_process_server};

/// A name that no resolver ever knows.
const NAME: &str = "s3.backups.invalid";

/// The plugin with keys for the store.
fn plugin(location: &str) -> Result<Plugin> {
    Ok(Plugin::bare()?
        .with_kubeconfig(Cluster::shared()?.kubeconfig())?
        .with_env("KUBECTL_BACKUP_LOCATION", location)
        .with_env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .with_env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .with_env("AWS_EC2_METADATA_DISABLED", "true"))
}

/// A store that speaks https only, under [`NAME`].
struct TlsStore {
    _server: Server,
    address: SocketAddr,
    folder: Scratch,
}

impl TlsStore {
    fn start() -> Result<Self> {
        let folder = Scratch::new("tls-")?;
        let (ca, certificate, key) = certificates(NAME)?;
        std::fs::write(folder.join("ca.pem"), ca)?;
        std::fs::write(folder.join("tls.crt"), certificate)?;
        std::fs::write(folder.join("tls.key"), key)?;
        std::fs::create_dir_all(folder.join("buckets").join(BUCKET))?;
        let (mut server, port) = versitygw_with_tls(folder.path())?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        server.wait_until(|| std::net::TcpStream::connect(address).is_ok())?;
        Ok(Self {
            _server: server,
            address,
            folder,
        })
    }

    fn location(&self) -> String {
        let ca = self.folder.join("ca.pem");
        format!(
            "s3://{BUCKET}?endpoint=https://{NAME}&region=us-east-1&path-style=true&ca-file={}",
            ca.display()
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_goes_through_an_https_proxy_and_the_api_server_does_not() -> Result<()> {
    let store = TlsStore::start()?;
    let proxy = ForwardProxy::start([(format!("{NAME}:443"), store.address)]).await?;
    let namespace = Cluster::shared()?.namespace()?;
    let plugin = plugin(&store.location())?
        .with_env("HTTPS_PROXY", &proxy.url())
        .with_env("NO_PROXY", "127.0.0.1,.cluster.local");
    plugin
        .run(["create", "b1", "-n", namespace.name()])?
        .ok()
        .stdout_has("Completed");
    plugin.run(["verify", "b1"])?.ok();
    let asked = proxy.asked();
    assert!(!asked.is_empty());
    for (method, authority) in asked {
        assert_eq!((method.as_str(), authority), ("CONNECT", format!("{NAME}:443")));
    }
    assert!(
        store
            .folder
            .join("buckets")
            .join(BUCKET)
            .join("backups/b1/velero-backup.json")
            .exists()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_proxy_the_store_is_not_found_and_the_proxy_variables_are_mentioned() -> Result<()> {
    let store = TlsStore::start()?;
    let namespace = Cluster::shared()?.namespace()?;
    plugin(&store.location())?
        .run(["create", "b1", "-n", namespace.name()])?
        .exits(1)
        .stderr_has(NAME)
        .stderr_has("proxy variables");
    // The proxy is there, and somebody has excepted the store from it.
    let proxy = ForwardProxy::start([(format!("{NAME}:443"), store.address)]).await?;
    plugin(&store.location())?
        .with_env("HTTPS_PROXY", &proxy.url())
        .with_env("NO_PROXY", "127.0.0.1,.backups.invalid")
        .run(["create", "b1", "-n", namespace.name()])?
        .exits(1);
    assert_eq!(proxy.asked(), []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_over_plain_http_goes_through_an_http_proxy() -> Result<()> {
    let store = in_process_server()?;
    let proxy = ForwardProxy::start([(NAME.to_owned(), store.address())]).await?;
    let namespace = Cluster::shared()?.namespace()?;
    let location = format!("s3://{BUCKET}?endpoint=http://{NAME}&region=us-east-1");
    plugin(&location)?
        .with_env("HTTP_PROXY", &proxy.url())
        .run(["create", "b1", "-n", namespace.name()])?
        .ok();
    let asked = proxy.asked();
    assert!(asked.iter().all(|(_, authority)| authority == NAME), "{asked:?}");
    let puts = asked.iter().filter(|(method, _)| method == "PUT").count();
    assert!(puts > 5, "{asked:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_does_not_know_the_store_is_told() -> Result<()> {
    let proxy = ForwardProxy::start([]).await?;
    let namespace = Cluster::shared()?.namespace()?;
    let table = [
        ("HTTPS_PROXY", "https", "check the endpoint, the proxy variables"),
        ("HTTP_PROXY", "http", "502"),
    ];
    for (variable, scheme, said) in table {
        let location = format!("s3://{BUCKET}?endpoint={scheme}://{NAME}&region=us-east-1");
        plugin(&location)?
            .with_env(variable, &proxy.url())
            .with_env("NO_PROXY", "127.0.0.1")
            .run(["create", "b1", "-n", namespace.name()])?
            .exits(1)
            .stderr_has(NAME)
            .stderr_has(said);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_on_this_machine_is_never_asked_through_a_proxy_as_with_kubectl() -> Result<()> {
    let proxy = ForwardProxy::start([]).await?;
    let (cluster, store) = (Cluster::shared()?, Store::folder()?);
    let namespace = cluster.namespace()?;
    Plugin::new(cluster, &store)?
        .with_env("HTTPS_PROXY", &proxy.url())
        .run(["create", "b1", "-n", namespace.name()])?
        .ok();
    assert_eq!(proxy.asked(), []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_elsewhere_is_asked_through_the_proxy_unless_it_is_excepted() -> Result<()> {
    let (cluster, store) = (Cluster::shared()?, Store::folder()?);
    let namespace = cluster.namespace()?;
    let address: SocketAddr = cluster.api_url().trim_start_matches("https://").parse()?;
    // A name that the server's certificate knows and no resolver does.
    let name = format!("kubernetes.default.svc:{}", address.port());
    let proxy = ForwardProxy::start([(name.clone(), address)]).await?;
    let kubeconfig = std::fs::read_to_string(cluster.kubeconfig())?;
    let folder = Scratch::new("kubeconfig-")?;
    let file = folder.join("config");
    std::fs::write(
        &file,
        kubeconfig.replace(&cluster.api_url(), &format!("https://{name}")),
    )?;
    let create = ["create", "b1", "-n", namespace.name()];
    let plugin = || Plugin::bare()?.with_store(&store).with_kubeconfig(&file);
    plugin()?.with_env("HTTPS_PROXY", &proxy.url()).run(create)?.ok();
    let asked = proxy.asked();
    assert!(!asked.is_empty());
    assert!(
        asked
            .iter()
            .all(|asked| *asked == ("CONNECT".to_owned(), name.clone())),
        "{asked:?}"
    );
    let excepted = plugin()?
        .with_env("HTTPS_PROXY", &proxy.url())
        .with_env("NO_PROXY", ".svc")
        .run(["create", "b2", "-n", namespace.name()])?;
    excepted.exits(1).stderr_has("cannot be reached");
    assert_eq!(proxy.asked().len(), asked.len());
    // A proxy that the kubeconfig names is meant, whatever the variables say.
    let text = std::fs::read_to_string(&file)?;
    let server = format!("\"server\": \"https://{name}\"");
    assert!(text.contains(&server), "{text}");
    std::fs::write(
        &file,
        text.replace(&server, &format!("{server}, \"proxy-url\": \"{}\"", proxy.url())),
    )?;
    plugin()?
        .with_env("NO_PROXY", "*")
        .run(["create", "b3", "-n", namespace.name()])?
        .ok();
    assert!(proxy.asked().len() > asked.len());
    Ok(())
}
