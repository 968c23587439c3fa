//! Commands for the bad moments: back, forward again, why, and how far it has come.

pub mod backup;
pub mod db;
pub mod drill;
pub mod go_on;
pub mod legs;
pub mod maintenance;
pub mod migrate;
pub mod note;
pub mod report;
pub mod restore;
pub mod rollback;
pub mod undo;
pub mod wait;
