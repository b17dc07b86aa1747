//! Frames between a mover and whoever started it.
//!
//! A frame is a head in JSON and a body of bytes, each behind its length as four bytes, most significant first. The mover
//! calls for files ([`Op`]) and is answered by number, in any order; it reports in between.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use velero_model::mover::{Report, Request};

/// Longest head, in bytes.
const HEAD: u32 = 16 << 20;

/// Longest body, in bytes: a file of a repository that is read whole.
const BODY: u32 = 1 << 30;

/// What a mover asks of the repository's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "op")]
pub(super) enum Op {
    /// Every file below a folder.
    List { folder: String },
    /// A whole file.
    Read { name: String },
    /// A part of one.
    Range { name: String, offset: u64, length: u64 },
    /// A file with the frame's body.
    Write { name: String, if_absent: bool },
    /// No such file any more.
    Remove { name: String },
}

/// From the mover.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "frame")]
pub(super) enum Up {
    /// It wants something.
    Call { id: u64, call: Op },
    /// It says something.
    Report(Report),
}

/// A file in an answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) modified: Option<jiff::Timestamp>,
}

/// How a call ended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "answer")]
pub(super) enum Answer {
    /// These files.
    Files { files: Vec<Listed> },
    /// The frame's body.
    Bytes,
    /// There is no such file.
    Nothing,
    /// Done; whether it is ours that is stored now.
    Done { is_ours: bool },
    /// It did not succeed.
    Failed { reason: String },
}

/// To the mover.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "frame")]
pub(super) enum Down {
    /// What to do; the first frame.
    Request(Request),
    /// An answer to a call.
    Answer { id: u64, answer: Answer },
}

/// Writes a frame.
pub(super) async fn write<T: Serialize>(
    to: &mut (impl AsyncWrite + Unpin),
    head: &T,
    body: &[u8],
) -> io::Result<()> {
    let head = serde_json::to_vec(head)?;
    for part in [&head[..], body] {
        let length = u32::try_from(part.len()).map_err(|_| io::Error::other("a frame is too long"))?;
        to.write_all(&length.to_be_bytes()).await?;
        to.write_all(part).await?;
    }
    to.flush().await
}

/// Reads a frame; `None` where the other side has ended between two.
pub(super) async fn read<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<(T, Bytes)>> {
    let Some(head) = part(from, HEAD, true).await? else {
        return Ok(None);
    };
    let head = serde_json::from_slice(&head)
        .map_err(|error| io::Error::other(format!("what came is no frame of ours: {error}")))?;
    let body = part(from, BODY, false).await?.unwrap_or_default();
    Ok(Some((head, body)))
}

async fn part(from: &mut (impl AsyncRead + Unpin), most: u32, may_end: bool) -> io::Result<Option<Bytes>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length).await {
        Err(error) if may_end && error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        done => done?,
    };
    let length = u32::from_be_bytes(length);
    if length > most {
        return Err(io::Error::other(format!(
            "what came is no frame of ours: a part of {length} bytes"
        )));
    }
    // Grows with what really comes, however long somebody says that it is.
    let mut bytes = Vec::new();
    let got = from.take(u64::from(length)).read_to_end(&mut bytes).await?;
    if got < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(bytes.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_arrive_whole_or_not_at_all() {
        let mut bytes = Vec::new();
        let call = Up::Call {
            id: 7,
            call: Op::Write {
                name: "config".into(),
                if_absent: true,
            },
        };
        write(&mut bytes, &call, b"body").await.unwrap();
        let (head, body) = read::<Up>(&mut &bytes[..]).await.unwrap().unwrap();
        assert!(matches!(head, Up::Call { id: 7, .. }));
        assert_eq!(&body[..], b"body");
        assert!(read::<Up>(&mut &bytes[..0]).await.unwrap().is_none());
        for cut in 1..bytes.len() {
            let cut_off = read::<Up>(&mut &bytes[..cut]).await;
            assert!(
                !matches!(cut_off, Ok(Some(_))),
                "a frame of {cut} bytes was taken"
            );
        }
        let odd = read::<Up>(&mut &b"OCI runtime exec failed: no such file"[..]).await;
        assert!(odd.unwrap_err().to_string().contains("no frame of ours"));
    }
}
