//! versitygw, the strict S3 server, over a temporary folder: real signatures, conditional writes, versions, object lock.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use crate::cluster::free_port;
use crate::process::{self, Server};
use crate::scratch::Scratch;
use crate::servers::{self, Program};

/// The region that it says it is in.
pub(super) const REGION: &str = "us-east-1";
/// The access key of its only account.
pub(super) const ACCESS_KEY: &str = "tester";
/// The secret key of its only account.
pub(super) const SECRET_KEY: &str = "tester-secret-key";
/// The folder in a bucket where it keeps unfinished uploads; not visible through S3.
pub(super) const OPEN_UPLOADS: &str = ".sgwtmp";

/// A running server.
#[derive(Debug)]
pub(super) struct Versitygw {
    // Held for its Drop; before the folder, so that it is gone when the folder goes.
    _server: Mutex<Server>,
    port: u16,
    folder: Scratch,
}

impl Versitygw {
    pub(super) fn start() -> Result<Self> {
        servers::binary(Program::Versitygw)?;
        let mut last = anyhow!("not tried");
        for _ in 0..3 {
            match Self::try_start() {
                Ok(server) => return Ok(server),
                Err(error) if format!("{error:#}").contains("address already in use") => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    fn try_start() -> Result<Self> {
        let folder = Scratch::new("versitygw-")?;
        let port = free_port()?;
        for name in ["buckets", "versions"] {
            std::fs::create_dir(folder.join(name))?;
        }
        let mut command = servers::command(Program::Versitygw)?;
        command
            .args([
                "--port",
                &format!("127.0.0.1:{port}"),
                "--region",
                REGION,
                "--health",
                "/healthz",
                "--quiet",
            ])
            .args(["posix", "--versioning-dir"])
            .arg(folder.join("versions"))
            .arg(folder.join("buckets"))
            .env("ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("ROOT_SECRET_KEY", SECRET_KEY);
        let mut server = Server::start("versitygw", command, &folder.join("versitygw.log"))?;
        server.wait_until(|| is_healthy(port))?;
        Ok(Self {
            _server: Mutex::new(server),
            port,
            folder,
        })
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where its buckets lie.
    pub(super) fn folder(&self) -> PathBuf {
        self.folder.join("buckets")
    }

    pub(super) fn create_bucket(&self, bucket: &str, object_lock: bool) -> Result<()> {
        let mut command = servers::command(Program::Versitygw)?;
        command
            .args(["admin", "--endpoint-url", &self.endpoint(), "--region", REGION])
            .args(["create-bucket", "--owner", ACCESS_KEY, "--bucket", bucket])
            .env("ADMIN_ACCESS_KEY_ID", ACCESS_KEY)
            .env("ADMIN_SECRET_ACCESS_KEY", SECRET_KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if object_lock {
            command.arg("--object-lock-enabled-for-bucket");
        }
        let output = process::spawn(command)?.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "versitygw does not create bucket {bucket}: {said}{}",
                String::from_utf8_lossy(&output.stdout)
            );
        }
        Ok(())
    }
}

fn is_healthy(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}
