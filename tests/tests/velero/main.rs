//! A real Velero beside us, on the same bucket: each reads what the other writes, and what each makes of the same backup
//! is compared.

mod differential;
mod engine;
mod golden;
mod ours;
mod site;
