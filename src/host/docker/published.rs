//! Ports that the engine publishes on this host, with the container that each leads to.
//!
//! Reads only. A container that is not running publishes nothing.

use std::net::IpAddr;

use bollard::models::{ContainerSummary, PortSummaryTypeEnum};
use bollard::query_parameters::ListContainersOptionsBuilder;
use serde::Serialize;

use super::{ASK, Docker, DockerError, label, within};

/// A TCP port that is published for a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// The container's id.
    pub container: String,
    /// Its name.
    pub name: String,
    /// The compose project it belongs to.
    pub project: Option<String>,
    /// The compose service it belongs to.
    pub service: Option<String>,
    /// The address on this host; unspecified means all.
    pub address: IpAddr,
    /// The port on this host.
    pub port: u16,
    /// The port inside.
    pub inside: u16,
    /// The container's first process, to count its connections.
    pub pid: Option<u32>,
}

impl Docker {
    /// Who has which of these ports of the host through the engine, over all projects.
    ///
    /// # Errors
    /// [`DockerError`] when the engine does not answer.
    pub async fn published(&self, ports: &[u16]) -> Result<Vec<Published>, DockerError> {
        let options = ListContainersOptionsBuilder::default().build();
        let what = "listing published ports";
        let listed = within(ASK, what, self.client.list_containers(Some(options))).await?;
        let mut found: Vec<Published> = listed.iter().flat_map(ports_of).collect();
        found.retain(|published| ports.contains(&published.port));
        for published in &mut found {
            // One that ended meanwhile has no connections left to count.
            published.pid = match self.container(&published.container).await {
                Ok(container) => container.pid,
                Err(error) if error.is_missing() => None,
                Err(error) => return Err(error),
            };
        }
        Ok(found)
    }
}

fn ports_of(summary: &ContainerSummary) -> Vec<Published> {
    let labels = summary.labels.clone().unwrap_or_default();
    let names = summary.names.clone().unwrap_or_default();
    let name = names.first().map(|name| name.trim_start_matches('/').to_owned());
    let ports = summary.ports.as_deref().unwrap_or_default();
    ports
        .iter()
        .filter(|port| port.typ == Some(PortSummaryTypeEnum::TCP))
        .filter_map(|port| {
            Some(Published {
                container: summary.id.clone()?,
                name: name.clone().unwrap_or_default(),
                project: labels.get(label::PROJECT).cloned(),
                service: labels.get(label::SERVICE).cloned(),
                address: port.ip.as_deref()?.parse().ok()?,
                port: port.public_port?,
                inside: port.private_port,
                pid: None,
            })
        })
        .collect()
}
