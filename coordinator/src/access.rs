//! Access tokens: what a person or program shows to the HTTP interface.

use data_encoding::HEXLOWER;
use lull_shared::{digest::Digest, identity::Secret};

use crate::store::record::TokenRole;

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
}
