//! The contract in near-sdk's mocked VM, call by call: what refuses leaves the storage as it was, as on the chain.
mod arithmetic;
mod attacks;
mod equivocation;
mod governance;
mod judgement;
mod money;
mod nodes;
mod play;
mod posting;
mod properties;
mod seats;
mod vectors;
mod wasm;
mod world;

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex};

use ed25519_dalek::{Signer, SigningKey};
use near_sdk::json_types::U128;
use near_sdk::mock::{with_mocked_blockchain, MockAction};
use near_sdk::test_utils::VMContextBuilder;
use near_sdk::{
    env, serde_json, test_vm_config, AccountId, CurveType, Gas, MockedBlockchain, NearToken, PromiseResult,
    PublicKey, RuntimeFeesConfig,
};

use crate::errors::Error;
use crate::hash::{self, Signing};
use crate::lanes::LaneKey;
use crate::types::*;
use crate::views::{LaneView, NodeView};
use crate::Compute;
use play::Play;
use world::{Sent, World};

/// What is wrong with a document, and how to make it so.
pub type Change<T> = (&'static str, Box<dyn Fn(&mut T)>);
type Storage = HashMap<Vec<u8>, Vec<u8>>;

pub const UNIT: u128 = 10u128.pow(18);
pub const STAKE: u128 = 100 * UNIT;
pub const FEE: u128 = 3 * UNIT;
pub const TIP: u128 = UNIT / 10;
pub const LEASE: u32 = 300;
pub const SPAN: u64 = 1000;
pub const WINDOW: u32 = 1000;
pub const EPOCH: u64 = 6 * 3600;
pub const UNBONDING: u64 = 7 * 24 * 3600;
pub const START: u64 = 1_800_000_000;
pub const NEAR: u128 = 10u128.pow(24);
pub const DIGEST: Word = Word([6; 32]);
pub const OTHER: Word = Word([7; 32]);
pub const EVIDENCE: Word = Word([8; 32]);

pub fn id(name: &str) -> AccountId {
    name.parse().unwrap()
}

pub fn owner(i: usize) -> AccountId {
    id(&format!("provider-{i}.near"))
}

pub fn key(i: usize) -> SigningKey {
    SigningKey::from_bytes(&[i as u8 + 1; 32])
}

pub fn operator(i: usize) -> OperatorKey {
    OperatorKey(key(i).verifying_key().to_bytes())
}

pub fn node(i: usize) -> NodeId {
    NodeId::new(&owner(i), 0)
}

pub fn sign(key: &SigningKey, digest: [u8; 32]) -> Signature {
    Signature(key.sign(&digest).to_bytes())
}

pub fn parameters() -> Parameters {
    Parameters {
        treasury: id("treasury.near"),
        min_stake: U128(STAKE),
        weight_fee: U128(UNIT / 100),
        epoch_seconds: EPOCH,
        unbonding_seconds: UNBONDING,
        bounty: U128(UNIT / 10),
        min_fee: U128(1000),
        min_lease: 10,
        min_window: 600,
        max_span: 24 * 3600,
        owner_delay: 2 * 24 * 3600,
        upgrade_delay: UNBONDING + 1,
    }
}

/// Who sends what with.
#[derive(Clone)]
pub struct Caller {
    pub account: AccountId,
    pub signer: AccountId,
    pub key: [u8; 32],
    pub deposit: u128,
}

impl Caller {
    /// With a full-access key of its own.
    pub fn of(account: &str) -> Self {
        Self { account: id(account), signer: id(account), key: [0xEE; 32], deposit: 0 }
    }

    pub fn with(mut self, deposit: u128) -> Self {
        self.deposit = deposit;
        self
    }
}

pub fn client() -> Caller {
    Caller::of("client.near").with(1)
}

pub fn anybody() -> Caller {
    Caller::of("stranger.near")
}

pub fn owns(i: usize) -> Caller {
    Caller::of(owner(i).as_str()).with(1)
}

/// A node's hot key on its owner's account.
pub fn operates(i: usize) -> Caller {
    Caller { account: owner(i), signer: owner(i), key: operator(i).0, deposit: 0 }
}

/// Reading them anew for every call would take most of the time.
static CONFIG: LazyLock<near_parameters::vm::Config> = LazyLock::new(test_vm_config);
static FEES: LazyLock<RuntimeFeesConfig> = LazyLock::new(RuntimeFeesConfig::test);

pub const CONTRACT: &str = "compute.near";
pub const TOKEN: &str = "token.near";
pub const CHAIN: &str = "near:test";

fn verdicts(world: &World) -> Vec<u64> {
    let seats = world.event("task_finalised")["seats"].clone();
    seats.as_array().unwrap().iter().map(|seat| seat["verdict"].as_u64().unwrap()).collect()
}

fn sum(value: &serde_json::Value) -> u128 {
    value.as_str().unwrap().parse().unwrap()
}

fn paid(r: u32) -> u128 {
    crate::reputation::payment(FEE, r)
}
