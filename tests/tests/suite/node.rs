//! A whole node: pods run, and whatever ran is gone afterwards.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use backup_tests::node::{BUSYBOX, NODE_ADDRESS, Node};

/// A Deployment whose pods answer with their names at port 8080 and write into a folder of the node.
fn application(node: &Node, namespace: &str) -> String {
    let folder = node.folder().join(format!("volume-{namespace}"));
    format!(
        r#"
apiVersion: v1
kind: PersistentVolume
metadata: {{name: "{namespace}"}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  storageClassName: ""
  claimRef: {{namespace: "{namespace}", name: data}}
  hostPath: {{path: "{}", type: DirectoryOrCreate}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data, namespace: "{namespace}"}}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: ""
  volumeName: "{namespace}"
  resources: {{requests: {{storage: 1Gi}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: "{namespace}"}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: {BUSYBOX}
        command: [sh, -c, 'echo begun; echo "$HOSTNAME" >/data/"$HOSTNAME"; echo served >/scratch/index.html; httpd -f -p 8080 -h /scratch']
        volumeMounts:
        - {{name: data, mountPath: /data}}
        - {{name: scratch, mountPath: /scratch}}
      volumes:
      - {{name: data, persistentVolumeClaim: {{claimName: data}}}}
      - {{name: scratch, emptyDir: {{}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: "{namespace}"}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
"#,
        folder.display()
    )
}

#[test]
fn pods_run_with_volumes_and_reach_services() -> Result<()> {
    let node = Node::shared()?;
    let cluster = node.cluster();
    let namespace = cluster.namespace()?;
    cluster.apply(&application(node, namespace.name()))?;
    let begun = Instant::now();
    node.wait_for_deployment(namespace.name(), "web")?;
    eprintln!("Deployment rolled out in {:?}", begun.elapsed());

    let of_namespace = |words: &[&str]| cluster.kubectl_ok(&[&["-n", namespace.name()], words].concat());
    assert!(of_namespace(&["logs", "deployment/web"])?.contains("begun"));
    let names = of_namespace(&["exec", "deployment/web", "--", "ls", "/data"])?;
    assert_eq!(
        names.lines().count(),
        2,
        "both pods write into one volume: {names}"
    );
    let address = of_namespace(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])?;
    for _ in 0..6 {
        let said = of_namespace(&[
            "exec",
            "deployment/web",
            "--",
            "wget",
            "-q",
            "-O-",
            &format!("http://{address}/"),
        ])?;
        assert_eq!(
            said, "served\n",
            "a pod reaches both pods behind the Service, itself included"
        );
    }

    let seen = std::fs::read_dir(node.folder().join(format!("volume-{namespace}")))?.count();
    assert_eq!(seen, 2, "the volume's files are seen from outside");
    let pods = std::fs::read_dir(node.kubelet_folder().join("pods"))?;
    let scratch = |pod: std::path::PathBuf| pod.join("volumes/kubernetes.io~empty-dir/scratch/index.html");
    let files = pods
        .filter_map(|pod| Some(scratch(pod.ok()?.path()).is_file()))
        .filter(|is_there| *is_there);
    assert!(files.count() >= 2, "so are those of emptyDir volumes");
    Ok(())
}

#[test]
fn a_pod_reaches_a_server_of_the_test() -> Result<()> {
    let node = Node::shared()?;
    let cluster = node.cluster();
    let namespace = cluster.namespace()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = node.lets_pods_reach(listener.local_addr()?.port())?;
    assert!(address.starts_with(NODE_ADDRESS));
    let answered = std::thread::spawn(move || -> Result<()> {
        let (mut connection, _) = listener.accept()?;
        std::io::Write::write_all(
            &mut connection,
            b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        )?;
        // What was asked is read to its end, else the answer may be cut by a reset.
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        std::io::Read::read(&mut connection, &mut [0; 4096])?;
        Ok(())
    });
    cluster.kubectl_ok(&[
        "run",
        "client",
        "-n",
        namespace.name(),
        &format!("--image={BUSYBOX}"),
        "--restart=Never",
        "--quiet",
        "--",
        "wget",
        "-q",
        "-O-",
        &format!("http://{address}/"),
    ])?;
    // Not attached: a pod that has ended before says nothing any more.
    let path = format!("/api/v1/namespaces/{namespace}/pods/client");
    cluster
        .wait_until("the pod to have asked", |cluster| {
            let pod = cluster.get(&path)?.context("no pod")?;
            Ok(pod["status"]["phase"] == "Succeeded")
        })
        .with_context(|| node.state_of(namespace.name()))?;
    let said = cluster.kubectl_ok(&["logs", "client", "-n", namespace.name()])?;
    assert!(said.contains("hello"), "{said}");
    answered
        .join()
        .map_err(|_| anyhow::anyhow!("the server panicked"))?
}

/// What a node could leave behind: processes, cgroups, interfaces, files.
fn traces_of(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let text = folder.display().to_string();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&text) {
            found.push(format!("process {}: {command}", entry.path().display()));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    found.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&text))
            .map(|line| format!("mount {line}")),
    );
    if folder.exists() {
        found.push(format!("folder {text}"));
    }
    found
}

fn cgroups() -> Vec<String> {
    let folders = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpuset"];
    let entries = folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .flatten();
    entries
        .map(|entry| entry.path().display().to_string())
        .filter(|path| path.contains("kubectl-backup-tests-"))
        .collect()
}

fn interfaces() -> Result<Vec<String>> {
    let text = std::fs::read_to_string("/proc/net/dev")?;
    Ok(text
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .collect())
}

fn settings() -> Vec<String> {
    [
        "vm/overcommit_memory",
        "kernel/panic",
        "kernel/panic_on_oops",
        "net/ipv4/ip_forward",
    ]
    .iter()
    .map(|name| std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default())
    .collect()
}

const CHILD: &str = "KUBECTL_BACKUP_TEST_NODE_CHILD";

/// Only as a child of the next test: starts a node with a pod, says where its files are, and waits to be killed.
#[test]
fn a_node_that_waits_to_be_killed() -> Result<()> {
    let Some(file) = std::env::var_os(CHILD) else {
        return Ok(());
    };
    let node = Node::start()?;
    node.cluster().apply(&application(&node, "default"))?;
    node.wait_for_deployment("default", "web")?;
    let unfinished = Path::new(&file).with_extension("unfinished");
    let said = format!("{}\n{}", node.folder().display(), node.cgroup());
    std::fs::write(&unfinished, said)?;
    std::fs::rename(&unfinished, &file)?;
    std::thread::sleep(Duration::from_mins(10));
    Ok(())
}

#[test]
fn a_killed_test_leaves_nothing_of_its_node() -> Result<()> {
    let _alone = super::alone();
    let (interfaces_before, settings_before) = (interfaces()?, settings());
    let file = tempfile::NamedTempFile::new()?.into_temp_path();
    std::fs::remove_file(&file)?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "node::a_node_that_waits_to_be_killed", "--nocapture"])
        .env(CHILD, &file)
        .stdout(Stdio::null())
        .spawn()?;
    let begun = Instant::now();
    while !file.exists() {
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("the child ended with {status}");
        }
        ensure!(
            begun.elapsed() < Duration::from_mins(8),
            "the child's node does not start"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let said = std::fs::read_to_string(&file)?;
    let (folder, cgroup) = said
        .split_once('\n')
        .context("the child says folder and cgroup")?;
    let folder = Path::new(folder);
    // Other cases have nodes too, with cgroups of their own.
    let cgroups_of_child = || cgroups().into_iter().filter(|path| path.ends_with(cgroup));
    assert!(
        cgroups_of_child().next().is_some() && !traces_of(folder).is_empty(),
        "the node was seen"
    );
    child.kill()?;
    child.wait()?;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let mut left = traces_of(folder);
        left.extend(cgroups_of_child());
        if left.is_empty() {
            break;
        }
        ensure!(Instant::now() < deadline, "left behind: {left:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(interfaces()?, interfaces_before);
    assert_eq!(settings(), settings_before);
    Ok(())
}

#[test]
fn a_dropped_node_leaves_nothing() -> Result<()> {
    let _alone = super::alone();
    let (interfaces_before, settings_before) = (interfaces()?, settings());
    let node = Node::start()?;
    node.cluster().apply(&application(&node, "default"))?;
    node.wait_for_deployment("default", "web")?;
    let (folder, cgroup) = (node.folder().to_owned(), node.cgroup());
    drop(node);
    assert_eq!(traces_of(&folder), Vec::<String>::new());
    assert!(
        !cgroups().iter().any(|path| path.ends_with(&cgroup)),
        "{:?}",
        cgroups()
    );
    assert_eq!(interfaces()?, interfaces_before);
    assert_eq!(settings(), settings_before);
    Ok(())
}
