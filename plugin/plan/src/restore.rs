//! The rules of a restore: in which order, what never, in which form, and what becomes of objects that exist.

pub mod existing;
pub mod modifier;
pub mod needs;
pub mod never;
pub mod order;
pub mod planned;
pub mod policy;
pub mod quota;
pub mod refusal;
pub mod replacement;
pub mod transform;
pub mod versions;
