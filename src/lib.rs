//! Cutover.

pub mod journal;
