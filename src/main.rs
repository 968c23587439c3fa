//! Entry.
use cutover::daemon::{Daemon, ServeOptions};
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let file = std::path::PathBuf::from(std::env::args().nth(1).unwrap_or_default());
    let loaded =
        cutover_config::load(&file, std::env::vars()).map_err(|p| anyhow::anyhow!("{p}"))?;
    let daemon =
        Daemon::start(loaded.config, ServeOptions { file, ..ServeOptions::default() }).await?;
    daemon.run_until_signal().await
}
