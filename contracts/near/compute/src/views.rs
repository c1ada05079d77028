//! What anybody may read.
use near_sdk::json_types::{Base58CryptoHash, U128};
use near_sdk::{near, AccountId, NearToken};

use crate::hash;
use crate::lanes::{Lane, LaneKey, LaneRecord};
use crate::nodes::{Node, NodeRecord};
use crate::types::{NodeId, OperatorKey, Parameters, Standing, Task, Word, MAX_SEATS};
use crate::{Compute, ComputeExt};

const MAX_PAGE: u32 = 100;

/// A node, decoded; `reputation` includes the idle weeks until now.
#[near(serializers = [json])]
pub struct NodeView {
    pub node: NodeId,
    pub owner: AccountId,
    pub operator: OperatorKey,
    pub standing: Standing,
    pub reputation: u32,
    pub epoch: u64,
    pub week: u32,
    pub checked_tasks: u8,
    pub bonded: U128,
    pub unbonding: U128,
    pub unbond_at: u64,
}

impl NodeView {
    fn of(id: &NodeId, node: &Node) -> Self {
        Self {
            node: id.clone(),
            owner: id.owner_id(),
            operator: node.operator,
            standing: node.standing,
            reputation: node.reputation_now(),
            epoch: node.epoch,
            week: node.week,
            checked_tasks: node.checked_tasks,
            bonded: U128(node.bonded),
            unbonding: U128(node.unbonding),
            unbond_at: node.unbond_at,
        }
    }
}

#[near(serializers = [json])]
pub struct AccountView {
    pub balance: U128,
    pub storage_total: NearToken,
    pub storage_available: NearToken,
}

/// A lane; the masks are of task `nonce`, `equivocated` and `committed` also once it has ended.
#[near(serializers = [json])]
pub struct LaneView {
    pub lane: u32,
    pub nonce: u32,
    pub closed: u32,
    pub committed: u16,
    pub revealed: u16,
    pub released: u16,
    pub equivocated: u16,
    pub window_lead: u32,
    pub acc: Word,
    pub accrued: U128,
    pub approvals: [u16; MAX_SEATS],
}

impl LaneView {
    fn of(number: u32, lane: &Lane) -> Self {
        Self {
            lane: number,
            nonce: lane.nonce,
            closed: lane.closed,
            committed: lane.committed(),
            revealed: lane.revealed,
            released: lane.released,
            equivocated: lane.equivocated,
            window_lead: lane.window_lead,
            acc: lane.acc,
            accrued: U128(lane.accrued),
            approvals: lane.approvals,
        }
    }
}

#[near(serializers = [json])]
pub struct UpgradeView {
    pub code_hash: Base58CryptoHash,
    pub not_before: u64,
}

#[near(serializers = [json])]
pub struct GovernanceView {
    pub version: u16,
    pub token: AccountId,
    pub chain_id: String,
    pub owner: AccountId,
    pub proposed_owner: Option<AccountId>,
    pub accept_not_before: Option<u64>,
    pub guardians: Vec<AccountId>,
    pub paused: bool,
    pub upgrade: Option<UpgradeView>,
}

#[near]
impl Compute {
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub fn governance(&self) -> GovernanceView {
        let governance = &*self.governance;
        let (proposed_owner, accept_not_before) = governance.proposed.clone().unzip();
        GovernanceView {
            version: self.version,
            token: self.token.clone(),
            chain_id: self.chain_id.clone(),
            owner: governance.owner.clone(),
            proposed_owner,
            accept_not_before,
            guardians: governance.guardians.clone(),
            paused: self.paused,
            upgrade: governance
                .upgrade
                .map(|(hash, not_before)| UpgradeView { code_hash: hash.into(), not_before }),
        }
    }

    pub fn min_stake(&self) -> U128 {
        self.parameters.min_stake
    }

    /// Paid to seats since the deployment, base units.
    pub fn total_rewards_distributed(&self) -> U128 {
        U128(self.total_rewards)
    }

    /// Base units that wait for `sweep_burns`.
    pub fn burn_due(&self) -> U128 {
        U128(self.burn_due)
    }

    pub fn get_node(&self, node: NodeId) -> Option<NodeView> {
        self.nodes.get(&node).map(|record| NodeView::of(&node, record.get()))
    }

    /// Nodes in the order of registration, at most 100.
    pub fn get_nodes(&self, from_index: Option<u32>, limit: Option<u32>) -> Vec<NodeView> {
        let (from, limit) = (from_index.unwrap_or(0), limit.unwrap_or(MAX_PAGE).min(MAX_PAGE));
        let view = |(id, record): (&NodeId, &NodeRecord)| NodeView::of(id, record.get());
        self.nodes.iter().skip(from as usize).take(limit as usize).map(view).collect()
    }

    pub fn get_account(&self, account_id: AccountId) -> Option<AccountView> {
        let account = self.accounts.get(&account_id)?.get();
        Some(AccountView {
            balance: U128(account.balance),
            storage_total: NearToken::from_yoctonear(account.deposit),
            storage_available: NearToken::from_yoctonear(account.available()),
        })
    }

    pub fn get_lane(&self, client: AccountId, lane: u32) -> LaneView {
        let record = self.lanes.get(&LaneKey(client, lane));
        LaneView::of(lane, record.map_or(&Lane::default(), LaneRecord::get))
    }

    /// Lanes of a client that were used, among at most 100 numbers from `from_lane` on.
    pub fn get_lanes(&self, client: AccountId, from_lane: Option<u32>, limit: Option<u32>) -> Vec<LaneView> {
        let from = from_lane.unwrap_or(0);
        let until = from.saturating_add(limit.unwrap_or(MAX_PAGE).min(MAX_PAGE));
        (from..until)
            .filter_map(|lane| {
                let record = self.lanes.get(&LaneKey(client.clone(), lane))?;
                Some(LaneView::of(lane, record.get()))
            })
            .collect()
    }

    /// What this contract calls a task.
    pub fn task_id(&self, task: Task) -> Word {
        hash::task(&self.escrow, &task)
    }
}
