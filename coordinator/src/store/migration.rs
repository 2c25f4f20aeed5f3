//! The steps by which a database gets its shape, and how far one is.
//!
//! A step that was released never changes: its checksum is stored beside its number, and a database in which it
//! differs is refused. So is one that is newer than this program.

use lull_shared::digest::Digest;

/// One step.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    pub number: u32,
    pub name: &'static str,
    pub sql: &'static str,
}

impl Migration {
    /// What identifies the step's text, whatever line ends a checkout gave it.
    pub fn checksum(&self) -> String {
        Digest::of(self.sql.replace("\r\n", "\n").as_bytes()).to_hex()
    }
}

/// A step that a database has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub number: u32,
    pub checksum: String,
}

/// A database that this program must leave alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Incompatible {
    #[error(
        "the database is at version {found} and this program knows versions up to {known}\nhint: start the newer program that \
         made it, or restore a copy from before the upgrade"
    )]
    Newer { found: u32, known: u32 },
    #[error(
        "version {number} of the database was made by other steps than this program's\nhint: it is not a released version; use \
         the program that made it, or an empty database"
    )]
    Different { number: u32 },
}

/// The steps that a database still needs, in order.
pub fn pending(steps: &'static [Migration], applied: &[Applied]) -> Result<Vec<&'static Migration>, Incompatible> {
    let known = newest(steps);
    if let Some(found) = applied.iter().map(|step| step.number).max().filter(|found| *found > known) {
        return Err(Incompatible::Newer { found, known });
    }
    let mut pending = Vec::new();
    for step in steps {
        match applied.iter().find(|found| found.number == step.number) {
            Some(found) if found.checksum != step.checksum() => return Err(Incompatible::Different { number: step.number }),
            Some(_) => {}
            None => pending.push(step),
        }
    }
    Ok(pending)
}

/// The version that these steps lead to.
pub fn newest(steps: &[Migration]) -> u32 {
    steps.last().map_or(0, |step| step.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    static STEPS: [Migration; 2] =
        [Migration { number: 1, name: "one", sql: "a\r\nb" }, Migration { number: 2, name: "two", sql: "c" }];

    fn applied(number: u32) -> Applied {
        let checksum = STEPS.get(number as usize - 1).map(Migration::checksum).unwrap_or_default();
        Applied { number, checksum }
    }

    #[test]
    fn only_what_is_missing_is_applied() {
        let numbers =
            |applied: &[Applied]| pending(&STEPS, applied).map(|steps| steps.iter().map(|s| s.number).collect::<Vec<_>>());
        assert_eq!(numbers(&[]), Ok(vec![1, 2]));
        assert_eq!(numbers(&[applied(1)]), Ok(vec![2]));
        assert_eq!(numbers(&[applied(1), applied(2)]), Ok(vec![]));
        assert_eq!(numbers(&[applied(1), applied(2), applied(3)]), Err(Incompatible::Newer { found: 3, known: 2 }));
        assert_eq!(numbers(&[Applied { number: 1, checksum: "x".into() }]), Err(Incompatible::Different { number: 1 }));
    }

    #[test]
    fn line_ends_do_not_change_a_checksum() {
        assert_eq!(STEPS[0].checksum(), Migration { number: 1, name: "one", sql: "a\nb" }.checksum());
    }
}
