//! A security token service inside the test: changes tokens of a workload for keys that do not last.
//!
//! It knows the one call that pods make, `AssumeRoleWithWebIdentity`. What it answers is the case's decision, call by
//! call; what it was asked is recorded with all its parameters.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the service says to one call.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Keys and the token that goes with them.
    Keys {
        /// The access key.
        access_key: String,
        /// The secret key.
        secret_key: String,
        /// The session token.
        session_token: String,
        /// For how long they are good.
        lasts: Duration,
    },
    /// An error in the service's own form.
    Refusal {
        /// HTTP status.
        status: u16,
        /// Code, such as `AccessDenied`.
        code: &'static str,
        /// Its words.
        message: &'static str,
    },
}

/// A running service.
#[derive(Debug)]
pub struct TokenService {
    address: SocketAddr,
    asked: Asked,
    task: tokio::task::JoinHandle<()>,
}

/// The parameters of each call.
type Asked = Arc<Mutex<Vec<BTreeMap<String, String>>>>;

/// Decides about a call by its number, which begins with 1.
type Decide = dyn Fn(usize) -> Answer + Send + Sync;

impl TokenService {
    /// Listens on a free loopback port; must be called within a runtime.
    pub async fn start(decide: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let decide: Arc<Decide> = Arc::new(decide);
        let asked = Asked::default();
        let recorded = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (decide, recorded) = (Arc::clone(&decide), Arc::clone(&recorded));
                tokio::spawn(async move {
                    let _ = serve(client, &*decide, &recorded).await;
                });
            }
        });
        Ok(Self { address, asked, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The parameters of each call so far.
    pub fn asked(&self) -> Vec<BTreeMap<String, String>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for TokenService {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers one call; the connection ends with it.
async fn serve(mut client: TcpStream, decide: &Decide, asked: &Asked) -> std::io::Result<()> {
    let mut request = Vec::new();
    let body = loop {
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
        if body.len() >= length {
            break body.to_owned();
        }
    };
    let number = {
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push(parameters(&body));
        asked.len()
    };
    let (status, xml) = text_of(&decide(number));
    let answer = format!(
        "HTTP/1.1 {status} Decided\r\ncontent-type: text/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{xml}",
        xml.len()
    );
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await
}

/// The fields of a form.
fn parameters(form: &str) -> BTreeMap<String, String> {
    let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().replace('+', " ").into_bytes();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        bytes.extend(u8::from_str_radix(digits, 16));
        bytes.extend(rest.replace('+', " ").into_bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn text_of(answer: &Answer) -> (u16, String) {
    const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
    match answer {
        Answer::Refusal {
            status,
            code,
            message,
        } => {
            let error =
                format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>");
            (
                *status,
                format!(
                    "<ErrorResponse xmlns=\"{NAMESPACE}\">{error}<RequestId>r</RequestId></ErrorResponse>"
                ),
            )
        }
        Answer::Keys {
            access_key,
            secret_key,
            session_token,
            lasts,
        } => {
            let until = Timestamp::now() + SignedDuration::try_from(*lasts).unwrap_or_default();
            let until = until.round(jiff::Unit::Second).unwrap_or(until);
            let xml = format!(
                "<AssumeRoleWithWebIdentityResponse xmlns=\"{NAMESPACE}\"><AssumeRoleWithWebIdentityResult>\
                 <Credentials><AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>{secret_key}</SecretAccessKey>\
                 <SessionToken>{session_token}</SessionToken><Expiration>{until}</Expiration></Credentials>\
                 <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/backup/s</Arn>\
                 <AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser></AssumeRoleWithWebIdentityResult>\
                 <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></AssumeRoleWithWebIdentityResponse>"
            );
            (200, xml)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read() {
        let form = parameters("Action=A&RoleArn=arn%3Aaws%3Aiam&S=a+b%2B");
        assert_eq!(form["RoleArn"], "arn:aws:iam");
        assert_eq!(form["S"], "a b+");
    }
}
