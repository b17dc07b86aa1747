//! A relay that counts the bytes of the answers that pass through it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::runtime;

/// A relay in front of one server.
#[derive(Debug)]
pub(super) struct Meter {
    address: SocketAddr,
    answered: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Meter {
    /// Stands before the server at `http://127.0.0.1:PORT`.
    pub(super) fn before(endpoint: &str) -> Result<Self> {
        let upstream: SocketAddr = endpoint
            .trim_start_matches("http://")
            .parse()
            .with_context(|| format!("{endpoint} is no address of this machine"))?;
        let answered = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&answered);
        runtime::run(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let task = tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(relay(client, upstream, Arc::clone(&counted)));
                }
            });
            Ok(Self {
                address,
                answered,
                task,
            })
        })
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bytes so far, heads of the answers included.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(client: TcpStream, upstream: SocketAddr, answered: Arc<AtomicU64>) -> std::io::Result<()> {
    let server = TcpStream::connect(upstream).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from_server.read(&mut buffer).await?;
        if read == 0 {
            up.abort();
            return Ok(());
        }
        answered.fetch_add(read as u64, Ordering::Relaxed);
        to_client
            .write_all(buffer.get(..read).unwrap_or_default())
            .await?;
    }
}
