//! Tests that measure, or that need the machine for themselves: nothing runs beside them.

mod adoption;
mod crashes;
mod cut_back;
mod engine_gone;
mod large;
mod rounds;
