//! What the session remarks, as the log says it.

use lull_session::Remark;

/// Writes it into the log.
pub(super) fn log(remark: Remark) {
    match remark {
        Remark::BeginsAnew { attempt, reason } => {
            tracing::warn!(%attempt, reason, "a snapshot cannot be used; the attempt begins again");
        }
        Remark::Trouble(trouble) => tracing::warn!(%trouble, "nothing new is begun until this works again"),
        Remark::Works(part) => tracing::info!(?part, "it works again"),
        Remark::PolicyRefused(reason) => tracing::debug!(%reason, "a policy is not taken"),
    }
}
