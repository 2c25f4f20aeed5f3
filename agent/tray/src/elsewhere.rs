//! A system whose task bar nobody has taught this.

use crate::link::Whose;

pub(crate) fn run(_: Whose) -> Result<(), String> {
    Err("there is no tray icon on this system\nhint: `lull-agent status`, `pause` and `resume` do the same".into())
}
