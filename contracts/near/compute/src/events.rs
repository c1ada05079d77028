//! NEP-297 events, one for every change of state; they are the index.
use near_sdk::json_types::{Base58CryptoHash, U128};
use near_sdk::{near, AccountId};

use crate::types::{NodeId, OperatorKey, Seat, Signature, Standing, Task, Word};

/// One seat's outcome; reputations are 0 where the node's record was not read.
#[near(serializers = [json])]
#[derive(Clone, Debug)]
pub struct SeatSettlement {
    pub payment: U128,
    pub before: u32,
    pub after: u32,
    pub verdict: u8,
}

#[near(event_json(standard = "deai"))]
pub enum Event<'a> {
    #[event_version("1.0.0")]
    NodeRegistered {
        node: &'a NodeId,
        owner: &'a AccountId,
        operator: OperatorKey,
        stake: U128,
        peer_id: &'a str,
        addresses: &'a [String],
    },
    #[event_version("1.0.0")]
    NodeAnnounced { node: &'a NodeId, peer_id: &'a str, addresses: &'a [String] },
    #[event_version("1.0.0")]
    OperatorRotated { node: &'a NodeId, operator: OperatorKey },
    #[event_version("1.0.0")]
    StakeAdded { node: &'a NodeId, added: U128, bonded: U128 },
    #[event_version("1.0.0")]
    UnbondingStarted { node: &'a NodeId, amount: U128, unbond_at: u64 },
    #[event_version("1.0.0")]
    StakeWithdrawn { node: &'a NodeId, to: &'a AccountId, amount: U128 },
    #[event_version("1.0.0")]
    Heartbeat { node: &'a NodeId, epoch: u64 },
    /// `amount` = `bounty` + `burned`; the node is jailed and its reputation 0.
    #[event_version("1.0.0")]
    NodeSlashed { node: &'a NodeId, submitter: &'a AccountId, amount: U128, bounty: U128, burned: U128 },
    /// Its owner took the node out of jail.
    #[event_version("1.0.0")]
    NodeReleased { node: &'a NodeId, standing: Standing },
    /// Every change of standing that none of the events above tells.
    #[event_version("1.0.0")]
    NodeStatus { node: &'a NodeId, standing: Standing },
    #[event_version("1.0.0")]
    Deposited { account: &'a AccountId, payer: &'a AccountId, amount: U128 },
    #[event_version("1.0.0")]
    Withdrawn { account: &'a AccountId, to: &'a AccountId, amount: U128 },
    #[event_version("1.0.0")]
    Burned { amount: U128 },
    /// The token refused; the money is where it was.
    #[event_version("1.0.0")]
    TransferFailed { account: &'a AccountId, to: &'a AccountId, amount: U128 },
    #[event_version("1.0.0")]
    TaskPosted { task_id: Word, task: &'a Task },
    #[event_version("1.0.0")]
    TaskAssigned { task_id: Word, committee: &'a [Seat] },
    #[event_version("1.0.0")]
    SeatReassigned { task_id: Word, seat: u8, previous: &'a NodeId, released: bool, committee: &'a [Seat] },
    #[event_version("1.0.0")]
    SeatReleased { task_id: Word, seat: u8 },
    #[event_version("1.0.0")]
    ResultCommitted { task_id: Word, seat: u8, attempt: u8, value: Word },
    /// `none/1`: commit and reveal at once.
    #[event_version("1.0.0")]
    ResultDelivered {
        task_id: Word,
        node: &'a NodeId,
        output_digest: Word,
        evidence_digest: Word,
        signature: Signature,
    },
    #[event_version("1.0.0")]
    ResultRevealed { task_id: Word, seat: u8, digest: Word, salt: Word },
    #[event_version("1.0.0")]
    ResultApproved { task_id: Word, seat: u8, mask: u16, signature: Signature },
    /// fee · seats + tip of the task = payments + refunded + protocol_fee + tip of this event.
    #[event_version("1.0.0")]
    TaskFinalised {
        task_id: Word,
        result: Option<Word>,
        fault: bool,
        refunded: U128,
        protocol_fee: U128,
        finaliser: &'a AccountId,
        tip: U128,
        seats: &'a [SeatSettlement],
    },
    #[event_version("1.0.0")]
    TaskExpired { task_id: Word, refunded: U128 },
    #[event_version("1.0.0")]
    TaskCancelled { task_id: Word, refunded: U128 },
    #[event_version("1.0.0")]
    TaskObjected { task_id: Word, protocol_fee: U128, refunded: U128 },
    #[event_version("1.0.0")]
    EquivocationProven { task_id: Word, seat: u8, node: &'a NodeId, submitter: &'a AccountId },
    #[event_version("1.0.0")]
    FeesSwept { client: &'a AccountId, lane: u32, amount: U128 },
    #[event_version("1.0.0")]
    PauseSet { paused: bool },
    #[event_version("1.0.0")]
    GuardianSet { account_id: &'a AccountId, on: bool },
    #[event_version("1.0.0")]
    OwnerProposed { account_id: Option<&'a AccountId>, not_before: u64 },
    #[event_version("1.0.0")]
    OwnerChanged { account_id: &'a AccountId },
    #[event_version("1.0.0")]
    UpgradeProposed { code_hash: Base58CryptoHash, not_before: u64 },
    #[event_version("1.0.0")]
    UpgradeCancelled { code_hash: Base58CryptoHash },
    #[event_version("1.0.0")]
    Upgraded { version: u16 },
}
