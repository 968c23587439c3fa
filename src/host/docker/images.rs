//! Images: resolved from names to ids, kept from being pruned, removed when a release goes.
//!
//! A tag can move and does not protect an image from `docker image prune -a`; a container does. So
//! each image of a release is held by a *pin*: a container that was made and never started.

use std::collections::HashMap;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveImageOptionsBuilder};

use super::networks::Found;
use super::{ASK, CHANGE, Docker, DockerError, Filter, label, short, within};

/// An image that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its id, with `sha256:`.
    pub id: String,
    /// Its names.
    pub tags: Vec<String>,
    /// Its registry digests.
    pub digests: Vec<String>,
    /// Whether it declares a health check of its own.
    pub has_health_check: Found,
}

impl Docker {
    /// The image of a name or id, or nothing when the engine has none.
    ///
    /// # Errors
    /// [`DockerError`] when the engine does not answer.
    pub async fn image(&self, reference: &str) -> Result<Option<Image>, DockerError> {
        let what = format!("looking at image {reference}");
        let answer = match within(ASK, &what, self.client.inspect_image(reference)).await {
            Ok(answer) => answer,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        let id = answer.id.ok_or(DockerError::Incomplete { what, field: "Id" })?;
        let check = answer.config.and_then(|config| config.healthcheck).and_then(|h| h.test);
        let has = check.is_some_and(|test| test.first().is_some_and(|word| word != "NONE"));
        Ok(Some(Image {
            id,
            tags: answer.repo_tags.unwrap_or_default(),
            digests: answer.repo_digests.unwrap_or_default(),
            has_health_check: if has { Found::Yes } else { Found::No },
        }))
    }

    /// Holds an image for a release, so that no prune removes it: a container that is made and
    /// never started. Made already is success.
    ///
    /// # Errors
    /// [`DockerError::Missing`] when the image is gone.
    pub async fn pin_image(
        &self,
        image: &str,
        app: &str,
        release: &str,
    ) -> Result<(), DockerError> {
        let name = format!("cutover-pin-{app}-{release}-{}", short(image));
        let labels = [(label::APP, app), (label::RELEASE, release), (label::KIND, "pin")];
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            // Never run; an image without a command cannot be made into a container otherwise.
            cmd: Some(vec!["pin".to_owned()]),
            network_disabled: Some(true),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let what = format!("pinning image {}", short(image));
        match within(CHANGE, what, self.client.create_container(Some(options), body)).await {
            Ok(_) | Err(DockerError::Refused { status: 409, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Lets the images of a release go: removes its pins.
    ///
    /// # Errors
    /// [`DockerError`] when one of them stays.
    pub async fn unpin_images(&self, app: &str, release: &str) -> Result<(), DockerError> {
        let filter = Filter::app(app).label(label::RELEASE, release).label(label::KIND, "pin");
        for pin in self.containers(&filter).await? {
            self.remove(&pin).await?;
        }
        Ok(())
    }

    /// Takes one name off an image, and removes the image when it was its last name and nothing
    /// uses it. A name that is not there is success.
    ///
    /// # Errors
    /// [`DockerError`] with the engine's reason.
    pub async fn untag_image(&self, tag: &str) -> Result<(), DockerError> {
        let options = RemoveImageOptionsBuilder::default().force(false).noprune(false).build();
        let what = format!("removing image name {tag}");
        let call = self.client.remove_image(tag, Some(options), None);
        match within(CHANGE, what, call).await {
            Ok(_) => Ok(()),
            // 409: a container uses it; the pin of another release, for instance.
            Err(error) if error.is_missing() => Ok(()),
            Err(DockerError::Refused { status: 409, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The named volumes with a label of ours, for an app and, when given, a color.
    ///
    /// # Errors
    /// [`DockerError`] when the engine does not answer.
    pub async fn volumes_of(
        &self,
        app: &str,
        color: Option<&str>,
    ) -> Result<Vec<String>, DockerError> {
        let mut labels = vec![format!("{}={app}", label::APP)];
        labels.extend(color.map(|color| format!("{}={color}", label::COLOR)));
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = bollard::query_parameters::ListVolumesOptionsBuilder::default()
            .filters(&filters)
            .build();
        let answer =
            within(ASK, "listing volumes", self.client.list_volumes(Some(options))).await?;
        Ok(answer.volumes.unwrap_or_default().into_iter().map(|volume| volume.name).collect())
    }

    /// Removes a volume that carries our label for `app`; one that is gone is success.
    ///
    /// # Errors
    /// [`DockerError::Refused`] when it is not ours or in use.
    pub async fn remove_volume(&self, name: &str, app: &str) -> Result<(), DockerError> {
        if !self.volumes_of(app, None).await?.iter().any(|volume| volume == name) {
            return match self.has_volume(name).await? {
                Found::No => Ok(()),
                Found::Yes => Err(DockerError::Refused {
                    what: format!("removing volume {name}"),
                    status: 403,
                    text: "it does not carry our label, so it is not ours to remove".to_owned(),
                }),
            };
        }
        let options = None::<bollard::query_parameters::RemoveVolumeOptions>;
        let what = format!("removing volume {name}");
        match within(CHANGE, what, self.client.remove_volume(name, options)).await {
            Err(error) if error.is_missing() => Ok(()),
            other => other,
        }
    }
}
