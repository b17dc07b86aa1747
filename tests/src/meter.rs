//! A TCP proxy that lets so many bytes of requests through and no more.
//!
//! In comes the address of a real server, out comes another one. What the client sends is counted over all its
//! connections; when the limit is reached nothing more reaches the server, and the connections stay open, so that a test
//! can kill the client at an instant that it has chosen by what the server has seen and not by the clock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::runtime;

/// A proxy in front of one server.
#[derive(Debug)]
pub struct Meter {
    address: SocketAddr,
    counted: Arc<Counted>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Counted {
    upstream: SocketAddr,
    passed: AtomicU64,
    limit: AtomicU64,
}

impl Meter {
    /// Listens on a free loopback port, without a limit.
    pub fn start(upstream: SocketAddr) -> Result<Self> {
        runtime::run(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let counted = Arc::new(Counted {
                upstream,
                passed: AtomicU64::new(0),
                limit: AtomicU64::new(u64::MAX),
            });
            let accepting = Arc::clone(&counted);
            let task = tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(relay(client, Arc::clone(&accepting)));
                }
            });
            Ok(Self {
                address,
                counted,
                task,
            })
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Counts anew, and lets through this much.
    pub fn limit(&self, bytes: u64) {
        self.counted.passed.store(0, Ordering::SeqCst);
        self.counted.limit.store(bytes, Ordering::SeqCst);
    }

    /// What the server has been sent since the limit was set; at the limit when it is reached.
    pub fn passed(&self) -> u64 {
        self.counted
            .passed
            .load(Ordering::SeqCst)
            .min(self.counted.limit.load(Ordering::SeqCst))
    }

    /// Whether nothing more goes through.
    pub fn is_shut(&self) -> bool {
        self.passed() >= self.counted.limit.load(Ordering::SeqCst)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Counted {
    /// How many of these bytes may pass.
    fn admit(&self, bytes: usize) -> usize {
        let before = self.passed.fetch_add(bytes as u64, Ordering::SeqCst);
        let left = self.limit.load(Ordering::SeqCst).saturating_sub(before);
        usize::try_from(left).unwrap_or(usize::MAX).min(bytes)
    }
}

async fn relay(mut client: TcpStream, counted: Arc<Counted>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(counted.upstream).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let up = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = from_client.read(&mut buffer).await?;
            if read == 0 {
                return to_server.shutdown().await;
            }
            let admitted = counted.admit(read);
            to_server.write_all(&buffer[..admitted]).await?;
            if admitted < read {
                // The rest is held back for as long as the client lives.
                while from_client.read(&mut buffer).await? > 0 {}
                return Ok(());
            }
        }
    };
    let down = tokio::io::copy(&mut from_server, &mut to_client);
    tokio::select! {
        result = up => result,
        result = down => result.map(drop),
    }
}
