//! A client that speaks to the server as the API server does, one HTTP/1.1 connection at a time.
//!
//! By hand, since the bench needs a client that costs less than what it measures, and hostile cases need one that can
//! stop in the middle.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A connection that is kept open.
pub struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
}

/// Trust in these authorities, as the API server builds it from a caBundle. Sessions are never resumed: each connection
/// is a whole handshake.
pub fn trust(authorities: &[u8]) -> Result<Arc<ClientConfig>> {
    // The provider may have been installed by the caller already; then theirs is the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities) {
        roots.add(certificate.context("a certificate is not PEM")?)?;
    }
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl Client {
    /// Connects and shakes hands.
    pub fn connect(address: SocketAddr, trust: &Arc<ClientConfig>) -> Result<Self> {
        let socket = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        let name = ServerName::IpAddress(address.ip().into());
        let connection = ClientConnection::new(Arc::clone(trust), name)?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        Ok(self.stream.flush()?)
    }

    /// A whole request as bytes, for senders that send the same one many times.
    pub fn request(path: &str, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: webhook\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    }

    /// Sends a body and reads the answer: status and body.
    pub fn post(&mut self, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
        self.send(&Self::request(path, body))?;
        self.answer()
    }

    /// Reads one answer.
    pub fn answer(&mut self) -> Result<(u16, Vec<u8>)> {
        self.read_answer().map(|(status, _, body)| (status, body))
    }

    /// Reads one answer: status, head, body.
    pub fn read_answer(&mut self) -> Result<(u16, String, Vec<u8>)> {
        let (end, length) = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break (end + 4, content_length(&self.buffer[..end])?);
            }
            self.fill()?;
        };
        while self.buffer.len() < end + length {
            self.fill()?;
        }
        let rest = self.buffer.split_off(end + length);
        let answer = std::mem::replace(&mut self.buffer, rest);
        let head = std::str::from_utf8(&answer[..end])?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok((status, head.to_ascii_lowercase(), answer[end..].to_vec()))
    }

    fn fill(&mut self) -> Result<()> {
        let mut chunk = [0; 16 * 1024];
        let read = self.stream.read(&mut chunk)?;
        if read == 0 {
            bail!("the server closed the connection");
        }
        self.buffer.extend_from_slice(&chunk[..read]);
        Ok(())
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn content_length(head: &[u8]) -> Result<usize> {
    let head = std::str::from_utf8(head)?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim())
    });
    Ok(length.context("an answer without content-length")?.parse()?)
}
