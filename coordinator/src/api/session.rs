//! Sessions: people who signed in with a browser, by a cookie in place of a token.

use std::{fmt, str::FromStr};

use lull_shared::{amount::quoted, id::TokenId};
use serde::{Deserialize, Serialize};

use crate::store::record::TokenRole;

/// Names one session: drawn at random, so that none is taken for another under the next leader. It opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

lull_shared::readable!(SessionId, u64, |id| id.0, Self);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{:016x}", self.0)
    }
}

/// A text that names no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} does not name a session\nhint: write it as the list of sessions does, like s00c0ffee00c0ffee", quoted(.0))]
pub struct NoSession(String);

impl FromStr for SessionId {
    type Err = NoSession;

    fn from_str(text: &str) -> Result<Self, NoSession> {
        let digits = text.strip_prefix('s').filter(|digits| digits.len() == 16);
        // A sign is no digit.
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        number.map(Self).ok_or_else(|| NoSession(text.to_owned()))
    }
}

/// `POST /session`: what is exchanged for a cookie.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// An access token's text.
    pub token: String,
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignIn(..)")
    }
}

/// `GET /session`, and the answer of the request that began one: who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asker {
    pub token: TokenId,
    pub name: String,
    pub role: TokenRole,
    /// When the token is not valid any more; absent if that is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<jiff::Timestamp>,
    /// The session that the request was made in; absent if it brought the token itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
}

/// One line of `GET /sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionBody {
    pub session: SessionId,
    /// Whose it is: it refers to this token, and ends with it.
    pub token: TokenId,
    pub name: String,
    pub since: jiff::Timestamp,
    /// When a request was last made in it.
    pub used: jiff::Timestamp,
    /// The address that it was begun from, or its network where that is IPv6.
    pub from: String,
    /// It is the one that whoever asks is in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_as_it_is_written() {
        let id = SessionId(0xc0ffee);
        assert_eq!(id.to_string(), "s0000000000c0ffee");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["s1", "0000000000c0ffee", "s+000000000c0ffee", "p0000000000c0ffee", ""] {
            assert_eq!(wrong.parse::<SessionId>(), Err(NoSession(wrong.into())), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_not_shown_by_what_carries_it() {
        assert_eq!(format!("{:?}", SignIn { token: "lull_admin_00".into() }), "SignIn(..)");
    }
}
