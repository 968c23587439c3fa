//! Networks: made, joined, left and removed.
//!
//! Links are internal networks, which have no default route: joining one moves no route of the
//! container, so that no connection through a published port is reset (a normal network does move
//! it). Only networks that carry our label are ever removed.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    EndpointSettings, NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest,
};
use bollard::query_parameters::ListNetworksOptionsBuilder;

use super::{ASK, CHANGE, Container, Docker, DockerError, Filter, label, short, within};

/// A network as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it has no way out.
    pub internal: bool,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// The ids of the running containers on it.
    pub containers: Vec<String>,
}

impl Docker {
    /// One network by its exact name, or nothing.
    ///
    /// # Errors
    /// [`DockerError`] when the engine does not answer.
    pub async fn network(&self, name: &str) -> Result<Option<Network>, DockerError> {
        let what = format!("looking at network {name}");
        let answer = match within(ASK, what, self.client.inspect_network(name, None)).await {
            Ok(answer) => answer,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(Network {
            id: answer.id.unwrap_or_default(),
            name: answer.name.unwrap_or_default(),
            internal: answer.internal.unwrap_or(false),
            labels: answer.labels.unwrap_or_default().into_iter().collect(),
            containers: answer.containers.unwrap_or_default().into_keys().collect(),
        })
        // Docker also finds networks by the beginning of their id.
        .filter(|network| network.name == name))
    }

    /// The networks that match, by name.
    ///
    /// # Errors
    /// [`DockerError`] when the engine does not answer.
    pub async fn networks(&self, filter: &Filter) -> Result<Vec<Network>, DockerError> {
        let options = ListNetworksOptionsBuilder::default().filters(&filter.query()).build();
        let what = "listing networks";
        let listed = within(ASK, what, self.client.list_networks(Some(options))).await?;
        let mut found = Vec::new();
        for name in listed.into_iter().filter_map(|network| network.name) {
            found.extend(self.network(&name).await?);
        }
        Ok(found)
    }

    /// Makes the internal network by which a color reaches the shared services, or finds it.
    ///
    /// # Errors
    /// [`DockerError::Refused`] when a network of that name exists that is not internal or not
    /// ours, or when the engine has no addresses left.
    pub async fn ensure_link(
        &self,
        name: &str,
        app: &str,
        color: &str,
    ) -> Result<Network, DockerError> {
        if let Some(network) = self.network(name).await? {
            let ours = network.labels.get(label::APP).is_some_and(|owner| owner == app);
            if ours && network.internal {
                return Ok(network);
            }
            return Err(DockerError::Refused {
                what: format!("making network {name}"),
                status: 409,
                text:
                    "a network of that name exists and was not made for this; remove or rename it"
                        .to_owned(),
            });
        }
        let labels = [(label::APP, app), (label::COLOR, color), (label::KIND, "link")];
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            internal: Some(true),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..NetworkCreateRequest::default()
        };
        let what = format!("making network {name}");
        match within(CHANGE, &what, self.client.create_network(request)).await {
            // Somebody was faster, perhaps this program before it was killed.
            Ok(_) | Err(DockerError::Refused { status: 409, .. }) => {}
            Err(error) => return Err(error),
        }
        self.network(name)
            .await?
            .ok_or(DockerError::Missing { what, text: "it is gone again".to_owned() })
    }

    /// Joins a container to a network under some names; one that is on it already is success when
    /// it has all the names, and joined anew when it lacks one.
    ///
    /// # Errors
    /// [`DockerError`] with the engine's reason.
    pub async fn join(
        &self,
        network: &str,
        container: &Container,
        aliases: &[String],
    ) -> Result<(), DockerError> {
        let now = self.container(&container.id).await?;
        if let Some(attached) = now.networks.get(network) {
            if aliases.iter().all(|alias| attached.aliases.contains(alias)) {
                return Ok(());
            }
            self.leave(network, container).await?;
        }
        let request = NetworkConnectRequest {
            container: container.id.clone(),
            endpoint_config: Some(EndpointSettings {
                aliases: Some(aliases.to_vec()),
                ..EndpointSettings::default()
            }),
        };
        let what = format!("joining {} to network {network}", container.name);
        let result = within(CHANGE, what, self.client.connect_network(network, request)).await;
        match result {
            Err(DockerError::Refused { text, .. }) if text.contains("already exists") => Ok(()),
            other => other,
        }
    }

    /// Takes a container off a network; one that is not on it is success.
    ///
    /// # Errors
    /// [`DockerError`] with the engine's reason.
    pub async fn leave(&self, network: &str, container: &Container) -> Result<(), DockerError> {
        let request =
            NetworkDisconnectRequest { container: container.id.clone(), force: Some(true) };
        let what = format!("taking {} off network {network}", container.name);
        match within(CHANGE, what, self.client.disconnect_network(network, request)).await {
            Err(error) if error.is_missing() => Ok(()),
            Err(DockerError::Refused { text, .. }) if text.contains("is not connected") => Ok(()),
            other => other,
        }
    }

    /// Removes a network that carries our label for `app`; every container leaves it first. One
    /// that is gone is success.
    ///
    /// # Errors
    /// [`DockerError::Refused`] when it is not ours.
    pub async fn remove_network(&self, name: &str, app: &str) -> Result<(), DockerError> {
        let Some(network) = self.network(name).await? else { return Ok(()) };
        if network.labels.get(label::APP).is_none_or(|owner| owner != app) {
            return Err(DockerError::Refused {
                what: format!("removing network {name}"),
                status: 403,
                text: "it does not carry our label, so it is not ours to remove".to_owned(),
            });
        }
        for id in &network.containers {
            let request = NetworkDisconnectRequest { container: id.clone(), force: Some(true) };
            let what = format!("taking {} off network {name}", short(id));
            match within(CHANGE, what, self.client.disconnect_network(name, request)).await {
                Err(error) if !error.is_missing() => tracing::debug!(%error, "left behind"),
                _ => {}
            }
        }
        let what = format!("removing network {name}");
        match within(CHANGE, what, self.client.remove_network(&network.id)).await {
            Err(error) if error.is_missing() => Ok(()),
            other => other,
        }
    }

    /// Whether the engine has a named volume.
    ///
    /// # Errors
    /// [`DockerError`] when the engine does not answer.
    pub async fn has_volume(&self, name: &str) -> Result<Found, DockerError> {
        let what = format!("looking at volume {name}");
        match within(ASK, what, self.client.inspect_volume(name)).await {
            Ok(_) => Ok(Found::Yes),
            Err(error) if error.is_missing() => Ok(Found::No),
            Err(error) => Err(error),
        }
    }

    /// Makes a named volume, or finds it. It carries no label of ours: what the operator's data
    /// lives in is never ours to remove.
    ///
    /// # Errors
    /// [`DockerError`] with the engine's reason.
    pub async fn ensure_volume(
        &self,
        name: &str,
        labels: HashMap<String, String>,
    ) -> Result<(), DockerError> {
        let request = bollard::models::VolumeCreateRequest {
            name: Some(name.to_owned()),
            labels: Some(labels),
            ..bollard::models::VolumeCreateRequest::default()
        };
        let what = format!("making volume {name}");
        within(CHANGE, what, self.client.create_volume(request)).await.map(drop)
    }
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It is.
    Yes,
    /// It is not.
    No,
}
