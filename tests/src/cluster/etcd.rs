//! What a test does to etcd behind the API server's back.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::Cluster;
use super::kubeconfig::base64;

impl Cluster {
    /// Forgets all old revisions, as the API server does every five minutes: continue tokens handed out before are
    /// expired (410) as soon as the API server reads from etcd. Needs
    /// `--feature-gates=ListFromCacheSnapshot=false`, else pages come from the API server's memory.
    pub fn compact(&self) -> Result<()> {
        let range = self.ask_etcd("/v3/kv/range", &json!({ "key": base64(b"a"), "limit": 1 }))?;
        let revision = range
            .pointer("/header/revision")
            .context("etcd names no revision")?;
        self.ask_etcd(
            "/v3/kv/compaction",
            &json!({ "revision": revision, "physical": true }),
        )
        .map(drop)
    }

    /// Puts an object into etcd that the API server would not take any more, as an older one may have left it there. `key`
    /// is what stands behind `/registry/`; the object needs what the API server would have given it (UID, time).
    pub fn put_into_etcd(&self, key: &str, object: &Value) -> Result<()> {
        let (key, value) = (format!("/registry/{key}"), object.to_string());
        let put = json!({ "key": base64(key.as_bytes()), "value": base64(value.as_bytes()) });
        self.ask_etcd("/v3/kv/put", &put).map(drop)
    }

    /// One call through etcd's JSON gateway.
    fn ask_etcd(&self, path: &str, body: &Value) -> Result<Value> {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.site.etcd_port))?;
        connection.set_read_timeout(Some(Duration::from_secs(30)))?;
        let body = body.to_string();
        // HTTP/1.0, so that the answer comes in one piece and ends with the connection.
        write!(
            connection,
            "POST {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("etcd's answer is cut")?;
        if !head.starts_with("HTTP/1.0 200") && !head.starts_with("HTTP/1.1 200") {
            bail!("etcd answered {path} with {answer}");
        }
        Ok(serde_json::from_str(body)?)
    }
}
