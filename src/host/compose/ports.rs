//! Published ports: which become listeners of the proxy, which are forwarded, which go.
//!
//! A colored service publishes nothing: traffic enters through the proxy, which dials the
//! container's address. Shared services keep what they publish.

use cutover_model::ServiceName;
use serde_json::Value;

use super::color::Coloring;
use super::problem::ComposeProblem;
use super::stack::{Published, PublishedClass};
use super::view::{Object, list, number, text};
use crate::host::settings::PortClass;

/// A port as compose's JSON has it.
fn read(service: &ServiceName, entry: &Value, class: PublishedClass) -> Option<Published> {
    let entry = entry.as_object()?;
    let port = |key: &str| number(entry.get(key)).and_then(|port| u16::try_from(port).ok());
    Some(Published {
        service: service.clone(),
        host_ip: text(entry, "host_ip").map(str::to_owned),
        port: port("published").filter(|port| *port != 0),
        target: port("target")?,
        protocol: text(entry, "protocol").unwrap_or("tcp").to_owned(),
        class,
    })
}

impl Coloring<'_> {
    /// Takes the ports off a colored service and says what becomes of each.
    pub(super) fn take_ports(&mut self, name: &str, body: &mut Object) {
        let entries = list(body, "ports").to_vec();
        body.remove("ports");
        let Ok(service) = ServiceName::new(name) else { return };
        for entry in entries {
            let Some(mut port) = read(&service, &entry, PublishedClass::Dropped) else {
                continue;
            };
            let routed = self.settings.routed.iter().any(|route| {
                route.service == port.service && route.port == port.target && port.protocol == "tcp"
            });
            port.class = if routed { PublishedClass::Listener } else { self.class_of(&port) };
            if port.port.is_some() {
                self.published.push(port);
            } else {
                self.note(format!(
                    "{name}: port {} is not published on a free port of the host any more",
                    port.target
                ));
            }
        }
    }

    fn class_of(&mut self, port: &Published) -> PublishedClass {
        let Some(published) = port.port else { return PublishedClass::Dropped };
        let key = match port.protocol.as_str() {
            "tcp" => published.to_string(),
            protocol => format!("{published}/{protocol}"),
        };
        let shown = match &port.host_ip {
            Some(ip) => format!("{ip}:{published}"),
            None => published.to_string(),
        };
        let keys = [
            key.clone(),
            format!("{published}/{}", port.protocol),
            format!("{}:{}", port.service, port.target),
        ];
        let given = keys.iter().find_map(|key| self.settings.ports.get(key));
        let inside =
            key.replacen(&published.to_string(), &format!("{}:{}", port.service, port.target), 1);
        let given = given.or_else(|| self.settings.ports.get(&inside));
        let service = port.service.to_string();
        match (given, port.protocol.as_str()) {
            (Some(PortClass::Drop), _) => PublishedClass::Dropped,
            (Some(PortClass::Tcp), "tcp") => PublishedClass::Tcp,
            (None, "tcp") => {
                let target = port.target.to_string();
                let published = shown;
                let problem = ComposeProblem::UnclassifiedPort { service, published, target, key };
                self.problems.push(problem);
                PublishedClass::Dropped
            }
            (_, protocol) => {
                let protocol = protocol.to_owned();
                let problem = ComposeProblem::NotTcp { service, published: shown, protocol, key };
                self.problems.push(problem);
                PublishedClass::Dropped
            }
        }
    }

    /// What shared services publish stays as it is.
    pub(super) fn publish_shared(&mut self) {
        for name in self.names().filter(|name| self.settings.is_shared(name)).collect::<Vec<_>>() {
            let (Some(body), Ok(service)) = (self.service(&name), ServiceName::new(name)) else {
                continue;
            };
            let kept = list(body, "ports").iter();
            let kept = kept.filter_map(|entry| read(&service, entry, PublishedClass::Kept));
            self.published.extend(kept);
        }
    }
}
