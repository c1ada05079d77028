//! Stake, standing, keys and heartbeats of nodes.
use near_sdk::json_types::U128;
use near_sdk::{env, near, AccountId, Promise};

use crate::errors::Error;
use crate::events::Event;
use crate::judge::Verdict;
use crate::types::{NodeId, OperatorKey, Signature, Standing};
use crate::vault::RECORD_OVERHEAD;
use crate::{hash, now, reputation, require_caller, require_key, require_one_yocto, Compute, ComputeExt};

pub const WEEK_SECONDS: u64 = 7 * 24 * 3600;
/// Paid and checked tasks that end probation.
const PROBATION_TASKS: u8 = 20;
const MAX_PEER_ID: usize = 64;
const MAX_ADDRESSES: usize = 1024;
/// Bytes of version, key, standing, reputation, epoch, week, tasks, bonded, unbonding, time.
const NODE_VALUE: u64 = 1 + 32 + 1 + 4 + 8 + 4 + 1 + 16 + 16 + 8;

#[near(serializers = [borsh])]
#[derive(Clone)]
pub enum NodeRecord {
    V1(Node),
}

#[near(serializers = [borsh])]
#[derive(Clone)]
pub struct Node {
    pub operator: OperatorKey,
    pub standing: Standing,
    /// Thousandths of a point, before the idle weeks since `week`.
    pub reputation: u32,
    /// Of the last heartbeat (chain time / epoch).
    pub epoch: u64,
    /// Of the last settled seat that was checked (chain time / 7 days).
    pub week: u32,
    /// Saturates at 20.
    pub checked_tasks: u8,
    pub bonded: u128,
    pub unbonding: u128,
    pub unbond_at: u64,
}

impl NodeRecord {
    pub fn get(&self) -> &Node {
        let Self::V1(node) = self;
        node
    }

    fn get_mut(&mut self) -> &mut Node {
        let Self::V1(node) = self;
        node
    }
}

impl Node {
    pub fn reputation_now(&self) -> u32 {
        let weeks = u64::from(week()).saturating_sub(u64::from(self.week) + 1);
        reputation::idle(self.reputation, weeks)
    }

    fn is_staking(&self) -> bool {
        matches!(self.standing, Standing::Probation | Standing::Active | Standing::Jailed)
    }
}

/// What a node stores: its record, and its id in the list that `get_nodes` pages through.
pub fn node_bytes(id_len: usize) -> u64 {
    let listed = RECORD_OVERHEAD + 2 + 4 + 4 + id_len as u64;
    // Its key is a hash; beside it stands the place in the list.
    let record = RECORD_OVERHEAD + 32 + NODE_VALUE + 4;
    listed + record
}

#[near(serializers = [json])]
#[serde(deny_unknown_fields)]
pub struct Registration {
    index: u32,
    operator: OperatorKey,
    valid_until: u64,
    /// The operator's over `Operate`, so that nobody can claim somebody else's key.
    signature: Signature,
    peer_id: String,
    addresses: Vec<String>,
}

impl Compute {
    pub(crate) fn register(&mut self, owner: AccountId, stake: u128, it: Registration) -> Result<(), Error> {
        self.require_open()?;
        let minimum = self.parameters.min_stake.0;
        if stake < minimum {
            return Err(Error::StakeTooLow { stake, minimum });
        }
        let node = NodeId::new(&owner, it.index);
        if let Some(found) = self.nodes.get(&node) {
            return Err(Error::BadStanding(node, found.get().standing));
        }
        self.check_operator(&node, &it.operator, it.valid_until, &it.signature)?;
        check_contact(&it.peer_id, &it.addresses)?;
        self.charge(&owner, node_bytes(node.as_str().len()), 0)?;
        let record = Node {
            operator: it.operator,
            standing: Standing::Probation,
            reputation: reputation::START,
            epoch: self.epoch(),
            week: week(),
            checked_tasks: 0,
            bonded: stake,
            unbonding: 0,
            unbond_at: 0,
        };
        self.nodes.insert(node.clone(), NodeRecord::V1(record));
        Event::NodeRegistered {
            node: &node,
            owner: &owner,
            operator: it.operator,
            stake: U128(stake),
            peer_id: &it.peer_id,
            addresses: &it.addresses,
        }
        .emit();
        Ok(())
    }

    pub(crate) fn add_stake(&mut self, id: &NodeId, amount: u128) -> Result<(), Error> {
        let node = self.staking_node(id)?;
        node.bonded += amount;
        let bonded = U128(node.bonded);
        Event::StakeAdded { node: id, added: U128(amount), bonded }.emit();
        Ok(())
    }

    /// The operator key of a node that may take a seat now.
    pub(crate) fn assignable(&self, id: &NodeId) -> Result<OperatorKey, Error> {
        let node = self.node(id)?;
        if !matches!(node.standing, Standing::Probation | Standing::Active) {
            return Err(Error::BadStanding(id.clone(), node.standing));
        }
        if node.epoch + 1 < self.epoch() {
            return Err(Error::NoHeartbeat(id.clone(), node.epoch));
        }
        Ok(node.operator)
    }

    /// Moves reputation at the end of a task: R before and after, zeros where the record is not read. Must not
    /// fail for any stored state: a task's money waits for it.
    pub(crate) fn settle_node(&mut self, id: &NodeId, verdict: Verdict, fee: u128) -> (u32, u32) {
        let w0 = self.parameters.weight_fee.0;
        let Some(record) = self.nodes.get_mut(id) else { return (0, 0) };
        let node = record.get_mut();
        let before = node.reputation_now();
        let after = match verdict {
            Verdict::Unchecked => return (before, before),
            Verdict::Paid => reputation::paid(before, fee, w0),
            Verdict::Lost => reputation::lost(before, fee, w0),
            Verdict::Silent => reputation::silent(before),
            Verdict::None | Verdict::Forfeited | Verdict::Fault => return (0, 0),
        };
        (node.reputation, node.week) = (after, week());
        if verdict == Verdict::Paid && node.checked_tasks < PROBATION_TASKS {
            node.checked_tasks += 1;
            if node.checked_tasks == PROBATION_TASKS && node.standing == Standing::Probation {
                node.standing = Standing::Active;
                Event::NodeStatus { node: id, standing: Standing::Active }.emit();
            }
        }
        (before, after)
    }

    pub(crate) fn node(&self, id: &NodeId) -> Result<&Node, Error> {
        let found = self.nodes.get(id).map(NodeRecord::get);
        found.ok_or_else(|| Error::BadStanding(id.clone(), Standing::None))
    }

    pub(crate) fn node_mut(&mut self, id: &NodeId) -> Result<&mut Node, Error> {
        let found = self.nodes.get_mut(id).map(NodeRecord::get_mut);
        found.ok_or_else(|| Error::BadStanding(id.clone(), Standing::None))
    }

    /// Nobody operates a node that does not exist.
    fn require_operator(&self, id: &NodeId) -> Result<(), Error> {
        let nobody = || Error::Forbidden(env::predecessor_account_id());
        require_key(&self.nodes.get(id).ok_or_else(nobody)?.get().operator)
    }

    fn staking_node(&mut self, id: &NodeId) -> Result<&mut Node, Error> {
        let node = self.node_mut(id)?;
        if !node.is_staking() {
            return Err(Error::BadStanding(id.clone(), node.standing));
        }
        Ok(node)
    }

    fn check_operator(
        &self,
        node: &NodeId,
        key: &OperatorKey,
        valid_until: u64,
        signature: &Signature,
    ) -> Result<(), Error> {
        if now() > valid_until {
            return Err(Error::SignatureExpired(valid_until));
        }
        let digest = hash::operate(&self.registry, node, key, valid_until);
        if !hash::is_signed(digest, signature, key) {
            return Err(Error::BadOperator(*key));
        }
        Ok(())
    }

    fn epoch(&self) -> u64 {
        now() / self.parameters.epoch_seconds
    }
}

#[near]
impl Compute {
    /// Owner: starts unbonding what exceeds the minimum stake, or everything. A new request restarts the clock
    /// for all that is unbonding.
    #[payable]
    #[handle_result]
    pub fn request_unstake(&mut self, node: NodeId, amount: U128) -> Result<(), Error> {
        require_one_yocto()?;
        require_caller(node.owner())?;
        let minimum = self.parameters.min_stake.0;
        let unbond_at = now() + self.parameters.unbonding_seconds;
        let record = self.staking_node(&node)?;
        if amount.0 == 0 || amount.0 > record.bonded {
            return Err(Error::BadData);
        }
        let bonded = record.bonded - amount.0;
        if bonded != 0 && bonded < minimum {
            return Err(Error::StakeTooLow { stake: bonded, minimum });
        }
        record.bonded = bonded;
        record.unbonding += amount.0;
        record.unbond_at = unbond_at;
        Event::UnbondingStarted { node: &node, amount: U128(record.unbonding), unbond_at }.emit();
        if bonded == 0 {
            record.standing = Standing::Unbonding;
            Event::NodeStatus { node: &node, standing: Standing::Unbonding }.emit();
        }
        Ok(())
    }

    /// Owner: takes out everything that is unbonding, once its time is over. Slashable until this call.
    #[payable]
    #[handle_result]
    pub fn withdraw_stake(&mut self, node: NodeId, to: AccountId) -> Result<Promise, Error> {
        require_one_yocto()?;
        require_caller(node.owner())?;
        let record = self.node_mut(&node).map_err(|_| Error::BadData)?;
        if now() <= record.unbond_at {
            return Err(Error::TooEarly(record.unbond_at));
        }
        let amount = std::mem::take(&mut record.unbonding);
        if amount == 0 {
            return Err(Error::BadData);
        }
        Ok(self.send_tokens(&to, amount).then(
            Self::ext(env::current_account_id()).with_static_gas(crate::gas::CALLBACK).on_stake_withdrawn(
                node,
                to,
                U128(amount),
            ),
        ))
    }

    /// The node leaves for good only once its tokens have arrived.
    #[private]
    #[handle_result]
    pub fn on_stake_withdrawn(&mut self, node: NodeId, to: AccountId, amount: U128) -> Result<bool, Error> {
        let sent = near_sdk::is_promise_success();
        let record = self.node_mut(&node)?;
        if !sent {
            record.unbonding += amount.0;
            Event::TransferFailed { account: &node.owner_id(), to: &to, amount }.emit();
            return Ok(false);
        }
        Event::StakeWithdrawn { node: &node, to: &to, amount }.emit();
        if record.standing == Standing::Unbonding {
            record.standing = Standing::Exited;
            Event::NodeStatus { node: &node, standing: Standing::Exited }.emit();
        }
        Ok(true)
    }

    /// Owner: takes the node out of jail, into probation; needs the minimum stake.
    #[payable]
    #[handle_result]
    pub fn unjail(&mut self, node: NodeId) -> Result<(), Error> {
        require_one_yocto()?;
        require_caller(node.owner())?;
        let minimum = self.parameters.min_stake.0;
        let record = self.node_mut(&node)?;
        if record.standing != Standing::Jailed {
            return Err(Error::BadStanding(node, record.standing));
        }
        if record.bonded < minimum {
            return Err(Error::StakeTooLow { stake: record.bonded, minimum });
        }
        (record.standing, record.checked_tasks) = (Standing::Probation, 0);
        Event::NodeReleased { node: &node, standing: Standing::Probation }.emit();
        Ok(())
    }

    /// Owner: a new hot key at any time. Seats taken with the old key keep it.
    #[payable]
    #[handle_result]
    pub fn rotate_operator(
        &mut self,
        node: NodeId,
        operator: OperatorKey,
        valid_until: u64,
        signature: Signature,
    ) -> Result<(), Error> {
        require_one_yocto()?;
        require_caller(node.owner())?;
        let standing = self.node(&node)?.standing;
        if standing == Standing::Exited {
            return Err(Error::BadStanding(node, standing));
        }
        self.check_operator(&node, &operator, valid_until, &signature)?;
        self.node_mut(&node)?.operator = operator;
        Event::OperatorRotated { node: &node, operator }.emit();
        Ok(())
    }

    /// Operator: publishes where the node listens. An event only.
    #[handle_result]
    pub fn announce(&mut self, node: NodeId, peer_id: String, addresses: Vec<String>) -> Result<(), Error> {
        self.require_operator(&node)?;
        check_contact(&peer_id, &addresses)?;
        Event::NodeAnnounced { node: &node, peer_id: &peer_id, addresses: &addresses }.emit();
        Ok(())
    }

    /// Operator: once per epoch. A node without a beat in this epoch or the one before gets no seats.
    #[handle_result]
    pub fn heartbeat(&mut self, node: NodeId) -> Result<(), Error> {
        let epoch = self.epoch();
        self.require_operator(&node)?;
        let record = self.node_mut(&node)?;
        if record.epoch == epoch {
            return Err(Error::AlreadyBeaten(node, epoch));
        }
        record.epoch = epoch;
        Event::Heartbeat { node: &node, epoch }.emit();
        Ok(())
    }
}

fn week() -> u32 {
    u32::try_from(now() / WEEK_SECONDS).unwrap_or(u32::MAX)
}

fn check_contact(peer_id: &str, addresses: &[String]) -> Result<(), Error> {
    let separators = addresses.len().saturating_sub(1);
    let joined = addresses.iter().fold(separators, |sum, one| sum.saturating_add(one.len()));
    if peer_id.is_empty() || peer_id.len() > MAX_PEER_ID || joined > MAX_ADDRESSES {
        return Err(Error::BadData);
    }
    Ok(())
}
