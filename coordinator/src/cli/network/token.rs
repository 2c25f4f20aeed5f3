//! `lull token`: create, list, revoke.

use std::time::Duration;

use clap::{Args, Subcommand};
use lull_shared::{alike, amount::quoted, bound, id::TokenId};

use crate::{
    api::{CreateToken, TokenBody},
    cli::{
        Context,
        exit::{Exit, Failure, Outcome},
        shown::output::{Cell, Deed, Look, Row, Tone},
        typed::amount,
    },
    store::record::TokenRole,
};

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token and print it; it is never shown again
    Create(Create),
    /// List all tokens, without their secrets
    #[command(after_help = "EXAMPLES:\n  lull token list")]
    List,
    /// Revoke a token; machines that joined with it stay
    #[command(after_help = "EXAMPLES:\n  lull token revoke ann\n  lull token revoke t3")]
    Revoke(Revoke),
}

/// `lull token create`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:\n  \
    lull token create                                   one machine may join within a week\n  \
    lull token create --uses 500 --expires 30d          for a roll-out\n  \
    lull token create --uses 40 --for 'lab-*' --group lab   for the machines of a room\n  \
    lull token create --role submitter --name ann       for a person")]
pub(crate) struct Create {
    /// What the token allows: agent (to join), viewer, submitter, publisher or admin
    #[arg(long, value_name = "ROLE", default_value = "agent", value_parser = role)]
    role: TokenRole,
    /// The person or program it is for
    #[arg(long, value_name = "NAME", value_parser = amount::person)]
    name: Option<String>,
    /// How many machines may join with it [default: 1]
    #[arg(long, value_name = "N", value_parser = bound::SOME.numbers::<u32>())]
    uses: Option<u32>,
    /// Name or pattern of the machines that may join with it, like desk-17 or 'lab-*'; may be repeated
    #[arg(long = "for", value_name = "NAME", value_parser = amount::machines)]
    names: Vec<String>,
    /// The group of these machines: their label `group`, which they cannot change
    #[arg(long, value_name = "GROUP", value_parser = amount::group_name)]
    group: Option<String>,
    /// How long the token is valid [default: 7d for the role agent, no limit for others]
    #[arg(long, value_name = "TIME", value_parser = bound::TOKEN_LIFE.times())]
    expires: Option<Duration>,
}

/// `lull token revoke`
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The token's name or its id in `lull token list`, like ann or t3
    #[arg(value_name = "TOKEN", value_parser = amount::some)]
    called: String,
    /// Revoke it even if it is the token of this command, which works no more then
    #[arg(long)]
    own: bool,
}

impl Token {
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let client = context.server.connect()?;
        match self {
            Self::Create(create) => {
                let wanted = CreateToken {
                    role: create.role,
                    name: create.name.clone(),
                    uses_max: create.uses,
                    expires_s: create.expires.map(|life| life.as_secs()),
                    names: create.names.clone(),
                    group: create.group.clone(),
                };
                let created = client.create_token(&wanted).await?;
                context.out.one(&created, &created.token.id(), |_| format!("{}\n", created.text))?;
                context.out.note(match created.token.role {
                    TokenRole::Agent => {
                        "on the machine: lull-agent join --token-file FILE, with it in that file, or - to paste it".to_owned()
                    }
                    _ => format!(
                        "whoever has it: lull login {} --token-file FILE, with it in that file, or - to paste it",
                        client.base()
                    ),
                });
            }
            Self::List => context.out.list(&client.tokens().await?.items)?,
            Self::Revoke(revoke) => {
                // An id and a name may look alike: what is meant is said first, and done by its number.
                let tokens = client.tokens().await?.items;
                let Some(meant) = choose(&tokens, &revoke.called) else {
                    let words = format!("there is no token {}", quoted(&revoke.called));
                    let meant = alike::question(&revoke.called, tokens.iter().map(|token| token.name.as_str()));
                    return Err(Failure::new(Exit::NotFound, words).hint(format!("{meant}`lull token list` shows the tokens")));
                };
                let called = format!("{} ({})", meant.id(), meant.name);
                context.out.note(format!("{} is {}, {} token", meant.id(), meant.name, with_article(meant.role)));
                let affected = client.revoke_token(meant.token, revoke.own).await?.affected;
                let words = match affected {
                    0 => format!("{called} was revoked already"),
                    _ => format!("{called} is worthless now"),
                };
                let deed = Deed { name: Some(meant.name.clone()), ..Deed::new("revoked", meant.id()).affecting(affected) };
                context.out.done(&deed, words)?;
            }
        }
        Ok(Exit::Succeeded)
    }
}

/// The token with this number, else the valid one with this name, else the last that had it.
fn choose<'a>(tokens: &'a [TokenBody], called: &str) -> Option<&'a TokenBody> {
    let number = called.parse::<TokenId>().ok();
    let by_number = tokens.iter().find(|token| Some(token.token) == number);
    let mut named = tokens.iter().rev().filter(|token| token.name.eq_ignore_ascii_case(called));
    by_number.or_else(|| named.clone().find(|token| token.revoked.is_none())).or_else(|| named.next())
}

fn with_article(role: TokenRole) -> String {
    let article = if matches!(role, TokenRole::Agent | TokenRole::Admin) { "an" } else { "a" };
    format!("{article} {}", role.as_str())
}

impl Row for TokenBody {
    const NAME: &'static str = "tokens";
    const HEADINGS: &'static [&'static str] = &["TOKEN", "ROLE", "NAME", "USES", "FOR", "STATE", "EXPIRES", "CREATED", "BY"];

    fn id(&self) -> String {
        self.token.to_string()
    }

    fn cells(&self, look: &Look) -> Vec<Cell> {
        let uses = match (self.role, self.uses_max) {
            (TokenRole::Agent, Some(max)) => format!("{}/{max}", self.uses),
            (TokenRole::Agent, None) => self.uses.to_string(),
            (_, _) => "-".into(),
        };
        let state = match (self.revoked, self.expires, self.uses_max) {
            (Some(_), _, _) => Cell::toned("revoked", Tone::Odd),
            (None, Some(at), _) if at <= jiff::Timestamp::now() => Cell::toned("expired", Tone::Odd),
            (None, _, Some(max)) if self.uses >= max => Cell::toned("used up", Tone::Odd),
            (None, _, _) => Cell::toned("valid", Tone::Good),
        };
        vec![
            self.id().into(),
            self.role.as_str().into(),
            self.name.as_str().into(),
            uses.into(),
            Cell::or_dash(bound(self)),
            state,
            look.time_or_dash(self.expires),
            look.time(self.created).into(),
            self.created_by.as_str().into(),
        ]
    }
}

/// Whom it admits, and into which group.
fn bound(token: &TokenBody) -> Option<String> {
    let names = (!token.names.is_empty()).then(|| token.names.join(","));
    let group = token.group.as_ref().map(|group| format!("group {group}"));
    let parts: Vec<String> = names.into_iter().chain(group).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

pub(crate) fn role(text: &str) -> Result<TokenRole, String> {
    let known = ["agent", "viewer", "submitter", "publisher", "admin"];
    let no = || format!("{} is not a role\nhint: {}write {}", quoted(text), alike::question(text, known), alike::or(&known));
    TokenRole::from_word(text).ok_or_else(no)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::shown::output::tests::{check_fits, worst_name};

    fn token(token: u64, name: &str, revoked: bool) -> TokenBody {
        TokenBody {
            token: TokenId(token),
            role: TokenRole::Viewer,
            name: name.into(),
            names: Vec::new(),
            group: None,
            uses: 0,
            uses_max: None,
            created: jiff::Timestamp::UNIX_EPOCH,
            created_by: "root".into(),
            expires: None,
            revoked: revoked.then_some(jiff::Timestamp::UNIX_EPOCH),
            own: false,
        }
    }

    #[test]
    fn at_every_width_tokens_are_told_apart() {
        let join = |number| TokenBody {
            role: TokenRole::Agent,
            names: vec!["lab-*".into(), worst_name(number)],
            uses: 1_000,
            uses_max: Some(10_000),
            expires: Some("2036-11-24T05:00:00Z".parse().expect("a moment")),
            created_by: worst_name(7),
            ..token(number, &worst_name(number), false)
        };
        let tokens = [join(10_001), TokenBody { role: TokenRole::Submitter, ..token(10_002, "ann", true) }];
        check_fits(&tokens, "STATE", &["valid", "revoked"]);
    }

    #[test]
    fn a_token_is_listed_as_it_is_called_elsewhere() {
        assert_eq!((token(5, "ann", false).id(), token(5, "ann", false).id().parse()), ("t5".into(), Ok(TokenId(5))));
    }

    #[test]
    fn a_token_is_found_by_its_number_before_any_name_and_the_valid_one_of_a_name() {
        let tokens =
            [token(1, "ann", false), token(2, "ann", true), token(3, "t1", false), token(4, "bob", true), token(5, "bob", true)];
        let chosen = |called| choose(&tokens, called).map(|token| token.token.0);
        assert_eq!((chosen("t1"), chosen("1"), chosen("t3")), (Some(1), Some(1), Some(3)));
        assert_eq!((chosen("ann"), chosen("ANN"), chosen("bob")), (Some(1), Some(1), Some(5)));
        assert_eq!((chosen("t9"), chosen("carl")), (None, None));
    }
}
