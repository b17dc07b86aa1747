//! A limit for requests per second, where the user asked for one.

use std::time::Duration;

use tokio::{sync::Mutex, time::Instant};

/// Hands out evenly spaced places.
#[derive(Debug)]
pub(super) struct Rate {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Rate {
    /// `None` when there is no limit.
    pub(super) fn new(requests_per_second: Option<f64>) -> Option<Self> {
        let per_second = requests_per_second.filter(|rate| rate.is_finite() && *rate > 0.0)?;
        Some(Self {
            interval: Duration::from_secs_f64(1.0 / per_second),
            next: Mutex::new(Instant::now()),
        })
    }

    /// Waits for the next place.
    pub(super) async fn wait(&self) {
        let place = {
            let mut next = self.next.lock().await;
            let place = (*next).max(Instant::now());
            *next = place + self.interval;
            place
        };
        tokio::time::sleep_until(place).await;
    }
}
