//! Heads of requests, read off a connection while its bytes pass by.
//!
//! In come the bytes that a client sends over HTTP/1.1, in pieces as they arrive, out come method, target and
//! headers of each request. Bodies are passed over by their length. What follows a CONNECT, or a body without a length,
//! is no longer looked at.

/// The head of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The verb.
    pub method: String,
    /// As on the wire: a path with its query, a whole URL (to a proxy), or `host:port` (CONNECT).
    pub target: String,
    /// Names in lower case, values as they are.
    headers: Vec<(String, String)>,
}

impl Request {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(known, _)| known == name)?;
        Some(&header.1)
    }

    /// The operation of S3 that this is, as far as its target tells.
    pub fn s3_operation(&self) -> &'static str {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        match self.method.as_str() {
            "PUT" if self.header("x-amz-copy-source").is_some() => "CopyObject",
            "PUT" if has("partNumber") => "UploadPart",
            "PUT" => "PutObject",
            "POST" if has("uploads") => "CreateMultipartUpload",
            "POST" if has("uploadId") => "CompleteMultipartUpload",
            "GET" if has("list-type") => "ListObjectsV2",
            "GET" => "GetObject",
            "HEAD" => "HeadObject",
            "DELETE" if has("uploadId") => "AbortMultipartUpload",
            "DELETE" => "DeleteObject",
            _ => "other",
        }
    }

    /// Host and port that a proxy is asked for.
    pub(super) fn authority(&self) -> Option<&str> {
        if self.method == "CONNECT" {
            return Some(&self.target);
        }
        self.target.strip_prefix("http://")?.split(['/', '?']).next()
    }

    fn parse(head: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
        let headers = lines.filter_map(|line| line.split_once(':'));
        Some(Self {
            method,
            target,
            headers: headers
                .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
                .collect(),
        })
    }
}

/// Where the reading of one connection stands.
#[derive(Debug)]
pub(super) enum Heads {
    /// In a head, of which this much has come.
    Head(Vec<u8>),
    /// In a body, of which this much is to come.
    Body(usize),
    /// Past the last head that can be found.
    Blind,
}

impl Default for Heads {
    fn default() -> Self {
        Self::Head(Vec::new())
    }
}

impl Heads {
    /// Takes the next bytes; gives the heads that they complete.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Vec<Request> {
        let mut found = Vec::new();
        while let Some((first, rest)) = bytes.split_first() {
            match self {
                Self::Blind => break,
                Self::Body(left) => {
                    let passed = bytes.len().min(*left);
                    bytes = bytes.get(passed..).unwrap_or_default();
                    *left -= passed;
                    if *left == 0 {
                        *self = Self::default();
                    }
                }
                Self::Head(head) => {
                    head.push(*first);
                    bytes = rest;
                    if head.ends_with(b"\r\n\r\n") {
                        let request = Request::parse(head);
                        *self = request.as_ref().map_or(Self::Blind, Self::after);
                        found.extend(request);
                    }
                }
            }
        }
        found
    }

    fn after(request: &Request) -> Self {
        if request.method == "CONNECT" || request.header("transfer-encoding").is_some() {
            return Self::Blind;
        }
        match request.header("content-length").map(str::parse) {
            None | Some(Ok(0)) => Self::default(),
            Some(Ok(length)) => Self::Body(length),
            Some(Err(_)) => Self::Blind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_found_however_the_bytes_are_cut() {
        let bytes = b"PUT /b/k?partNumber=1 HTTP/1.1\r\nContent-Length: 6\r\nX-A: 1\r\n\r\nGET x\rHEAD /b/k HTTP/1.1\r\n\r\n\
                      CONNECT s3:443 HTTP/1.1\r\n\r\nGET /hidden HTTP/1.1\r\n\r\n";
        for size in [1, 2, 7, 1000] {
            let mut heads = Heads::default();
            let found: Vec<Request> = bytes.chunks(size).flat_map(|piece| heads.take(piece)).collect();
            let lines: Vec<_> = found
                .iter()
                .map(|request| (request.method.as_str(), request.target.as_str()))
                .collect();
            let expected = [
                ("PUT", "/b/k?partNumber=1"),
                ("HEAD", "/b/k"),
                ("CONNECT", "s3:443"),
            ];
            assert_eq!(lines, expected, "pieces of {size}");
            assert_eq!(found[0].header("x-a"), Some("1"));
            assert_eq!(found[0].s3_operation(), "UploadPart");
        }
    }
}
