//! Which code is tried, and which tests ought to notice.

/// A part of the code with its own tests.
#[derive(Debug)]
pub struct Area {
    /// Where its files are, from the repository's root.
    pub path: &'static str,
    /// The package whose unit tests hold it.
    pub package: &'static str,
    /// Which of them: parts of their names, those of its own module first. Those that come later are only asked when the ones
    /// before notice nothing.
    pub tests: &'static [&'static str],
    /// Whether the simulator drives it too.
    pub simulated: bool,
}

impl Area {
    /// The folder of its package, from the repository's root.
    pub fn member(&self) -> &'static str {
        self.path.split_once("/src/").map_or(self.path, |(member, _)| member)
    }
}

/// A file belongs to the first area whose path it begins with.
pub const AREAS: &[Area] = &[
    area("coordinator/scheduler/src/", "lull-scheduler", &[ALL], true),
    area("coordinator/src/dispatch/", "lull-coordinator", &["dispatch::", "server::tests", "http::tests"], true),
    area("coordinator/src/server/", "lull-coordinator", &["server::"], false),
    area("coordinator/src/term/", "lull-coordinator", &["server::", "http::tests"], false),
    area("coordinator/src/loss.rs", "lull-coordinator", &["loss::", "server::"], false),
    area("coordinator/src/presence.rs", "lull-coordinator", &["presence::", "server::"], false),
    area("coordinator/src/http/", "lull-coordinator", &["http::", "server::tests"], false),
    area("coordinator/src/fleet/claims.rs", "lull-coordinator", &["claims::", "server::tests"], false),
    area("coordinator/src/store/sqlserver/", "lull-coordinator", &["store::sqlserver"], false),
    area("coordinator/src/store/", "lull-coordinator", &["store::", "server::tests"], true),
    area("agent/session/src/guard/", "lull-session", &["guard::", NOT_GUARD], true),
    area("agent/session/src/", "lull-session", &[NOT_GUARD], true),
    area("agent/src/outbox/", "lull-agent", &["outbox::"], false),
    area("shared/mesh/src/", "lull-mesh", &[ALL], false),
    area("shared/src/work/policy.rs", "lull-shared", &[ALL], true),
    area("shared/src/", "lull-shared", &[ALL], false),
];

/// All tests of a session but those of its guard.
pub const NOT_GUARD: &str = "!guard::";

/// All tests of a package.
pub const ALL: &str = "";

const fn area(path: &'static str, package: &'static str, tests: &'static [&'static str], simulated: bool) -> Area {
    Area { path, package, tests, simulated }
}

/// The area of a file.
pub fn of(file: &str) -> Option<&'static Area> {
    AREAS.iter().find(|area| file.starts_with(area.path))
}
