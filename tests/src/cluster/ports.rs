//! Loopback ports for servers.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, bail};

/// A port of 127.0.0.1 that nobody listens on. Taken at random below the kernel's range for outgoing connections, so
/// that neither a client's connection nor (but for bad luck, which callers answer by another try) another test process
/// takes it between now and the server's start, or while a server is restarted.
pub fn free_port() -> Result<u16> {
    for _ in 0..200 {
        let bytes = uuid::Uuid::new_v4().into_bytes();
        let port = 20_000 + u16::from_be_bytes([bytes[0], bytes[1]]) % 12_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port found between 20000 and 32000 on 127.0.0.1");
}
