//! The certificate in the handshake.
//!
//! Whatever came last through the channel is served from the next handshake on; connections that are open stay so.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::Receiver;

/// What is served now.
#[derive(Debug, Default)]
pub struct Serving {
    current: ArcSwapOption<CertifiedKey>,
}

impl Serving {
    /// Serves what comes through the channel, until its other end is gone.
    pub async fn follow(self: Arc<Self>, mut receiver: Receiver) {
        loop {
            let identity = receiver.borrow_and_update().clone();
            if let Some(identity) = identity {
                self.current.store(Some(Arc::clone(&identity.certified)));
            }
            if receiver.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether there is anything to serve.
    pub fn is_loaded(&self) -> bool {
        self.current.load().is_some()
    }

    /// TLS for the API server: no client certificate is asked for, HTTP/2 is preferred.
    pub fn config(self: &Arc<Self>) -> ServerConfig {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Self>::clone(self);
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}
