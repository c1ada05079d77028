//! A leaf of the tree, and the way from it to the root: RFC 6962 with SHA-256, leaves and nodes told apart.
use near_sdk::{env, AccountId};

use crate::hash::{bytes, digest, text, word};
use crate::types::Word;

/// Of the domain.
pub const NAME: &str = "deai rewards";

/// Keccak-256 of the type text beside it; a test hashes the text.
pub const CLAIM: (&str, [u8; 32]) = (
    "Claim(string account,uint96 cumulativeAmount)",
    bytes("ff717ed0e6984910141bc1e65487f21994b97980d305a79f516878689f3c263a"),
);

/// What an account was ever owed: binds chain and contract.
pub fn leaf(domain: &[u8; 32], account: &AccountId, cumulative: u128) -> Word {
    let mut content = [0; 33];
    content[1..].copy_from_slice(&digest(domain, &[CLAIM.1, text(account.as_str()), word(cumulative)]));
    Word(env::sha256_array(content))
}

/// A path needs no place or count: whatever leads to the root from a leaf's hash is in the tree.
pub fn root_of(leaf: Word, sides: u64, path: &[Word]) -> Word {
    path.iter().enumerate().fold(leaf, |node, (k, sibling)| {
        let (left, right) = if sides >> k & 1 == 1 { (sibling, &node) } else { (&node, sibling) };
        let mut content = [1; 65];
        content[1..33].copy_from_slice(&left.0);
        content[33..].copy_from_slice(&right.0);
        Word(env::sha256_array(content))
    })
}
