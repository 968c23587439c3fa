//! The program: hands the words to the command line, and its exit code to the system.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cutover::cli::main(std::env::args_os()).into()
}
