//! A forward proxy as companies have them: CONNECT for https, whole URLs for http.
//!
//! It knows a few names, each with the real address behind it, so that a case can use names which nobody else resolves:
//! what arrives came through the proxy. Every request is recorded, also one for a name that it does not know, which
//! is answered with 502.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::heads::{Heads, Request};
use super::record;

/// A running proxy.
#[derive(Debug)]
pub struct ForwardProxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl ForwardProxy {
    /// Listens on a free loopback port; must be called within a runtime. `routes` are `host` or `host:port` as clients
    /// write them, and where they lead.
    pub async fn start<const N: usize>(routes: [(String, SocketAddr); N]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let routes = Arc::new(HashMap::from(routes));
        let seen = Arc::<Mutex<Vec<Request>>>::default();
        let recorded = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (routes, recorded) = (Arc::clone(&routes), Arc::clone(&recorded));
                tokio::spawn(async move {
                    // A client that goes away in the middle is not the proxy's concern.
                    let _ = serve(client, &routes, &recorded).await;
                });
            }
        });
        Ok(Self { address, seen, task })
    }

    /// Where it listens, as a proxy variable wants it. By name, so that a rule about addresses does not mean the proxy.
    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.address.port())
    }

    /// What it was asked for so far: method, host and port.
    pub fn asked(&self) -> Vec<(String, String)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter()
            .map(|request| {
                let authority = request.authority().unwrap_or("nothing a proxy knows");
                (request.method.clone(), authority.to_owned())
            })
            .collect()
    }
}

impl Drop for ForwardProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut client: TcpStream,
    routes: &HashMap<String, SocketAddr>,
    seen: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let (mut heads, mut begun) = (Heads::default(), Vec::new());
    let mut buffer = vec![0; 16 * 1024];
    let first = loop {
        let read = client.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let piece = buffer.get(..read).unwrap_or_default();
        begun.extend_from_slice(piece);
        let found = record(&mut heads, piece, seen);
        if let Some(first) = found.into_iter().next() {
            break first;
        }
    };
    let Some(upstream) = first.authority().and_then(|authority| routes.get(authority)) else {
        let answer = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        client.write_all(answer).await?;
        return client.shutdown().await;
    };
    let mut server = TcpStream::connect(upstream).await?;
    if first.method == "CONNECT" {
        client
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .await?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    }
    server.write_all(&begun).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let up = super::tee(&mut from_client, &mut to_server, &mut heads, seen);
    tokio::select! {
        result = tokio::io::copy(&mut from_server, &mut to_client) => result.map(drop),
        // The client has said all it will say; the answer may still be on its way.
        result = async { up.await?; std::future::pending().await } => result,
    }
}
