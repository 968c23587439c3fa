//! Cutover.

pub mod host;
