//! Access tokens: what a person or program shows to the HTTP interface.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use data_encoding::HEXLOWER;
use lull_shared::{digest::Digest, identity::Secret, time::Timestamp};

use crate::store::record::{TokenRecord, TokenRole};

/// A token that was just made; its text is shown once and never kept.
pub struct Minted {
    pub text: String,
    pub fingerprint: [u8; 32],
}

/// Makes a token's text, `lull_ROLE_` and 32 random hexadecimal digits.
pub fn mint(role: TokenRole) -> Minted {
    let text = format!("lull_{}_{}", role.as_str(), HEXLOWER.encode(&Secret::random().0));
    let fingerprint = fingerprint(&text);
    Minted { text, fingerprint }
}

/// Callers that are remembered: those of an organisation's people and scripts within an hour.
const CALLERS_MAX: usize = 1_024;

/// Those whose tokens the store has confirmed, for the moments when it does not answer.
#[derive(Debug, Default)]
pub struct Callers(Mutex<BTreeMap<[u8; 32], TokenRecord>>);

impl Callers {
    /// The store has just said so.
    pub fn remember(&self, fingerprint: [u8; 32], token: TokenRecord) {
        let mut known = self.known();
        if known.len() >= CALLERS_MAX && !known.contains_key(&fingerprint) {
            known.pop_first();
        }
        known.insert(fingerprint, token);
    }

    /// Whose token this is, as far as it is remembered and has not expired.
    pub fn recall(&self, fingerprint: &[u8; 32], now: Timestamp) -> Option<TokenRecord> {
        let token = self.known().get(fingerprint).cloned();
        token.filter(|token| token.revoked.is_none() && token.expires.is_none_or(|at| at > now))
    }

    /// Some token is not valid any more: all are asked for again.
    pub fn forget(&self) {
        self.known().clear();
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<[u8; 32], TokenRecord>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the store keeps of a token's text.
pub fn fingerprint(text: &str) -> [u8; 32] {
    *Digest::of(text.trim().as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pasted_token_has_the_fingerprint_of_the_minted_one() {
        let minted = mint(TokenRole::Submitter);
        assert!(minted.text.starts_with("lull_submitter_"));
        assert_eq!(fingerprint(&format!("{}\n", minted.text)), minted.fingerprint);
        assert_ne!(mint(TokenRole::Submitter).text, minted.text);
    }

    #[test]
    fn callers_are_remembered_up_to_a_bound_while_their_tokens_are_valid() {
        let callers = Callers::default();
        let token = |expires| TokenRecord {
            token: 1,
            role: TokenRole::Viewer,
            name: "ann".into(),
            bound: Default::default(),
            uses: 0,
            uses_max: None,
            created: Timestamp(0),
            created_by: "root".into(),
            expires,
            revoked: None,
        };
        let print = |number: u32| {
            let mut print = [0; 32];
            print[..4].copy_from_slice(&number.to_be_bytes());
            print
        };
        (0..2_000).for_each(|number| callers.remember(print(number), token(None)));
        let known = (0..2_000).filter(|number| callers.recall(&print(*number), Timestamp(1)).is_some()).count();
        assert_eq!(known, CALLERS_MAX);
        callers.forget();
        callers.remember(print(1), token(Some(Timestamp(5))));
        assert!(callers.recall(&print(1), Timestamp(4)).is_some() && callers.recall(&print(1), Timestamp(5)).is_none());
    }
}
