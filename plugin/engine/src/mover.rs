//! Movers: pods of our image that carry the files of a volume between a node and a repository.
//!
//! In come a claim and what is to be done with it; out goes a report. A mover is a Job beside the claim ([`objects`], pure);
//! whoever wants it done holds a connection into its pod ([`session`]) over which frames go ([`wire`]): the request, the
//! repository's files where the pod cannot reach the location ([`remote`]), progress and the report. Inside the pod the work
//! itself is [`work`].
//!
//! Later code may rely on: nothing secret is stored in the cluster, since the request travels over the connection; a mover
//! whose connection breaks stores nothing and ends; its Job goes by itself, also when nobody is left who would delete it.

pub mod crew;
pub mod objects;
mod remote;
mod session;
mod wire;
pub mod work;

pub use self::session::{Done, MoverError, run};
