//! Rewards of the deai network: one Merkle root per epoch over what every account was ever owed; accounts claim what
//! they have not had.
//!
//! The record is that of `deai/claims.py`, the rules are those of `contracts/sei/src/RewardDistributor.sol`, verb for
//! verb; README.md is the reference of methods, events and errors. A root's total is never more than what came in, and
//! no more than a root's total is ever paid, so a wrong root can misplace money between accounts but promise none that
//! is not here; the guardian has the delay to notice. Tokens leave to the account of a leaf only. There is no pause and
//! no way to change the code: delete the account's keys after deployment. Modules by concern:
//!
//! `book` the roots and what was paid · `roots` proposing and cancelling them · `claims` what accounts take ·
//! `token` tokens that come · `roles` who may propose and cancel · `views` · `signed`, `hash` leaves · `events`,
//! `errors`, `gas`, `storage_keys`, `store`, `types`.
//!
//! `types` and `hash` are the files of `compute`, `store` is the file of `channels`.
use near_sdk::store::Lazy;
use near_sdk::{env, near, AccountId, PanicOnDefault};

mod book;
mod claims;
mod errors;
mod events;
mod gas;
#[allow(dead_code)] // what tasks sign
#[path = "../../compute/src/hash.rs"]
mod hash;
mod roles;
mod roots;
mod signed;
mod storage_keys;
#[allow(dead_code)] // nothing is removed here
#[path = "../../channels/src/store.rs"]
mod store;
mod token;
#[allow(dead_code)] // what tasks are made of
#[path = "../../compute/src/types.rs"]
mod types;
mod views;

#[cfg(test)]
mod tests;

use book::Book;
use errors::Error;
use roles::Roles;
use storage_keys::StorageKey;

const MAX_CHAIN_ID: usize = 32;
const MAX_DELAY: u64 = 30 * 24 * 3600;

/// Constants of a deployment, in seconds.
#[near(serializers = [borsh, json])]
#[derive(Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Of an epoch, as `compute` counts them.
    pub epoch_seconds: u64,
    /// In which a guardian may cancel a root.
    pub delay: u64,
    /// Before a proposed owner may accept.
    pub owner_delay: u64,
}

#[near(contract_state, contract_metadata(standard(standard = "nep297", version = "1.0.0")))]
#[derive(PanicOnDefault)]
pub struct Rewards {
    version: u16,
    token: AccountId,
    chain_id: String,
    /// Hash of the domain to which leaves are bound.
    domain: [u8; 32],
    parameters: Parameters,
    book: Book,
    roles: Lazy<Roles>,
}

#[near]
impl Rewards {
    /// `chain_id` is CAIP-2 text such as `near:mainnet`: it and this account are what leaves are bound to.
    #[init]
    #[handle_result]
    pub fn new(
        token: AccountId,
        chain_id: String,
        owner: AccountId,
        proposer: AccountId,
        guardian: AccountId,
        parameters: Parameters,
    ) -> Result<Self, Error> {
        let p = &parameters;
        let sound = !chain_id.is_empty()
            && chain_id.len() <= MAX_CHAIN_ID
            && 0 < p.epoch_seconds
            && 0 < p.delay
            && p.delay <= MAX_DELAY;
        if !sound {
            return Err(Error::BadData);
        }
        Ok(Self {
            version: 1,
            domain: hash::separator(signed::NAME, &chain_id, &env::current_account_id()),
            token,
            chain_id,
            parameters,
            book: Book::default(),
            roles: Lazy::new(StorageKey::Roles, Roles::new(owner, proposer, guardian)),
        })
    }
}

/// Chain time in seconds.
fn now() -> u64 {
    env::block_timestamp() / 1_000_000_000
}

/// Whose access key signed is what a deposit proves: only a full-access key can attach one.
fn require_one_yocto() -> Result<(), Error> {
    let attached = env::attached_deposit();
    if attached.as_yoctonear() != 1 {
        return Err(Error::OneYocto(attached));
    }
    Ok(())
}

fn require_caller(account: &str) -> Result<(), Error> {
    let caller = env::predecessor_account_id();
    if caller.as_str() != account {
        return Err(Error::Forbidden(caller));
    }
    Ok(())
}
