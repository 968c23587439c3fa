//! The operator's own pages: read at a start and at a reload, bounded, handed to the data plane.
//!
//! The data plane opens no file. A page that cannot be read keeps no daemon from starting (ours is
//! shown instead) and refuses a reload.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use cutover_config::Config;
use cutover_proxy::message::OwnPages;

/// The longest page: it stays in memory, and goes out whole when something is wrong already.
pub const LONGEST: u64 = 256 * 1024;

/// The pages that can be read, and what is wrong with the others.
#[must_use]
pub fn read(config: &Config) -> (OwnPages, Vec<String>) {
    let (mut pages, mut wrong) = (OwnPages::default(), Vec::new());
    for (status, path) in &config.proxy.error_pages {
        match read_one(path) {
            Ok(html) => drop(pages.html.insert(*status, html)),
            Err(why) => {
                let path = path.display();
                wrong.push(format!("[proxy.error_pages] {status}: {path}: {why}"));
            }
        }
    }
    (pages, wrong)
}

/// The pages for a start: what cannot be read is said, and ours is shown instead.
#[must_use]
pub fn or_ours(config: &Config) -> OwnPages {
    let (pages, wrong) = read(config);
    for why in wrong {
        tracing::warn!("{why}; the page of Cutover is shown instead");
    }
    pages
}

fn read_one(path: &Path) -> Result<String, String> {
    // Without waiting: opening a FIFO would last until somebody writes into it.
    let open = File::options().read(true).custom_flags(nonblock()).open(path);
    let file = open.map_err(|error| error.to_string())?;
    if !file.metadata().map_err(|error| error.to_string())?.is_file() {
        return Err("this is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LONGEST {
        return Err(format!("a page has at most {} KiB", LONGEST / 1024));
    }
    String::from_utf8(bytes).map_err(|_| "save it as UTF-8".to_owned())
}

fn nonblock() -> i32 {
    i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0)
}
