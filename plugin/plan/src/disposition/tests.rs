//! Cases of the rules, as tables.

mod fixture;
mod gate;
mod guard;
mod holder;
