//! Whose turn it is on this machine: tests share it, a test of the module `alone` has it for
//! itself, under `cargo nextest` (a process for each test) and under plain `cargo test` (threads).
//!
//! A turn is a lock on a file of this checkout's target folder. Everything that touches the machine
//! asks for it first, on the test's own thread, and the thread's end gives it back: no test can
//! forget it. Who comes waits in a queue, so that one who wants to be alone is not overtaken by
//! those who share. Runs of other checkouts are not waited for.
//!
//! INVARIANT: a thread takes one turn, the queue before the machine; so nobody waits in a circle.

use std::cell::RefCell;
use std::fs::File;
use std::path::Path;

thread_local! {
    static MINE: RefCell<Option<File>> = const { RefCell::new(None) };
}

/// How a test may have the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    Beside,
    Alone,
}

/// Waits until this test may begin; from the second call on it returns at once. Threads that a test
/// started need no turn of their own.
pub(crate) fn take() {
    let Some(share) = share(std::thread::current().name()) else { return };
    // While the thread ends its turn is over, and what is dropped then asks no more.
    let begin = |mine: &RefCell<Option<File>>| {
        mine.borrow_mut().get_or_insert_with(|| wait(share));
    };
    MINE.try_with(begin).ok();
}

/// libtest calls a thread as its test is called, with the path of its module.
fn share(thread: Option<&str>) -> Option<Share> {
    let (module, _) = thread?.split_once("::")?;
    Some(if module == "alone" { Share::Alone } else { Share::Beside })
}

fn wait(share: Share) -> File {
    let queue = open("e2e-queue.lock");
    queue.lock().expect("a place in the queue");
    let machine = open("e2e-machine.lock");
    match share {
        Share::Beside => machine.lock_shared().expect("a shared turn"),
        Share::Alone => machine.lock().expect("a turn alone"),
    }
    machine
}

fn open(name: &str) -> File {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut options = File::options();
    options.create(true).write(true).truncate(false);
    options.open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_test_of_alone_has_the_machine_for_itself() {
    assert_eq!(share(Some("alone::rounds::ten_rounds")), Some(Share::Alone));
    assert_eq!(share(Some("deploy::alone::in_name_only")), Some(Share::Beside));
    assert_eq!(share(Some("load")), None, "a thread of a test");
    assert_eq!(share(None), None);
    take();
    let machine = open("e2e-machine.lock");
    assert!(machine.try_lock().is_err(), "nobody can be alone while this test runs");
    machine.try_lock_shared().expect("others may share");
}
