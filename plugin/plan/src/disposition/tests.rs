//! Cases of the rules, as tables.

mod duty;
mod fixture;
mod gate;
mod guard;
mod holder;
