//! Schedules: what their expressions mean, the objects that carry them out, and what those do in real controllers.

mod credentials;
mod cron;
mod cron_job;
mod status;
