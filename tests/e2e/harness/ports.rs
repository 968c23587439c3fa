//! Free ports and names, for tests that run at the same time, in threads or in processes.
//!
//! A port is reserved by a lock on a file of its number, held as long as the thread lives that
//! asked for it; the kernel's own choice of a free port could be given to two tests.

use std::cell::RefCell;
use std::fs::File;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

thread_local! {
    static HELD: RefCell<Vec<File>> = const { RefCell::new(Vec::new()) };
}
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Below the range from which the kernel takes ports for outgoing connections.
const FIRST: u16 = 20_000;
const COUNT: u32 = 10_000;

/// To be asked on the test's own thread.
pub(crate) fn free_port() -> u16 {
    super::turn::take();
    let folder = std::env::temp_dir().join("cutover-e2e-ports");
    std::fs::create_dir_all(&folder).expect("a folder for reserved ports");
    let start = std::process::id().wrapping_mul(37);
    for _ in 0..COUNT {
        let offset = start.wrapping_add(number()) % COUNT;
        let port = FIRST + u16::try_from(offset).expect("an offset below 10,000");
        let file = File::create(folder.join(port.to_string())).expect("a file to reserve a port");
        if file.try_lock().is_err() {
            continue;
        }
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            HELD.with_borrow_mut(|held| held.push(file));
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", u32::from(FIRST) + COUNT);
}

/// A name for a compose project that nobody else has. The process id in it lets a later run
/// recognise what a killed test left behind.
pub(crate) fn project_name(what: &str) -> String {
    super::turn::take();
    format!("ct{}x{}{what}", std::process::id(), number())
}

/// A number that no other call in this process gets.
pub(crate) fn number() -> u32 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}
