//! The contract in near-sdk's mocked VM, call by call: what refuses leaves the storage as it was, as on the chain.
mod attacks;
mod claims;
mod governance;
mod money;
mod properties;
mod roots;
mod vectors;
mod world;

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use near_sdk::json_types::{U128, U64};
use near_sdk::mock::{with_mocked_blockchain, MockAction};
use near_sdk::test_utils::VMContextBuilder;
use near_sdk::{
    env, serde_json, test_vm_config, AccountId, Gas, MockedBlockchain, NearToken, PromiseResult,
    RuntimeFeesConfig,
};

use crate::claims::record_price;
use crate::errors::Error;
use crate::roles::Role;
use crate::types::{Word, MAX_AMOUNT};
use crate::views::{ActiveView, RootsView, WaitingView};
use crate::{signed, Parameters, Rewards};
use world::{Leaf, Tree, World};

type Storage = HashMap<Vec<u8>, Vec<u8>>;

pub const SUPPLY: u128 = 1_000_000;
pub const SECONDS: u64 = 6 * 3600;
pub const DELAY: u64 = 3600;
pub const OWNER_DELAY: u64 = 2 * 24 * 3600;
/// Half an hour into an epoch.
pub const START: u64 = 1_800_000_000 / SECONDS * SECONDS + 1800;
pub const NEAR: u128 = 10u128.pow(24);
pub const STATEMENT: Word = Word([5; 32]);
pub const CONTRACT: &str = "rewards.near";
pub const TOKEN: &str = "token.near";
pub const CHAIN: &str = "near:test";
pub const PAYER: &str = "payer.near";
pub const OWNER: &str = "dao.near";
pub const PROPOSER: &str = "proposer.near";
pub const GUARDIAN: &str = "guardian.near";
pub const STRANGER: &str = "stranger.near";

pub fn id(name: &str) -> AccountId {
    name.parse().unwrap()
}

/// One of those who are owed something.
pub fn account(i: usize) -> AccountId {
    id(&format!("account-{i}.near"))
}

pub fn parameters() -> Parameters {
    Parameters { epoch_seconds: SECONDS, delay: DELAY, owner_delay: OWNER_DELAY }
}

/// Who sends what with.
#[derive(Clone)]
pub struct Caller {
    pub account: AccountId,
    pub deposit: u128,
}

impl Caller {
    pub fn of(account: &str) -> Self {
        Self { account: id(account), deposit: 0 }
    }

    pub fn with(mut self, deposit: u128) -> Self {
        self.deposit = deposit;
        self
    }
}

/// With the yocto of a full-access key.
pub fn full(account: &str) -> Caller {
    Caller::of(account).with(1)
}

/// Reading them anew for every call would take most of the time.
static CONFIG: LazyLock<near_parameters::vm::Config> = LazyLock::new(test_vm_config);
static FEES: LazyLock<RuntimeFeesConfig> = LazyLock::new(RuntimeFeesConfig::test);
