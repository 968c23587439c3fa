//! Commands about the tool itself.

pub mod completions;
pub mod doctor;
pub mod schema;
