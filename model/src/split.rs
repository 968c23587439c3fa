//! Colors, weights and the split of traffic over two colors.
//!
//! A split is the stable color and the canary's weight: the two shares sum to 10,000 basis points
//! by construction. A client's slot is a fixed place 0..=9,999; it is a canary exactly when its
//! slot lies below the weight, so raising the weight moves clients one way only.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A place where one complete stack of an app runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// The first place; the adopted stack is blue.
    Blue,
    /// The second place.
    Green,
}

impl Color {
    /// Both colors, blue first.
    pub const BOTH: [Self; 2] = [Self::Blue, Self::Green];

    /// The color that this one is not.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }

    /// 0 for blue, 1 for green: for arrays of two.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// `blue` or `green`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Color {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "blue" => Ok(Self::Blue),
            "green" => Ok(Self::Green),
            other => Err(format!("\"{other}\" is not a color: blue or green")),
        }
    }
}

/// One value for each color.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByColor<T> {
    /// For blue.
    pub blue: T,
    /// For green.
    pub green: T,
}

impl<T> ByColor<T> {
    /// The value of a color.
    pub fn get(&self, color: Color) -> &T {
        match color {
            Color::Blue => &self.blue,
            Color::Green => &self.green,
        }
    }

    /// The value of a color, to change it.
    pub fn get_mut(&mut self, color: Color) -> &mut T {
        match color {
            Color::Blue => &mut self.blue,
            Color::Green => &mut self.green,
        }
    }
}

/// The duty that a color has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Serves everyone who is not a canary client.
    Stable,
    /// Serves the clients whose slot lies below the weight.
    Canary,
}

/// A share of traffic in basis points, 0..=10,000.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "u16", into = "u16")]
pub struct Weight(u16);

/// Why a text or number is not a weight.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightError {
    /// More than everything.
    #[error("a weight is at most 100 %, not {0} basis points")]
    TooMuch(u64),
    /// Not of the form `10%`.
    #[error("\"{0}\" is not a weight: write a percentage with at most two decimals, like 12.5%")]
    Malformed(String),
}

impl Weight {
    /// No client.
    pub const ZERO: Self = Self(0);
    /// Every client.
    pub const FULL: Self = Self(10_000);

    /// Wraps a share in basis points.
    ///
    /// # Errors
    /// [`WeightError::TooMuch`] above 10,000.
    pub fn from_basis_points(points: u16) -> Result<Self, WeightError> {
        if points <= 10_000 { Ok(Self(points)) } else { Err(WeightError::TooMuch(points.into())) }
    }

    /// The share in basis points, 0..=10,000.
    #[must_use]
    pub fn basis_points(self) -> u16 {
        self.0
    }

    /// What is left for the other color.
    #[must_use]
    pub fn rest(self) -> Self {
        Self(10_000 - self.0)
    }
}

impl TryFrom<u16> for Weight {
    type Error = WeightError;
    fn try_from(points: u16) -> Result<Self, WeightError> {
        Self::from_basis_points(points)
    }
}

impl From<Weight> for u16 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

impl FromStr for Weight {
    type Err = WeightError;

    /// Reads `10%`, `12.5%`, `0.25 %`; the sign may be left out (`10`).
    fn from_str(text: &str) -> Result<Self, WeightError> {
        let malformed = || WeightError::Malformed(text.chars().take(40).collect());
        let number = text.trim().strip_suffix('%').unwrap_or(text.trim()).trim_end();
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty()
            || whole.len() > 6
            || decimals.len() > 2
            || !digits(whole)
            || !digits(decimals)
            || number.ends_with('.')
        {
            return Err(malformed());
        }
        let whole: u64 = whole.parse().map_err(|_| malformed())?;
        let decimals: u64 = format!("{decimals:0<2}").parse().map_err(|_| malformed())?;
        let points = whole * 100 + decimals;
        u16::try_from(points)
            .ok()
            .and_then(|points| Self::from_basis_points(points).ok())
            .ok_or(WeightError::TooMuch(points))
    }
}

impl fmt::Display for Weight {
    /// `1 %`, `12.5 %`, `0.25 %`: as few decimals as the value needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        let text = match (rest / 10, rest % 10) {
            (0, 0) => format!("{whole} %"),
            (tenths, 0) => format!("{whole}.{tenths} %"),
            _ => format!("{whole}.{rest:02} %"),
        };
        f.pad(&text)
    }
}

/// A client's fixed place, 0..=9,999, for one rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(u16);

impl Slot {
    /// The place that a 64-bit hash falls on; uniform if the hash is.
    #[must_use]
    pub fn from_hash(hash: u64) -> Self {
        // Multiply-shift instead of a remainder: no bias beyond 2^-50, and cheap.
        let place = (u128::from(hash) * 10_000) >> 64;
        Self(u16::try_from(place).unwrap_or(9_999))
    }

    /// The place as a number.
    #[must_use]
    pub fn value(self) -> u16 {
        self.0
    }
}

/// How traffic is divided: the stable color, and the canary's weight on the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// The color that serves everyone who is not a canary client.
    pub stable: Color,
    /// The share of the other color.
    pub weight: Weight,
}

impl Split {
    /// Everything to one color.
    #[must_use]
    pub fn all(color: Color) -> Self {
        Self { stable: color, weight: Weight::ZERO }
    }

    /// The color that is not stable.
    #[must_use]
    pub fn canary(self) -> Color {
        self.stable.other()
    }

    /// The share of a color; the two shares sum to 10,000.
    #[must_use]
    pub fn share(self, color: Color) -> Weight {
        if color == self.stable { self.weight.rest() } else { self.weight }
    }

    /// The role that a slot is served by. 0 % and 100 % are exact.
    #[must_use]
    pub fn role(self, slot: Slot) -> Role {
        if slot.0 < self.weight.0 { Role::Canary } else { Role::Stable }
    }

    /// The color that a slot is served by.
    #[must_use]
    pub fn color(self, slot: Slot) -> Color {
        match self.role(slot) {
            Role::Stable => self.stable,
            Role::Canary => self.canary(),
        }
    }

    /// The color with the larger share; stable on a tie.
    #[must_use]
    pub fn leading(self) -> Color {
        if self.weight.0 > 5_000 { self.canary() } else { self.stable }
    }

    /// The one color that has all traffic, if one has.
    #[must_use]
    pub fn sole(self) -> Option<Color> {
        match self.weight {
            Weight::ZERO => Some(self.stable),
            Weight::FULL => Some(self.canary()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn weights_read_what_they_print() {
        for (text, points, shown) in [
            ("1%", 100, "1 %"),
            ("12.5%", 1250, "12.5 %"),
            ("0.25 %", 25, "0.25 %"),
            ("0.05%", 5, "0.05 %"),
            ("100", 10_000, "100 %"),
            ("0", 0, "0 %"),
        ] {
            let weight: Weight = text.parse().unwrap();
            assert_eq!(weight.basis_points(), points, "{text}");
            assert_eq!(weight.to_string(), shown);
        }
    }

    #[test]
    fn bad_weights_are_refused() {
        for bad in
            ["", "%", "-1%", "1.234%", "100.01%", "101", "ten", "1.", ".5", "1e2", "99999999"]
        {
            assert!(bad.parse::<Weight>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn shares_sum_to_everything(points in 0u16..=10_000, green in any::<bool>()) {
            let stable = if green { Color::Green } else { Color::Blue };
            let split = Split { stable, weight: Weight::from_basis_points(points).unwrap() };
            let sum: u16 = Color::BOTH.iter().map(|c| split.share(*c).basis_points()).sum();
            prop_assert_eq!(sum, 10_000);
        }

        #[test]
        fn raising_the_weight_moves_clients_one_way(
            hash in any::<u64>(),
            a in 0u16..=10_000,
            b in 0u16..=10_000,
        ) {
            let (low, high) = (a.min(b), a.max(b));
            let at = |points| Split {
                stable: Color::Blue,
                weight: Weight::from_basis_points(points).unwrap(),
            };
            let slot = Slot::from_hash(hash);
            if at(low).role(slot) == Role::Canary {
                prop_assert_eq!(at(high).role(slot), Role::Canary);
            }
        }

        #[test]
        fn nothing_and_everything_are_exact(hash in any::<u64>()) {
            let slot = Slot::from_hash(hash);
            prop_assert_eq!(Split::all(Color::Green).color(slot), Color::Green);
            let full = Split { stable: Color::Green, weight: Weight::FULL };
            prop_assert_eq!(full.color(slot), Color::Blue);
        }
    }
}
