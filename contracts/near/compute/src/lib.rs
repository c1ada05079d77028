//! Nodes, vault and tasks of the deai network in one account: standing, money and tasks change atomically.
//!
//! The rules are those of `contracts/sei`, verb for verb; README.md is the reference of methods, events and
//! errors. Modules by concern:
//!
//! `vault` accounts, deposits, storage · `nodes` stake, standing, keys · `lanes` records of tasks · `tasks` post,
//! seats, ends without a result · `results` commit to approve · `settle` finalise · `judge` who wins · `slashing`
//! equivocation · `reputation` arithmetic · `token` the way to the token contract · `owner`, `upgrade` governance ·
//! `views` · `hash` what is signed · `types`, `events`, `errors`, `gas`, `storage_keys`.
use near_sdk::store::{IterableMap, Lazy, LookupMap};
use near_sdk::{env, near, AccountId, PanicOnDefault};

mod errors;
mod events;
mod gas;
mod hash;
mod judge;
mod lanes;
mod nodes;
mod owner;
mod reputation;
mod results;
mod settle;
mod slashing;
mod storage_keys;
mod tasks;
mod token;
mod types;
mod upgrade;
mod vault;
mod views;

#[cfg(test)]
mod tests;

use errors::Error;
use lanes::{LaneKey, LaneRecord};
use nodes::NodeRecord;
use owner::Governance;
use storage_keys::StorageKey;
use types::{NodeId, Parameters, MAX_AMOUNT};
use vault::AccountRecord;

/// Of the layout of the contract's own state; `migrate` raises it.
pub const STATE_VERSION: u16 = 1;
const MAX_CHAIN_ID: usize = 32;

#[near(
    contract_state,
    contract_metadata(
        standard(standard = "nep145", version = "1.0.0"),
        standard(standard = "nep297", version = "1.0.0"),
    )
)]
#[derive(PanicOnDefault)]
pub struct Compute {
    version: u16,
    token: AccountId,
    chain_id: String,
    /// Hashes of the two domains under which everything is signed.
    escrow: [u8; 32],
    registry: [u8; 32],
    parameters: Parameters,
    paused: bool,
    /// Paid to seats since the deployment, base units.
    total_rewards: u128,
    /// Slashed tokens that wait for `sweep_burns`.
    burn_due: u128,
    governance: Lazy<Governance>,
    accounts: LookupMap<AccountId, AccountRecord>,
    nodes: IterableMap<NodeId, NodeRecord>,
    lanes: LookupMap<LaneKey, LaneRecord>,
}

#[near]
impl Compute {
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
        let sums = [&p.min_stake, &p.weight_fee, &p.min_fee];
        let sound = !chain_id.is_empty()
            && chain_id.len() <= MAX_CHAIN_ID
            && sums.iter().all(|sum| 0 < sum.0 && sum.0 <= MAX_AMOUNT)
            // The bounty is at most a tenth of the fifth that the smallest sound node loses.
            && p.bounty.0 <= p.min_stake.0 / 50
            && p.epoch_seconds != 0
            && p.min_lease != 0
            // A window has two halves.
            && 2 <= p.min_window
            && p.min_window <= p.max_span
            && p.min_lease <= p.max_span
            // Stake stays slashable for longer than a task can last.
            && p.unbonding_seconds > 2 * u64::from(p.max_span)
            // Everybody can leave before other code takes over.
            && p.upgrade_delay > p.unbonding_seconds;
        if !sound {
            return Err(Error::BadData);
        }
        let contract = env::current_account_id();
        let governance = Governance::new(owner, guardian);
        let mut this = Self {
            version: STATE_VERSION,
            escrow: hash::separator("deai escrow", &chain_id, &contract),
            registry: hash::separator("deai registry", &chain_id, &contract),
            token,
            chain_id,
            parameters,
            paused: false,
            total_rewards: 0,
            burn_due: 0,
            governance: Lazy::new(StorageKey::Governance, governance),
            accounts: LookupMap::new(StorageKey::Accounts),
            nodes: IterableMap::new(StorageKey::Nodes),
            lanes: LookupMap::new(StorageKey::Lanes),
        };
        this.open_treasury();
        Ok(this)
    }
}

impl Compute {
    fn require_open(&self) -> Result<(), Error> {
        if self.paused {
            return Err(Error::Paused);
        }
        Ok(())
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

/// The key that signed this transaction, which must have been sent straight to this contract: one in between
/// could say anything in its name.
fn caller_key() -> Option<types::OperatorKey> {
    if env::predecessor_account_id() != env::signer_account_id() {
        return None;
    }
    let key = env::signer_account_pk();
    let (curve, bytes) = key.as_bytes().split_first()?;
    (*curve == 0).then(|| bytes.try_into().ok().map(types::OperatorKey)).flatten()
}

fn require_key(key: &types::OperatorKey) -> Result<(), Error> {
    if caller_key().as_ref() != Some(key) {
        return Err(Error::Forbidden(env::predecessor_account_id()));
    }
    Ok(())
}
