//! The host adapters on the real engine: every row of two copies of one compose file that can be
//! provoked here, without the rest of the program. One file for each topic; `site` is the app that
//! they deploy.

mod colors;
mod engine;
mod failing;
mod images;
mod parts;
mod shared;
mod site;
