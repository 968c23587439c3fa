//! Removes what a release has outside of its stack. What does not go is logged and nothing fails
//! for it: `doctor` finds it by its name.

use cutover_model::ReleaseId;

use super::super::docker::Docker;
use super::super::settings::StackSettings;
use super::super::{files, git};

/// Removes a release's folder, working tree, pins of images, and ref. What is absent is fine.
pub async fn forget(settings: &StackSettings, release: ReleaseId) {
    let name = release.to_string();
    if let Ok(Some(head)) = git::head(&settings.folder).await {
        log(git::remove_worktree(&head.root, &settings.worktree(release)).await);
        log(git::forget(&head.root, settings.app.as_str(), &name).await);
    }
    if let Ok(docker) = Docker::connect(settings.docker_socket.as_deref()).await {
        log(docker.unpin_images(settings.app.as_str(), &name).await);
    }
    let folder = settings.release_folder(release);
    if folder.exists() {
        log(files::remove_release(&folder).await);
    }
    for rest in [format!("{name}.json"), format!("{name}-pull.json")] {
        drop(std::fs::remove_file(settings.state.join("builds").join(rest)));
    }
}

fn log<T, E: std::fmt::Display>(result: Result<T, E>) {
    if let Err(error) = result {
        tracing::warn!(%error, "something of a release is left over; doctor finds it");
    }
}
