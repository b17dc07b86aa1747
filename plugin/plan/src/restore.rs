//! The rules of a restore: in which order, what never, and in which form.

pub mod modifier;
pub mod never;
pub mod order;
pub mod transform;
pub mod versions;
