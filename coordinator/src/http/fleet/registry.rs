//! Tokens and the audit.

use std::time::Duration;

use axum::{Json, extract::State};
use lull_shared::{
    bound,
    id::TokenId,
    identity::{Authority, JoinToken, Secret},
    name::{check_name, check_pattern, check_person},
};
use serde::Deserialize;

use crate::{
    access,
    api::{Affected, AuditBody, CreateToken, CreatedToken, Page, TokenBody, shape},
    clock,
    http::{
        Interface, Shared,
        door::{
            auth::{Admin, Asked, At, Body, Caller},
            error::{Answer, Refused},
            page::Limit,
        },
    },
    store::record::{Bound, NewToken, TokenRole},
    term::Coordinator,
};

/// A join token's life when none is asked for: long enough for a roll-out, short enough to be forgotten in a chat.
const JOIN_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The longest life that can be asked for.
const LIFE_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// A list of names for one room; whoever has more of them uses a pattern.
const BOUND_NAMES_MAX: usize = 1_000;
const AUDIT_DEFAULT: u32 = 100;

/// `GET /tokens`
pub(crate) async fn tokens(State(state): Shared, admin: Admin) -> Answer<Json<Page<TokenBody>>> {
    let tokens = state.coordinator.store.tokens().await?.into_iter();
    let tokens = tokens.map(|token| TokenBody { own: token.token == admin.token.0, ..shape::token(token) });
    Ok(Json(Page::whole(tokens.collect())))
}

/// `POST /tokens`
pub(crate) async fn create(State(state): Shared, admin: Admin, Body(wanted): Body<CreateToken>) -> Answer<Json<CreatedToken>> {
    make(&state, &admin, wanted).await.map(Json)
}

/// Makes a token for an administrator.
pub(crate) async fn make(state: &Interface, admin: &Caller, wanted: CreateToken) -> Answer<CreatedToken> {
    let coordinator = &state.coordinator;
    if let Some(name) = &wanted.name
        && let Err(why) = check_person(name)
    {
        return Err(Refused::field("name", &why.told(name, "a token's name")));
    }
    let bound = bound(&wanted)?;
    let (uses_max, life) = match wanted.role {
        TokenRole::Agent => (Some(wanted.uses_max.unwrap_or(1)), Some(JOIN_LIFE)),
        _ if wanted.uses_max.is_some() => {
            let words = "`uses_max`: only a token of the role agent counts its uses";
            return Err(Refused::invalid(words, Some("leave it out (--uses)")));
        }
        _ => (None, None),
    };
    if uses_max == Some(0) {
        let words = "`uses_max`: a token that may be used 0 times lets nobody in";
        return Err(Refused::invalid(words, Some("give 1 or more, or leave it out (--uses)")));
    }
    let life = wanted.expires_s.map(Duration::from_secs).or(life);
    if life.is_some_and(|life| life.is_zero() || life > LIFE_MAX) {
        let words = "`expires_s`: a token lives for at least a second and at most ten years";
        return Err(Refused::invalid(words, Some("give seconds, or --expires 30d on the command line")));
    }
    let at = clock::now();
    let minted = mint(wanted.role);
    let token = NewToken {
        role: wanted.role,
        name: wanted.name.clone(),
        bound,
        fingerprint: minted.fingerprint(),
        uses_max,
        expires: life.map(|life| at + life),
        by: admin.who(),
        at,
    };
    let Some(record) = coordinator.store.create_token(&coordinator.lead, token).await? else {
        let name = wanted.name.unwrap_or_default();
        let hint = "choose another name, or revoke that token: `lull token list` shows it";
        return Err(Refused::conflict(format!("another valid token is called {name}"), hint));
    };
    let text = match minted {
        Minted::Access(minted) => minted.text,
        Minted::Join(secret) => join_token(coordinator, record.token, secret).await,
    };
    Ok(CreatedToken { token: shape::token(record), text })
}

/// Whom a token is to admit, checked.
fn bound(wanted: &CreateToken) -> Answer<Bound> {
    let (names, group) = (&wanted.names, &wanted.group);
    if wanted.role != TokenRole::Agent && !(names.is_empty() && group.is_none()) {
        let words = "`names` and `group`: only a token of the role agent is for machines";
        return Err(Refused::invalid(words, Some("leave them out (--for and --group)")));
    }
    if names.len() > BOUND_NAMES_MAX {
        return Err(Refused::invalid(
            format!("`names` holds {} names, and at most {BOUND_NAMES_MAX} are taken", names.len()),
            Some("use a pattern"),
        ));
    }
    for name in names {
        if let Err(why) = check_pattern(name) {
            return Err(Refused::field("names", &why.told(name, "the name or pattern of machines")));
        }
    }
    if let Some(name) = group
        && let Err(why) = check_name(name)
    {
        return Err(Refused::field("group", &why.told(name, "a group's name")));
    }
    Ok(Bound { names: names.clone(), group: group.clone() })
}

/// Whether the caller's own token may be the one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Whose {
    own: Option<bool>,
}

/// `DELETE /tokens/{token}`
pub(crate) async fn revoke(
    State(state): Shared,
    admin: Admin,
    At(token): At<TokenId>,
    Asked(whose): Asked<Whose>,
) -> Answer<Json<Affected>> {
    let (coordinator, token) = (&state.coordinator, token.0);
    if token == admin.token.0 && whose.own != Some(true) {
        let words =
            format!("{} is the token that this request was made with, and nothing more could be asked with it", admin.who());
        return Err(Refused::conflict(
            words,
            format!("ask with another administrator's token; if it is meant, `lull token revoke --own {}`", TokenId(token)),
        ));
    }
    let known = coordinator.store.tokens().await?.into_iter().find(|known| known.token == token);
    if known.is_some_and(|known| known.revoked.is_some()) {
        return Ok(Json(Affected { affected: 0 }));
    }
    if !coordinator.store.revoke_token(&coordinator.lead, token, &admin.who(), clock::now()).await? {
        return Err(Refused::not_found(format!("there is no token t{token}"), "`lull token list` shows the tokens"));
    }
    coordinator.callers.forget();
    state.sessions.end_those_of(TokenId(token));
    Ok(Json(Affected { affected: 1 }))
}

/// How many lines.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lines {
    limit: Option<Limit<{ bound::AUDIT_SHOWN.most }>>,
}

/// `GET /audit`: who did what, newest first.
pub(crate) async fn audit(State(state): Shared, _admin: Admin, Asked(asked): Asked<Lines>) -> Answer<Json<Page<AuditBody>>> {
    Ok(Json(Page::whole(newest_lines(&state, Limit::or(asked.limit, AUDIT_DEFAULT)).await?)))
}

/// So many lines of the audit, newest first.
pub(crate) async fn newest_lines(state: &Interface, limit: u32) -> Answer<Vec<AuditBody>> {
    let lines = state.coordinator.store.audit(limit).await?;
    Ok(lines.into_iter().map(shape::audit).collect())
}

/// What is handed over; it cannot be made again.
enum Minted {
    Access(access::Minted),
    Join(Secret),
}

impl Minted {
    fn fingerprint(&self) -> [u8; 32] {
        match self {
            Self::Access(minted) => minted.fingerprint,
            Self::Join(secret) => secret.fingerprint(),
        }
    }
}

fn mint(role: TokenRole) -> Minted {
    match role {
        TokenRole::Agent => Minted::Join(Secret::random()),
        TokenRole::Viewer | TokenRole::Submitter | TokenRole::Publisher | TokenRole::Admin => Minted::Access(access::mint(role)),
    }
}

async fn join_token(coordinator: &Coordinator, token: u64, secret: Secret) -> String {
    let token = JoinToken {
        network: coordinator.network,
        authority: Authority::of(&coordinator.issuer.authority),
        coordinators: coordinator.presence.addresses().to_vec(),
        token,
        secret,
    };
    token.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_bound_to_names_and_a_group_that_machines_can_have() {
        let wanted = |role, names: &[&str], group: Option<&str>| CreateToken {
            names: names.iter().map(ToString::to_string).collect(),
            group: group.map(Into::into),
            ..CreateToken::of(role)
        };
        let taken = |role, names: &[&str], group| bound(&wanted(role, names, group)).is_ok();
        assert!(taken(TokenRole::Viewer, &[], None) && taken(TokenRole::Agent, &[], None));
        assert!(!taken(TokenRole::Viewer, &["desk"], None) && !taken(TokenRole::Admin, &[], Some("lab")));
        assert!(taken(TokenRole::Agent, &["desk-1", "lab-*", "*"], Some("lab")));
        for wrong in ["", "a1", "no/name"] {
            assert!(!taken(TokenRole::Agent, &["desk-1", wrong], None), "{wrong}");
            assert!(!taken(TokenRole::Agent, &["desk-1"], Some(wrong)), "{wrong}");
        }
        let many = vec!["desk"; BOUND_NAMES_MAX + 1];
        assert!(taken(TokenRole::Agent, &many[1..], None) && !taken(TokenRole::Agent, &many, None));
        let kept = bound(&wanted(TokenRole::Agent, &["desk"], Some("lab"))).ok();
        assert_eq!(kept, Some(Bound { names: vec!["desk".into()], group: Some("lab".into()) }));
    }
}
