//! Everything outside of this process that Cutover observes or changes.

pub mod redirect;
