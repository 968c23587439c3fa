//! Public ports that are carried by connection: opened beside the proxy's listeners, and opened
//! later where somebody still holds them.
//!
//! An app that is taken over publishes its ports itself until a deploy stops its containers, so a
//! taken port keeps no daemon from starting: it is said once, and tried until it is free.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cutover_model::LineLevel;
use cutover_proxy::message::PortSpec;

use super::App;

/// Between two tries: as long as clients are refused after the port was let go.
const RETRY: Duration = Duration::from_millis(100);

/// One address whose connections are carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where it leads.
    pub to: PortSpec,
}

impl App {
    /// Opens every port, each on a task of its own that ends when it is open or the daemon stops.
    pub(super) fn open_ports(self: &Arc<Self>) {
        for carried in self.settings().carried.clone() {
            let app = Arc::clone(self);
            self.tasks.spawn(async move { app.open_port(carried).await });
        }
    }

    async fn open_port(&self, carried: Carried) {
        let Carried { address, to } = carried;
        let mut is_said = false;
        loop {
            let (name, stop) = (self.name.clone(), self.stop.clone());
            match self.shared.proxy.add_port(name, to.clone(), address, stop) {
                Ok(_) if is_said => {
                    let text = format!("{address} is free: connections go to {}", to.service);
                    return self.say(None, LineLevel::Step, "port", text);
                }
                Ok(_) => return,
                Err(error) if !is_said => {
                    is_said = true;
                    let text = format!("{error}. Tried again until it is free");
                    self.say(None, LineLevel::Error, "port", text);
                }
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }
}
