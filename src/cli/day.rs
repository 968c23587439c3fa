//! Commands of every day: look, deploy, shift, and what belongs to a rollout.

pub mod abort;
pub mod deploy;
pub mod events;
pub mod logs;
pub mod next;
pub mod preview;
pub mod promote;
pub mod releases;
pub mod shift;
pub mod status;
