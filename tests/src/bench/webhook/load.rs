//! Reviews over TLS at a rate, or as many as go.
//!
//! One thread for each connection, as cheap as a client can be. At a rate a latency counts from when the review was due,
//! not from when a busy client came to send it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustls::ClientConfig;

use crate::webhook::Client;

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    connections: usize,
    /// The time from one review to the next on one connection; none to send without a pause.
    pause: Option<Duration>,
    time: Duration,
}

/// What was found: nanoseconds in ascending order.
#[derive(Debug)]
pub(super) struct Found {
    latencies: Vec<u64>,
    time: Duration,
}

impl Load {
    /// So many reviews a second over all connections.
    pub(super) fn at(connections: usize, rate: usize, time: Duration) -> Self {
        let pause = Duration::from_secs(1).mul_f64(ratio(connections, rate));
        Self {
            connections,
            pause: Some(pause),
            time,
        }
    }

    /// As many as go.
    pub(super) fn full(connections: usize, time: Duration) -> Self {
        Self {
            connections,
            pause: None,
            time,
        }
    }

    /// Sends `body` to the annotator; an answer that is no yes is an error.
    pub(super) fn run(self, address: SocketAddr, trust: &Arc<ClientConfig>, body: &[u8]) -> Result<Found> {
        let request = Client::request("/annotate", body);
        let clients = (0..self.connections)
            .map(|_| Client::connect(address, trust))
            .collect::<Result<Vec<_>>>()?;
        let begin = Instant::now() + Duration::from_millis(20);
        let all = std::thread::scope(|scope| -> Result<Vec<Vec<u64>>> {
            let threads: Vec<_> = clients
                .into_iter()
                .enumerate()
                .map(|(number, client)| {
                    let request = &request;
                    scope.spawn(move || self.connection(client, request, begin, number))
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().ok().context("a client panicked")?)
                .collect()
        })?;
        let time = begin.elapsed();
        let mut latencies: Vec<u64> = all.into_iter().flatten().collect();
        latencies.sort_unstable();
        ensure!(!latencies.is_empty(), "nothing was measured");
        Ok(Found { latencies, time })
    }

    fn connection(
        self,
        mut client: Client,
        request: &[u8],
        begin: Instant,
        number: usize,
    ) -> Result<Vec<u64>> {
        let mut latencies = Vec::new();
        // The connections take turns.
        let offset = self
            .pause
            .unwrap_or_default()
            .mul_f64(ratio(number, self.connections));
        let mut due = begin + offset;
        sleep_until(begin);
        while due < begin + self.time {
            match self.pause {
                Some(_) => sleep_until(due),
                None => due = Instant::now(),
            }
            client.send(request)?;
            let (status, answer) = client.answer()?;
            ensure!(
                status == 200 && answer.len() > 100,
                "{status}: {}",
                String::from_utf8_lossy(&answer)
            );
            latencies.push(u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX));
            due += self.pause.unwrap_or_default();
            if self.pause.is_none() {
                due = Instant::now();
            }
        }
        Ok(latencies)
    }
}

fn sleep_until(moment: Instant) {
    let left = moment.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        std::thread::sleep(left);
    }
}

// Counts of this bench are far below what a float holds exactly.
#[allow(clippy::cast_precision_loss)]
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

impl Found {
    /// Milliseconds that so many of a hundred did not exceed.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    pub(super) fn percentile(&self, percentile: f64) -> f64 {
        let last = self.latencies.len() - 1;
        let position = (last as f64 * percentile / 100.0).round() as usize;
        self.latencies[position.min(last)] as f64 / 1e6
    }

    /// Reviews a second.
    pub(super) fn rate(&self) -> f64 {
        ratio(self.latencies.len(), 1) / self.time.as_secs_f64()
    }
}
