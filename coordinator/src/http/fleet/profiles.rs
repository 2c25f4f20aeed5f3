//! Profiles: a token and where it is good, as one file that is given once.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};

use crate::{
    api::{CreateProfile, CreateToken, PROFILE_VERSION, ProfileFile, ServerAddress},
    client,
    http::{
        Interface, Shared,
        door::{
            auth::{Admin, Body},
            error::{Answer, Refused},
        },
        fleet::registry,
    },
    pin::Address,
    store::record::TokenRole,
};

/// The life of a profile's token when none is asked for: it lies in a file on somebody's disk.
const LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Addresses in one file.
const SERVERS_MAX: usize = 16;

/// What a browser keeps: a file of this name.
pub(crate) struct Given(ProfileFile);

impl IntoResponse for Given {
    fn into_response(self) -> Response {
        let name: String = self.0.name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
        let disposition = format!("attachment; filename=\"{}.lullprofile\"", if name.is_empty() { "lull" } else { &name });
        let disposition = HeaderValue::from_str(&disposition).expect("letters, digits and their like");
        ([(header::CONTENT_DISPOSITION, disposition)], Json(self.0)).into_response()
    }
}

/// `POST /profiles`
pub(crate) async fn create(State(state): Shared, admin: Admin, Body(wanted): Body<CreateProfile>) -> Answer<Given> {
    if wanted.role == TokenRole::Agent {
        return Err(Refused::invalid(
            "`role`: a profile is for people and programs, and a machine joins with a token",
            Some("write \"viewer\", \"submitter\", \"publisher\" or \"admin\"; `lull token create` makes a machine's token"),
        ));
    }
    let servers = match wanted.servers.is_empty() {
        true => known(&state).await?,
        false => given(&wanted.servers)?,
    };
    if servers.is_empty() {
        let words = "nobody can reach this coordinator from another machine: its interface listens on loopback";
        let hint = "start it with `lull server run --http 0.0.0.0:7411`, or name the address of a proxy in `servers`";
        return Err(Refused::conflict(words, hint));
    }
    let life = wanted.expires_s.unwrap_or(LIFE.as_secs());
    let token = CreateToken { name: wanted.name, expires_s: Some(life), ..CreateToken::of(wanted.role) };
    let made = registry::make(&state, &admin, token).await?;
    let expires = made.token.expires.ok_or_else(|| Refused::unavailable("the token was made without its end"))?;
    let servers = servers.into_iter().map(|Address { url, pin }| ServerAddress { url, pin }).collect();
    let file = ProfileFile {
        lull_profile: PROFILE_VERSION,
        name: made.token.name,
        role: made.token.role,
        servers,
        token: made.text,
        expires,
    };
    Ok(Given(file))
}

/// Those that share the store, the leader first, as far as other machines reach them.
async fn known(state: &Interface) -> Answer<Vec<Address>> {
    let store = &state.coordinator.store;
    let (leader, mut all) = (store.leader().await?, store.coordinators().await?);
    all.sort_by_key(|one| (leader.holder.as_deref() != Some(one.holder().as_str()), std::cmp::Reverse(one.seen)));
    let addresses = all.iter().map(|one| Address::read(&one.http)).filter(|address| !client::is_loopback(&address.url));
    Ok(addresses.take(SERVERS_MAX).collect())
}

fn given(servers: &[String]) -> Answer<Vec<Address>> {
    if servers.len() > SERVERS_MAX {
        let words = format!("`servers` holds {} addresses, and at most {SERVERS_MAX} are taken", servers.len());
        return Err(Refused::invalid(words, Some("name those that people use")));
    }
    let checked = servers.iter().enumerate().map(|(place, text)| {
        let address = Address::read(text);
        match client::url(&address.url) {
            Some(url) => Ok(Address { url, ..address }),
            None => Err(Refused::invalid(
                format!("`servers[{place}]`: this is not the address of a coordinator"),
                Some("write it like https://coordinator:7411"),
            )),
        }
    });
    checked.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_profile_are_such_and_not_many() {
        let read = |servers: &[&str]| given(&servers.iter().map(ToString::to_string).collect::<Vec<_>>()).ok();
        assert_eq!(read(&["https://North:7411/"]), Some(vec![Address::new("https://north:7411", None)]));
        assert_eq!(read(&["ftp://north"]), None);
        assert_eq!(read(&vec!["https://north"; SERVERS_MAX + 1]), None);
    }
}
