//! The parts that a release is brought back from: code, images, configuration.
//!
//! Each part is that of one release, today's or a former one's. A release that is made again has
//! all three of itself; a composed one is a new release, whose record says where each came from.
//! Nothing here reads a file: what a part is on disk is the reconciler's.

use serde::{Deserialize, Serialize};

use crate::ReleaseId;

/// Something that a rollback may bring back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leg {
    /// The compose file and the files that git tracks.
    Code,
    /// The images.
    Images,
    /// Env files, secrets and configs.
    Config,
}

impl Leg {
    /// All, in the order in which they are told.
    pub const ALL: [Self; 3] = [Self::Code, Self::Images, Self::Config];

    /// As it is typed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Images => "images",
            Self::Config => "config",
        }
    }
}

/// Whether a build may use layers that earlier builds left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layers {
    /// It may.
    #[default]
    Kept,
    /// Everything is built anew.
    Fresh,
}

/// Where the images come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Images {
    /// Those of a release, by id.
    Of(ReleaseId),
    /// Built from the code's commit with its recorded arguments.
    Built(Layers),
}

/// Where a release's parts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// Whose compose file and commit.
    pub code: ReleaseId,
    /// Whose images.
    pub images: Images,
    /// Whose env files.
    pub config: ReleaseId,
    /// The release that served when they were chosen: keys that follow have its values. `None`:
    /// none served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub today: Option<ReleaseId>,
}

impl Parts {
    /// A release as it was; `today` serves.
    #[must_use]
    pub fn of(release: ReleaseId, today: Option<ReleaseId>) -> Self {
        Self { code: release, images: Images::Of(release), config: release, today }
    }

    /// Some legs of `target`, the others of what serves today.
    #[must_use]
    pub fn chosen(
        target: ReleaseId,
        today: ReleaseId,
        legs: &[Leg],
        rebuild: Option<Layers>,
    ) -> Self {
        let of = |leg: Leg| if legs.contains(&leg) { target } else { today };
        let images = rebuild.map_or(Images::Of(of(Leg::Images)), Images::Built);
        Self { code: of(Leg::Code), images, config: of(Leg::Config), today: Some(today) }
    }

    /// The release whose parts they all are.
    #[must_use]
    pub fn whole(&self) -> Option<ReleaseId> {
        let one = self.code;
        (self.images == Images::Of(one) && self.config == one).then_some(one)
    }

    /// The releases that a part is taken from, each once.
    #[must_use]
    pub fn sources(&self) -> Vec<ReleaseId> {
        let mut all = vec![self.code, self.config];
        if let Images::Of(release) = self.images {
            all.push(release);
        }
        all.sort();
        all.dedup();
        all
    }

    /// In a few words: `code of r1, images of r1, config of r2`.
    #[must_use]
    pub fn told(&self) -> String {
        let images = match self.images {
            Images::Of(release) => format!("images of {release}"),
            Images::Built(_) => "images built anew".to_owned(),
        };
        format!("code of {}, {images}, config of {}", self.code, self.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R1: ReleaseId = ReleaseId(1);
    const R2: ReleaseId = ReleaseId(2);

    #[test]
    fn each_leg_is_the_targets_or_todays() {
        for bits in 0..8_u8 {
            let legs: Vec<Leg> =
                (0..3).filter(|at| bits & (1 << at) != 0).map(|at| Leg::ALL[at]).collect();
            let parts = Parts::chosen(R1, R2, &legs, None);
            let of = |leg| if legs.contains(&leg) { R1 } else { R2 };
            assert_eq!(parts.code, of(Leg::Code), "{legs:?}");
            assert_eq!(parts.images, Images::Of(of(Leg::Images)), "{legs:?}");
            assert_eq!(parts.config, of(Leg::Config), "{legs:?}");
            let whole = match legs.len() {
                3 => Some(R1),
                0 => Some(R2),
                _ => None,
            };
            assert_eq!(parts.whole(), whole, "{legs:?}");
        }
    }

    #[test]
    fn images_that_are_built_make_another_release() {
        let parts = Parts::chosen(R1, R2, &Leg::ALL, Some(Layers::Fresh));
        assert_eq!(parts.whole(), None);
        assert_eq!(parts.sources(), [R1]);
        assert_eq!(parts.told(), "code of r1, images built anew, config of r1");
    }
}
