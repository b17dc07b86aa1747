//! A TCP proxy that breaks connections on order.
//!
//! In comes the address of a real server, out comes another address that behaves the same until a fault is armed. Arming
//! cuts all open connections, so that the next requests need new ones; each new connection then takes one fault
//! until they are used up. Faults act on bytes, not on meaning: what a case sees is a real server's answer,
//! cut, stalled or lost. The requests that pass are recorded by their heads (`heads`), for cases about what a client
//! sends. A proxy that a client knows to be one is in `forward`.

mod forward;
mod heads;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub use self::forward::ForwardProxy;
use self::heads::Heads;
pub use self::heads::Request;

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The answer ends after so many bytes, head included.
    Cut {
        /// Bytes let through.
        after: u64,
    },
    /// The answer stops after so many bytes, the connection stays open.
    Stall {
        /// Bytes let through.
        after: u64,
    },
    /// The server is not asked; the client gets 503 SlowDown.
    Unavailable,
    /// The server does its work, but its answer is lost.
    LoseAnswer,
    /// Everything comes this much later.
    Delay(Duration),
}

/// A proxy in front of one server.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    state: Mutex<State>,
    requests: Mutex<Vec<Request>>,
    severed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    fault: Option<Fault>,
    left: u32,
    used: u32,
}

impl FaultProxy {
    /// Listens on a free loopback port; must be called within a runtime.
    pub async fn start(upstream: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Shared {
            upstream,
            state: Mutex::default(),
            requests: Mutex::default(),
            severed: watch::channel(0).0,
        };
        let shared = Arc::new(shared);
        let accepting = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connection(client, Arc::clone(&accepting)));
            }
        });
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next `times` connections get this fault; open ones are cut now.
    pub fn arm(&self, times: u32, fault: Fault) {
        *self.shared.state() = State {
            fault: Some(fault),
            left: times,
            used: 0,
        };
        self.shared.severed.send_modify(|count| *count += 1);
    }

    /// How many connections got the fault that was armed last.
    pub fn used(&self) -> u32 {
        self.shared.state().used
    }

    /// The requests that have passed so far. One that a fault has answered for the server is not among them.
    pub fn requests(&self) -> Vec<Request> {
        let requests = self.shared.requests.lock();
        requests.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.severed.send_modify(|count| *count += 1);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Fault> {
        let mut state = self.state();
        if state.left == 0 {
            return None;
        }
        state.left -= 1;
        state.used += 1;
        state.fault
    }
}

async fn connection(mut client: TcpStream, shared: Arc<Shared>) {
    let mut severed = shared.severed.subscribe();
    severed.mark_unchanged();
    // A client may hold a connection for later; the fault is for the one that asks.
    let mut first = [0; 1];
    tokio::select! {
        read = client.peek(&mut first) => if !matches!(read, Ok(1)) { return },
        _ = severed.changed() => return,
    }
    let fault = shared.take();
    tokio::select! {
        result = relay(&mut client, &shared, fault) => { let _ = result; }
        _ = severed.changed() => {}
    }
}

async fn relay(client: &mut TcpStream, shared: &Shared, fault: Option<Fault>) -> std::io::Result<()> {
    match fault {
        Some(Fault::Unavailable) => return refuse(client).await,
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        _ => {}
    }
    let mut server = TcpStream::connect(shared.upstream).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let mut heads = Heads::default();
    let up = tee(&mut from_client, &mut to_server, &mut heads, &shared.requests);
    let down = async {
        match fault {
            Some(Fault::Cut { after }) => {
                tokio::io::copy(&mut (&mut from_server).take(after), &mut to_client).await?;
                Ok(())
            }
            Some(Fault::Stall { after }) => {
                tokio::io::copy(&mut (&mut from_server).take(after), &mut to_client).await?;
                std::future::pending().await
            }
            Some(Fault::LoseAnswer) => lose(&mut from_server, &mut to_client).await,
            _ => tokio::io::copy(&mut from_server, &mut to_client).await.map(drop),
        }
    };
    tokio::select! {
        result = down => result,
        // The client has said all it will say; the answer may still be on its way.
        result = async { up.await?; std::future::pending().await } => result,
    }
}

/// Passes on what a client sends, to its end, and records the requests in it.
async fn tee(
    from_client: &mut (impl AsyncReadExt + Unpin),
    to_server: &mut (impl AsyncWriteExt + Unpin),
    heads: &mut Heads,
    requests: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from_client.read(&mut buffer).await?;
        if read == 0 {
            return to_server.shutdown().await;
        }
        let piece = buffer.get(..read).unwrap_or_default();
        record(heads, piece, requests);
        to_server.write_all(piece).await?;
    }
}

/// Records the requests whose heads these bytes complete, and gives them.
fn record(heads: &mut Heads, bytes: &[u8], requests: &Mutex<Vec<Request>>) -> Vec<Request> {
    let found = heads.take(bytes);
    let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
    requests.extend_from_slice(&found);
    found
}

/// Waits for the answer and drops it; only the interim `100 Continue` goes through.
async fn lose(
    from_server: &mut (impl AsyncReadExt + Unpin),
    to_client: &mut (impl AsyncWriteExt + Unpin),
) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let read = from_server.read(&mut buffer).await?;
        if !buffer[..read].starts_with(b"HTTP/1.1 100") {
            return Ok(());
        }
        to_client.write_all(&buffer[..read]).await?;
    }
}

/// Reads one request to its end and answers 503.
async fn refuse(client: &mut TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = vec![0; 16 * 1024];
    let head = loop {
        let read = client.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&chunk[..read]);
        if let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    if text.contains("expect: 100-continue") {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let mut left = length.unwrap_or(0_usize).saturating_sub(request.len() - head);
    while left > 0 {
        match client.read(&mut chunk).await? {
            0 => return Ok(()),
            read => left = left.saturating_sub(read),
        }
    }
    let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>";
    // A HEAD has no body, and without one the status alone has to do.
    let body = if text.starts_with("head ") { "" } else { body };
    let answer = format!(
        "HTTP/1.1 503 Slow Down\r\ncontent-type: application/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await
}
