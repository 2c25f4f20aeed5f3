//! What does not fit into a menu: pages for the machine's browser, in a folder that only this user can read.

use std::{fmt::Write as _, io, path::PathBuf};

use jiff::Zoned;
use lull_desk::{SERVICE, Status, grants};
use tempfile::TempDir;

use crate::face::View;

/// Where the pages are; they go with this program.
pub struct Pages(TempDir);

impl Pages {
    /// A fresh folder.
    pub fn open() -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        // On Windows the folder is in one that is this user's already.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        Ok(Self(builder.prefix("lull-tray-").tempdir()?))
    }

    /// Writes what functions may touch.
    pub fn grants(&self, view: &View, now: &Zoned) -> io::Result<PathBuf> {
        let (machine, functions) = match view {
            View::Present(status) => (status.name.as_str(), status.session.functions.as_slice()),
            View::Unknown | View::Absent { .. } => ("this machine", &[][..]),
        };
        self.write("functions.html", &grants::page(machine, functions, &when(now)))
    }

    /// Writes what this program is.
    pub fn about(&self, view: &View, now: &Zoned) -> io::Result<PathBuf> {
        self.write("about.html", &about(view, now))
    }

    fn write(&self, name: &str, page: &str) -> io::Result<PathBuf> {
        let path = self.0.path().join(name);
        std::fs::write(&path, page)?;
        Ok(path)
    }
}

fn when(now: &Zoned) -> String {
    now.strftime("%A %H:%M, %-d %B %Y").to_string()
}

fn about(view: &View, now: &Zoned) -> String {
    let mut facts = vec![("This icon", format!("lull-tray {}", env!("CARGO_PKG_VERSION")))];
    if let View::Present(status) = view {
        let Status { version, name, agent, network, coordinator, data, .. } = &**status;
        facts.push(("Agent", format!("lull-agent {version}, {name} ({agent})")));
        facts.push(("Network", network.clone()));
        facts.push(("Coordinator", coordinator.clone().unwrap_or_else(|| "not connected".into())));
        facts.push(("Data", data.display().to_string()));
        let sees = status.sources.iter().filter(|source| source.missing.is_none());
        facts.push(("It sees", sees.map(|source| format!("{} ({})", source.about, source.name)).collect::<Vec<_>>().join("; ")));
    } else {
        facts.push(("Agent", format!("not running; on Windows it is the service {SERVICE}")));
    }
    facts.push(("As of", when(now)));
    let mut rows = String::new();
    for (name, fact) in facts {
        writeln!(rows, "<tr><th>{name}<td>{}", grants::escaped(&fact)).expect("a string takes everything");
    }
    grants::framed(
        "About Lull",
        &format!(
            "<h1>About Lull</h1>\n<p>Lull runs your organisation's batch functions on this machine while nobody uses it. \
             You come first: when you touch the mouse or a key it stops within a hundredth of a second, and you can pause it at any \
             time from its icon.</p>\n<p>It learns that there was input, and never what it was. It asks the system for no key, \
             takes no picture of the screen and reads none of your files.</p>\n<table>\n{rows}</table>\n"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_private_and_whole_whether_or_not_an_agent_is_there() {
        let now: Zoned = "2026-11-30T22:14[Europe/Amsterdam]".parse().expect("a time");
        let pages = Pages::open().expect("a folder");
        for path in [pages.grants(&View::Unknown, &now), pages.about(&View::Unknown, &now)] {
            let path = path.expect("written");
            let page = std::fs::read_to_string(&path).expect("it is there");
            assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "{page}");
            assert!(page.contains("Monday 22:14, 30 November 2026"), "{page}");
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(pages.0.path()).expect("the folder").permissions().mode();
            assert_eq!(mode & 0o077, 0);
        }
    }
}
