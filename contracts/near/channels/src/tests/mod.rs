//! The contract in near-sdk's mocked VM, call by call: what refuses leaves the storage as it was, as on the chain.
mod attacks;
mod governance;
mod lifecycle;
mod payouts;
mod properties;
mod storage;
mod vectors;
mod world;

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use ed25519_dalek::{Signer, SigningKey};
use near_sdk::json_types::U128;
use near_sdk::mock::{with_mocked_blockchain, MockAction};
use near_sdk::test_utils::VMContextBuilder;
use near_sdk::{
    env, serde_json, test_vm_config, AccountId, Gas, MockedBlockchain, NearToken, PromiseResult,
    RuntimeFeesConfig,
};

use crate::errors::Error;
use crate::forms::{Channel, Redemption, Voucher};
use crate::record::{ChannelRecord, Record, State, MAX_EPOCH};
use crate::redeem::MAX_BATCH;
use crate::types::*;
use crate::views::ChannelView;
use crate::{signed, Channels, Parameters};
use world::{Sent, World};

type Storage = HashMap<Vec<u8>, Vec<u8>>;

pub const UNIT: u128 = 10u128.pow(18);
pub const DEPOSIT: u128 = 100 * UNIT;
pub const SUPPLY: u128 = 1_000_000 * UNIT;
pub const PERIOD: u64 = 6 * 3600;
pub const UPGRADE_DELAY: u64 = 7 * 24 * 3600;
pub const START: u64 = 1_800_000_000;
pub const NEAR: u128 = 10u128.pow(24);
pub const ROOT: Word = Word([6; 32]);
pub const CONTRACT: &str = "channels.near";
pub const TOKEN: &str = "token.near";
pub const CHAIN: &str = "near:test";
pub const CLIENT: &str = "client.near";
pub const OTHER: &str = "other.near";

pub fn id(name: &str) -> AccountId {
    name.parse().unwrap()
}

pub fn owner(i: usize) -> String {
    format!("provider-{i}.near")
}

pub fn node(i: usize) -> NodeId {
    NodeId::new(&id(&owner(i)), 0)
}

pub fn session(i: usize) -> SigningKey {
    SigningKey::from_bytes(&[i as u8 + 1; 32])
}

pub fn key(i: usize) -> OperatorKey {
    OperatorKey(session(i).verifying_key().to_bytes())
}

pub fn channel(client: &str, node: NodeId, session: usize) -> Channel {
    Channel { client: id(client), node, session_key: key(session) }
}

/// Of the client with node 0.
pub fn chan() -> Channel {
    channel(CLIENT, node(0), 0)
}

pub fn parameters() -> Parameters {
    Parameters { close_period: PERIOD, owner_delay: 2 * 24 * 3600, upgrade_delay: UPGRADE_DELAY }
}

/// Who sends what with, by a full-access key of its own.
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

pub fn anybody() -> Caller {
    Caller::of("stranger.near")
}

/// Reading them anew for every call would take most of the time.
static CONFIG: LazyLock<near_parameters::vm::Config> = LazyLock::new(test_vm_config);
static FEES: LazyLock<RuntimeFeesConfig> = LazyLock::new(RuntimeFeesConfig::test);
