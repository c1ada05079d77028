//! Payment channels of the deai network: a client's deposit for one node, paid out by vouchers of which only the
//! newest counts.
//!
//! The table is that of `deai/channels.py`, the rules are those of `contracts/sei/src/PaymentChannels.sol`, verb for
//! verb; README.md is the reference of methods, events and errors. No part of a channel pays a fee. Modules by
//! concern:
//!
//! `record` what is kept of a channel · `channels` open, top up, ends · `redeem` vouchers · `payout` tokens that
//! leave · `token` tokens that come · `storage` who pays for records · `store` where they are · `owner`, `upgrade` governance · `views` ·
//! `forms`, `types`, `decoders` arguments · `signed`, `hash` what is signed · `events`, `errors`, `gas`, `storage_keys`.
//!
//! `types`, `hash`, `owner` and `upgrade` are the files of `compute`, which knows the contract as `Compute`. They
//! are no crate of their own because compute's wasm contains the places of their lines: moving them would change
//! the bytes of a contract whose rules stay as they are.
use near_sdk::store::Lazy;
use near_sdk::{env, near, AccountId, PanicOnDefault};

mod channels;
mod decoders;
mod errors;
mod events;
mod forms;
mod gas;
#[allow(dead_code)] // what tasks sign
#[path = "../../compute/src/hash.rs"]
mod hash;
#[path = "../../compute/src/owner.rs"]
mod owner;
mod payout;
mod record;
mod redeem;
mod signed;
mod storage;
mod storage_keys;
mod store;
mod token;
#[allow(dead_code)] // what tasks are made of
#[path = "../../compute/src/types.rs"]
mod types;
#[path = "../../compute/src/upgrade.rs"]
mod upgrade;
mod views;

#[cfg(test)]
mod tests;

use self::{Channels as Compute, ChannelsExt as ComputeExt};
use errors::Error;
use owner::Governance;
use storage_keys::StorageKey;

/// Of the layout of the contract's own state; `migrate` raises it.
pub const STATE_VERSION: u16 = 1;
const MAX_CHAIN_ID: usize = 32;
const MAX_CLOSE_PERIOD: u64 = 30 * 24 * 3600;

/// Constants of a deployment, in seconds.
#[near(serializers = [borsh, json])]
#[derive(Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The challenge period: how long newer vouchers pay after the client asked for the rest.
    pub close_period: u64,
    /// Before a proposed owner may accept.
    pub owner_delay: u64,
    /// Before a proposed upgrade may be carried out; longer than the challenge period.
    pub upgrade_delay: u64,
}

#[near(
    contract_state,
    contract_metadata(
        standard(standard = "nep145", version = "1.0.0"),
        standard(standard = "nep297", version = "1.0.0"),
    )
)]
#[derive(PanicOnDefault)]
pub struct Channels {
    version: u16,
    token: AccountId,
    chain_id: String,
    /// Hash of the domain under which channels and vouchers are named and signed.
    domain: [u8; 32],
    parameters: Parameters,
    paused: bool,
    governance: Lazy<Governance>,
}

#[near]
impl Channels {
    /// `chain_id` is CAIP-2 text such as `near:mainnet`: it and this account are what signatures are bound to.
    #[init]
    #[handle_result]
    pub fn new(
        token: AccountId,
        chain_id: String,
        owner: AccountId,
        guardian: AccountId,
        parameters: Parameters,
    ) -> Result<Self, Error> {
        let p = &parameters;
        let sound = !chain_id.is_empty()
            && chain_id.len() <= MAX_CHAIN_ID
            && 0 < p.close_period
            && p.close_period <= MAX_CLOSE_PERIOD
            // Everybody can leave before other code takes over.
            && p.upgrade_delay > p.close_period;
        if !sound {
            return Err(Error::BadData);
        }
        let contract = env::current_account_id();
        Ok(Self {
            version: STATE_VERSION,
            domain: hash::separator(signed::NAME, &chain_id, &contract),
            token,
            chain_id,
            parameters,
            paused: false,
            governance: Lazy::new(StorageKey::Governance, Governance::new(owner, guardian)),
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

/// As near-sdk asks of methods that change its contract's own state.
fn require_no_deposit() {
    if env::attached_deposit().as_yoctonear() != 0 {
        env::panic_str("Method doesn't accept deposit");
    }
}

fn require_caller(account: &str) -> Result<(), Error> {
    let caller = env::predecessor_account_id();
    if caller.as_str() != account {
        return Err(Error::Forbidden(caller));
    }
    Ok(())
}
