//! Cutover.

pub mod adopt;
pub mod host;
pub mod journal;
