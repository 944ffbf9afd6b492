//! The commands of `lbstatd`, one file each.

pub mod check;
pub mod dump;
pub mod pass_persist;
pub mod run;
pub mod top;
pub mod user;
