//! Time zones by their names: what windows and moments mean where they name none.

use std::{fmt, str::FromStr};

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// A time zone that every machine finds by its name. Its encoding is the name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

impl Eq for Zone {}

/// The text does not name a time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a time zone\nhint: write one like Europe/Amsterdam, America/New_York or UTC")]
pub struct NoZone(String);

impl Zone {
    /// Coordinated universal time.
    pub fn utc() -> Self {
        Self { name: "UTC".into(), rules: TimeZone::UTC }
    }

    /// The zone with these rules, if they are known by a name.
    pub fn named(rules: TimeZone) -> Option<Self> {
        match rules.iana_name()? {
            // What the clock library calls a zone that it could not find out.
            "Etc/Unknown" => None,
            "Etc/UTC" => Some(Self::utc()),
            name => Some(Self { name: name.to_owned(), rules }),
        }
    }

    /// Its rules.
    pub fn rules(&self) -> &TimeZone {
        &self.rules
    }

    /// Its name, like `Europe/Amsterdam`.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self::utc()
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

impl FromStr for Zone {
    type Err = NoZone;

    fn from_str(text: &str) -> Result<Self, NoZone> {
        let no = || NoZone(text.chars().take(64).collect());
        TimeZone::get(text.trim()).ok().and_then(Self::named).ok_or_else(no)
    }
}

impl TryFrom<String> for Zone {
    type Error = NoZone;

    fn try_from(text: String) -> Result<Self, NoZone> {
        text.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_found_by_its_name_and_keeps_it() {
        let zone: Zone = "Europe/Amsterdam".parse().expect("a zone");
        assert_eq!((zone.name(), zone.to_string()), ("Europe/Amsterdam", "Europe/Amsterdam".to_owned()));
        assert_eq!("utc".parse(), Ok(Zone::utc()));
        assert_eq!(Zone::default(), Zone::utc());
        assert!("Mars/Base".parse::<Zone>().is_err() && "".parse::<Zone>().is_err());
    }

    #[test]
    fn a_zone_without_a_name_of_its_own_is_not_one() {
        assert_eq!(Zone::named(TimeZone::unknown()), None);
        assert_eq!(Zone::named(TimeZone::fixed(jiff::tz::offset(3))), None);
        assert_eq!(Zone::named(TimeZone::UTC), Some(Zone::utc()));
    }
}
