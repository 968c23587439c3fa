//! Networks: a copy of each for the color, and a link to the shared services.
//!
//! Colored services are on no network with the other color: each network of the file is copied,
//! fixed addresses are given up, and networks outside of the file are joined by us under names of
//! their own, because compose would add the service's name on both sides.

use std::collections::BTreeSet;

use cutover_model::ServiceName;
use serde_json::Value;

use super::color::Coloring;
use super::problem::ComposeProblem;
use super::stack::{Join, SharedLink};
use super::view::{Object, dependencies, is_true, links, networks, object, text};
use crate::host::settings::NetworkClass;

/// The key of the link in the generated file.
const LINK: &str = "cutover-link";
/// What fixes a container's place on a network; two copies cannot have the same one.
const FIXED: [&str; 4] = ["ipv4_address", "ipv6_address", "link_local_ips", "mac_address"];

impl Coloring<'_> {
    /// The networks of one colored service.
    pub(super) fn color_networks(&mut self, name: &str, body: &mut Object) {
        if body.remove("mac_address").is_some() {
            self.note(format!("{name}: mac_address is given up, two copies cannot have the same"));
        }
        match text(body, "network_mode") {
            None => {}
            Some("bridge") => {
                body.remove("network_mode");
                body.insert("networks".to_owned(), serde_json::json!({ "default": null }));
                self.note(format!(
                    "{name}: network_mode bridge becomes the color's own default network"
                ));
            }
            Some(_) => return,
        }
        let known_as = text(body, "container_name").map(str::to_owned);
        let linked = self.needs_link(name);
        let mut kept = Object::new();
        for (network, entry) in object(body, "networks").cloned().into_iter().flatten() {
            if self.is_external(&network) {
                self.external(name, &network, &entry);
                continue;
            }
            let mut entry = entry.as_object().cloned().unwrap_or_default();
            for key in FIXED {
                if entry.remove(key).is_some() {
                    self.note(format!(
                        "{name}: {key} on {network} is given up, two copies cannot have the same"
                    ));
                }
            }
            if let Some(alias) = &known_as {
                let aliases = entry.entry("aliases").or_insert_with(|| Value::Array(Vec::new()));
                if let Some(aliases) =
                    aliases.as_array_mut().filter(|a| !a.contains(&alias.as_str().into()))
                {
                    aliases.push(Value::from(alias.as_str()));
                }
            }
            let entry = if entry.is_empty() { Value::Null } else { Value::Object(entry) };
            kept.insert(network, entry);
        }
        if kept.is_empty() {
            kept.insert("default".to_owned(), Value::Null);
        }
        if linked {
            kept.insert(LINK.to_owned(), Value::Null);
        }
        body.insert("networks".to_owned(), Value::Object(kept));
    }

    fn network_body(&self, network: &str) -> Option<&Object> {
        object(self.top(), "networks")?.get(network)?.as_object()
    }

    fn is_external(&self, network: &str) -> bool {
        self.network_body(network).is_some_and(|body| is_true(body, "external"))
    }

    /// An external network: joined by us, left, or asked about.
    fn external(&mut self, service: &str, network: &str, entry: &Value) {
        let example = format!("{service}-{}", self.target.color);
        let class = self.settings.networks.get(network).copied();
        match class {
            None => self.problems.push(ComposeProblem::UnclassifiedNetwork {
                network: network.to_owned(),
                services: self.users_of(network).join(", "),
                example: format!("{}-{}", self.users_of(network)[0], self.target.color),
            }),
            Some(NetworkClass::Drop) => {
                self.note(format!("{service} is not on the network {network}, as you said"));
            }
            Some(NetworkClass::Join) => {
                let real = self.network_body(network).and_then(|body| text(body, "name"));
                let real = real.unwrap_or(network).to_owned();
                if entry.as_object().is_some_and(|entry| !entry.is_empty()) {
                    self.note(format!(
                        "{service}: addresses and aliases on {network} are given up"
                    ));
                }
                if let Ok(service) = ServiceName::new(service) {
                    self.note(format!("{service} is called {example} on {network}"));
                    self.joins.push(Join { network: real, service, aliases: vec![example] });
                }
            }
        }
    }

    /// The colored services on a network; never empty for one that a colored service is on.
    fn users_of(&self, network: &str) -> Vec<String> {
        self.names()
            .filter(|name| !self.settings.is_shared(name))
            .filter(|name| self.service(name).is_some_and(|b| networks(b).contains_key(network)))
            .collect()
    }

    /// Whether a service can reach a shared one today, or says that it depends on one.
    fn needs_link(&self, name: &str) -> bool {
        let Some(body) = self.service(name) else { return false };
        let mine: BTreeSet<String> = networks(body).into_keys().collect();
        let depends = dependencies(body).iter().any(|edge| self.settings.is_shared(&edge.on));
        depends
            || self.names().filter(|other| self.settings.is_shared(other)).any(|other| {
                self.service(&other)
                    .is_some_and(|body| networks(body).keys().any(|network| mine.contains(network)))
            })
    }

    /// The shared services that the color's link carries, under all of their names.
    pub(super) fn shared_links(&mut self) -> Vec<SharedLink> {
        let mut found = Vec::new();
        for name in self.names().filter(|name| self.settings.is_shared(name)).collect::<Vec<_>>() {
            let Some(body) = self.service(&name) else { continue };
            if let Some(mode) = text(body, "network_mode") {
                self.note(format!(
                    "{name} has network_mode {mode}: it cannot be on a link, so colored services \
                     do not find it by name"
                ));
                continue;
            }
            let mut aliases: BTreeSet<String> = self.host_names(&name).into_iter().collect();
            for other in self.names().filter(|other| !self.settings.is_shared(other)) {
                let linked = self.service(&other).map(links).unwrap_or_default();
                aliases.extend(linked.into_iter().filter(|(on, _)| *on == name).map(|(_, a)| a));
            }
            if let Ok(service) = ServiceName::new(name) {
                found.push(SharedLink { service, aliases: aliases.into_iter().collect() });
            }
        }
        found
    }

    /// The top-level `networks` of the color's file.
    pub(super) fn networks_section(&mut self, services: &Object, shared: &[SharedLink]) -> Object {
        let used: BTreeSet<String> = services
            .values()
            .filter_map(Value::as_object)
            .flat_map(|body| networks(body).into_keys())
            .collect();
        let mut section = Object::new();
        for network in used {
            let copy = if network == LINK {
                if shared.is_empty() {
                    continue;
                }
                let name = self.settings.link_network(self.target.color);
                serde_json::json!({ "name": name, "external": true })
            } else {
                Value::Object(self.copy_of(&network))
            };
            section.insert(network, copy);
        }
        section
    }

    fn copy_of(&mut self, network: &str) -> Object {
        let mut copy = self.network_body(network).cloned().unwrap_or_default();
        let own_name = copy.remove("name");
        if own_name.is_some() && own_name == self.operator_name("networks", network) {
            let name = own_name.as_ref().and_then(Value::as_str).unwrap_or(network);
            self.note(format!("the network {name} stays yours; each color has a copy of its own"));
        }
        let fixed = object(&copy, "ipam").is_some_and(|ipam| ipam.contains_key("config"));
        if fixed {
            copy.remove("ipam");
            self.note(format!(
                "the network {network}: fixed address ranges are given up, two copies cannot have \
                 the same"
            ));
        }
        if let Some(options) = copy.get_mut("driver_opts").and_then(Value::as_object_mut)
            && options.remove("com.docker.network.bridge.name").is_some()
        {
            self.note(format!(
                "the network {network}: the bridge's name is given up, two copies cannot have the \
                 same"
            ));
        }
        match text(&copy, "driver") {
            None | Some("bridge" | "default") => {}
            Some(driver) => {
                let (network, driver) = (network.to_owned(), driver.to_owned());
                self.problems.push(ComposeProblem::NetworkDriver { network, driver });
            }
        }
        let labels = Value::Object(self.labels(None).into_iter().collect());
        copy.insert("labels".to_owned(), labels);
        copy
    }

    /// The real name that a network or volume has in the operator's own project.
    pub(super) fn operator_name(&self, section: &str, key: &str) -> Option<Value> {
        self.rendered.operator.get(section)?.get(key)?.get("name").cloned()
    }
}
