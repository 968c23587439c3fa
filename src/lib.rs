//! Cutover.
