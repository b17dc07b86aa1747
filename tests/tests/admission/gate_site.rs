//! What the cases about the gate begin with: a management cluster with the server registered as in the manifests, and
//! people with one right each.
//!
//! The server runs under a ServiceAccount's name, as in production, because only that name may write what the floor
//! reads. The floor itself is left out here: it would answer before the gate (policies are asked before webhooks), and
//! these cases are about the gate's own words.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use backup_tests::cluster::{Answer, Cluster, Namespace, Person};
use backup_tests::cluster_api::{self, Workload, uid};
use backup_tests::webhook::{Registration, Webhook, gate, guard};
use serde_json::{Value, json};
use velero_model::api::{ACCEPTED, FINALIZER, HOLDS_CLUSTERS, PROTECTED};

/// Our own namespace, whose ServiceAccounts are ours.
pub(crate) const OURS: &str = "kubectl-backup";
/// The server's account.
pub(crate) const ACCOUNT: &str = "system:serviceaccount:kubectl-backup:backup-webhook";

/// A management cluster and the server.
pub(crate) struct Site {
    pub(crate) webhook: Webhook,
    pub(crate) cluster: &'static Cluster,
}

/// The site that the cases share.
pub(crate) fn site() -> Result<&'static Site> {
    static SITE: OnceLock<Result<Site, String>> = OnceLock::new();
    let made = SITE.get_or_init(|| make().map_err(|error| format!("{error:#}")));
    made.as_ref().map_err(|error| anyhow!("{error}"))
}

fn make() -> Result<Site> {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    let started = Cluster::start()?;
    let cluster = CLUSTER.get_or_init(|| started);
    cluster_api::install(cluster)?;
    let webhook = start(cluster, &[])?;
    Ok(Site { webhook, cluster })
}

/// Starts the server on a cluster, under its own account, for all that the gate and the guard are about.
pub(crate) fn start(cluster: &Cluster, flags: &[&str]) -> Result<Webhook> {
    if cluster.get(&format!("/api/v1/namespaces/{OURS}"))?.is_none() {
        cluster.create(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": OURS } }))?;
    }
    let account = cluster.person(ACCOUNT)?.may(
        cluster,
        &json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }]),
    )?;
    let registration = Registration::none()
        .validating("/gate", gate())
        .validating("/gate", holders())
        .mutating("/guard", guard());
    let builder = Webhook::builder(cluster)
        .kubeconfig(account.kubeconfig())
        .namespace(OURS)
        .registration(registration);
    flags
        .iter()
        .fold(builder, |builder, flag| builder.flag(flag))
        .start()
}

/// The gate's rules on what takes clusters along.
fn holders() -> Value {
    json!({
        "name": "holders.gate.kubectl-backup.io",
        "rules": [
            { "apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["namespaces"] },
            { "apiGroups": ["apiextensions.k8s.io"], "apiVersions": ["v1"], "operations": ["DELETE"],
              "resources": ["customresourcedefinitions"] },
            { "apiGroups": ["velero.io"], "apiVersions": ["*"], "operations": ["DELETE"],
              "resources": ["backupstoragelocations"] },
        ],
        "matchConditions": [{
            "name": "holds-clusters",
            "expression": format!(
                "request.resource.resource != 'namespaces' || (has(oldObject.metadata.labels) && '{HOLDS_CLUSTERS}' in \
                 oldObject.metadata.labels)"
            ),
        }],
        "failurePolicy": "Fail",
        "timeoutSeconds": 5,
    })
}

/// One workload cluster of a case, protected.
pub(crate) struct Prod {
    pub(crate) namespace: Namespace,
    pub(crate) kind: Workload,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) path: String,
}

impl Prod {
    /// `prod` in a namespace of its own.
    pub(crate) fn protected(site: &Site, kind: Workload) -> Result<Self> {
        Self::in_namespace(site, site.cluster.namespace()?, kind, "prod")
    }

    pub(crate) fn in_namespace(
        site: &Site,
        namespace: Namespace,
        kind: Workload,
        name: &str,
    ) -> Result<Self> {
        let uid = protect(site.cluster, kind, namespace.name(), name)?;
        Ok(Self {
            path: kind.path(namespace.name(), name),
            name: name.to_owned(),
            namespace,
            kind,
            uid,
        })
    }

    /// The commands that a refusal has to name.
    pub(crate) fn commands(&self) -> [String; 2] {
        ["retain", "delete-storage"].map(|verb| {
            format!(
                "kubectl backup cluster {verb} {} -n {}",
                self.name, self.namespace
            )
        })
    }

    /// A StorageDisposition about it, which may differ in its spec.
    pub(crate) fn disposition(&self, word: &str, differs: Value) -> Value {
        let mut spec = json!({
            "clusterRef": {
                "group": self.kind.group(), "kind": self.kind.kind(), "name": self.name, "uid": self.uid,
            },
            "backupStorage": word,
        });
        if let (Value::Object(spec), Value::Object(differs)) = (&mut spec, differs) {
            spec.extend(differs);
        }
        json!({
            "apiVersion": "kubectl-backup.io/v1alpha1", "kind": "StorageDisposition",
            "metadata": { "name": format!("{}-choice", self.name), "namespace": self.namespace.name() },
            "spec": spec,
        })
    }

    /// Where StorageDispositions of its namespace are.
    pub(crate) fn dispositions(&self) -> String {
        format!(
            "/apis/kubectl-backup.io/v1alpha1/namespaces/{}/storagedispositions",
            self.namespace
        )
    }

    /// Where the choice of [`Prod::disposition`] is.
    pub(crate) fn choice(&self) -> String {
        format!("{}/{}-choice", self.dispositions(), self.name)
    }

    /// Somebody chooses.
    pub(crate) fn choose(&self, by: &Person, word: &str) -> Result<Answer> {
        by.create(&self.dispositions(), &self.disposition(word, json!({})))
    }

    /// Waits until the server has mirrored what it accepted, or has taken it back.
    pub(crate) fn wait_for_mirror(&self, cluster: &Cluster, word: Option<&str>) -> Result<()> {
        let wanted = word.map(|word| format!("{word}/{}", self.uid));
        cluster.wait_until(&format!("{} to say {wanted:?}", self.path), |cluster| {
            let object = cluster.get(&self.path)?.context("the cluster is gone")?;
            Ok(object["metadata"]["annotations"][ACCEPTED].as_str() == wanted.as_deref())
        })
    }

    /// Lets it go at the end of a case, so that its namespace can.
    pub(crate) fn release(&self, cluster: &Cluster) -> Result<()> {
        cluster
            .person(ACCOUNT)?
            .patch(&self.path, &json!({ "metadata": { "finalizers": [] } }))
            .map(drop)
    }
}

/// Creates a cluster with the marks of protection; gives its UID.
pub(crate) fn protect(cluster: &Cluster, kind: Workload, namespace: &str, name: &str) -> Result<String> {
    let mut object = kind.object(namespace, name);
    object["metadata"]["annotations"] = json!({ PROTECTED: format!("main:{namespace}/{name}") });
    object["metadata"]["finalizers"] = json!([FINALIZER]);
    uid(&cluster.create(object)?)
}

/// Somebody who may do everything with clusters, namespaces, CRDs and locations, and nothing about backup storage.
pub(crate) fn operator(cluster: &Cluster) -> Result<Person> {
    somebody(cluster, "operator")?.may(
        cluster,
        &json!([
            { "apiGroups": ["cluster.x-k8s.io", "run.tanzu.vmware.com", "velero.io"], "resources": ["*"], "verbs": ["*"] },
            { "apiGroups": [""], "resources": ["namespaces"], "verbs": ["*"] },
            { "apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["*"] },
        ]),
    )
}

/// Somebody who may write StorageDispositions and annotate clusters, but not decide.
pub(crate) fn writer(cluster: &Cluster) -> Result<Person> {
    somebody(cluster, "writer")?.may(
        cluster,
        &json!([
            { "apiGroups": ["kubectl-backup.io"], "resources": ["storagedispositions"],
              "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"] },
            { "apiGroups": ["cluster.x-k8s.io", "run.tanzu.vmware.com"], "resources": ["*"],
              "verbs": ["get", "list", "watch", "update", "patch"] },
        ]),
    )
}

/// Somebody who may decide and delete nothing but what was decided.
pub(crate) fn decider(cluster: &Cluster) -> Result<Person> {
    with(writer(cluster)?, cluster, "decide")
}

/// With one more right about backup storage.
pub(crate) fn with(person: Person, cluster: &Cluster, verb: &str) -> Result<Person> {
    let rules = json!([{ "apiGroups": ["kubectl-backup.io"], "resources": ["storagedispositions"], "verbs": [verb] }]);
    person.may(cluster, &rules)
}

fn somebody(cluster: &Cluster, role: &str) -> Result<Person> {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    cluster.person(&format!("{role}-{}", &unique[..8]))
}

/// Asks again until the answer is a yes, for what takes effect a moment later; gives how long that took.
pub(crate) fn until_ok(mut ask: impl FnMut() -> Result<Answer>) -> Result<Duration> {
    let begun = Instant::now();
    loop {
        let answer = ask()?;
        if answer.code < 300 {
            return Ok(begun.elapsed());
        }
        if begun.elapsed() > Duration::from_secs(30) {
            bail!("still refused after 30 s: {answer}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
