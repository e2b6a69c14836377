//! Pure. Whose ledger it is, where it stands, and how much depends on it.

use std::{collections::BTreeMap, fmt, str::FromStr};

/// Whose ledger it is, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSettings {
    /// Name of the leader's Lease; the shards are named after it.
    pub name: String,
    /// Namespace of both.
    pub namespace: String,
    /// Our identity in the election; without election, what tells this process from others.
    pub identity: String,
    /// Merged into each shard whenever it is written.
    pub labels: BTreeMap<String, String>,
    /// `--crash-safe`.
    pub mode: CrashSafe,
    /// Whether there is an election.
    pub elected: bool,
    /// Name of the driver.
    pub driver: String,
}

/// `--crash-safe`: what happens where records cannot be stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CrashSafe {
    /// They are kept in memory, and that is shown.
    #[default]
    Auto,
    /// Claims wait.
    Required,
    /// They are kept in memory from the beginning.
    Off,
}

impl FromStr for CrashSafe {
    type Err = NoCrashSafe;

    fn from_str(text: &str) -> Result<Self, NoCrashSafe> {
        match text {
            "auto" => Ok(Self::Auto),
            "required" => Ok(Self::Required),
            "off" => Ok(Self::Off),
            _ => Err(NoCrashSafe),
        }
    }
}

impl fmt::Display for CrashSafe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Required => "required",
            Self::Off => "off",
        })
    }
}

/// What was given for `--crash-safe` is none of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCrashSafe;

impl fmt::Display for NoCrashSafe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is one of auto, required and off")
    }
}

impl std::error::Error for NoCrashSafe {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_read_as_it_is_written() {
        for mode in [CrashSafe::Auto, CrashSafe::Required, CrashSafe::Off] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        for odd in ["", "true", "Auto", "on"] {
            assert_eq!(odd.parse::<CrashSafe>(), Err(NoCrashSafe), "{odd}");
        }
    }
}
