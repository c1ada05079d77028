//! Lanes: the record that is reused for every task of its number, and how a call finds the task it names.
//!
//! A lane keeps the hash of the present committee, never the task: tasks travel in arguments and events. Evidence
//! is accepted until the lane is used again, so the hash stays.
use near_sdk::json_types::U128;
use near_sdk::{near, AccountId};

use crate::errors::Error;
use crate::events::Event;
use crate::hash::{self, Chain};
use crate::types::{Seat, Task, Word, MAX_SEATS};
use crate::vault::RECORD_OVERHEAD;
use crate::{now, require_caller, Compute, ComputeExt};

const MAX_SWEPT_LANES: usize = 64;
/// Bytes of version, key, acc, three numbers, three masks, an amount, approvals.
const LANE_VALUE: u64 = 1 + 32 + 32 + 3 * 4 + 3 * 2 + 16 + 2 * MAX_SEATS as u64;

#[near(serializers = [borsh])]
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneKey(pub AccountId, pub u32);

#[near(serializers = [borsh])]
#[derive(Clone)]
pub enum LaneRecord {
    V1(Lane),
}

/// The fixed record of a lane; `revealed`, `released` and what a task left behind are cleared by the next post.
#[near(serializers = [borsh])]
#[derive(Clone, Default)]
pub struct Lane {
    /// hash(task id, committee).
    pub key: Word,
    /// See `hash::Chain`; zero before the first commit.
    pub acc: Word,
    /// Nonce of the last task posted.
    pub nonce: u32,
    /// Nonce of the last task that ended: the lane is busy while `nonce = closed + 1`.
    pub closed: u32,
    /// Seconds before the commit deadline at which the last seat committed.
    pub window_lead: u32,
    pub revealed: u16,
    pub released: u16,
    pub equivocated: u16,
    /// Protocol fees and forfeits, base units, that wait for `sweep`.
    pub accrued: u128,
    /// By seat, 0 where none was given.
    pub approvals: [u16; MAX_SEATS],
}

impl LaneRecord {
    pub fn get(&self) -> &Lane {
        let Self::V1(lane) = self;
        lane
    }
}

pub fn lane_bytes(client: &AccountId) -> u64 {
    RECORD_OVERHEAD + 1 + 4 + client.len() as u64 + 4 + LANE_VALUE
}

impl Lane {
    pub fn is_busy(&self) -> bool {
        self.nonce != self.closed
    }

    pub fn committed(&self) -> u16 {
        Chain::read(&self.acc).seats
    }

    pub fn close(&mut self, protocol_fee: u128) {
        self.accrued += protocol_fee;
        (self.closed, self.revealed, self.released) = (self.nonce, 0, 0);
    }

    pub fn window_start(&self, task: &Task) -> u64 {
        task.commit_deadline - u64::from(self.window_lead)
    }

    /// Start of the window; refuses before it. Nobody may open a task that still accepts commits: the seats that
    /// are slower would lose their turn.
    pub fn require_window(&self, task: &Task) -> Result<u64, Error> {
        let start = self.window_start(task);
        if self.committed() != task.all_seats() && now() <= start {
            return Err(Error::TooEarly(start));
        }
        Ok(start)
    }

    /// The last commit opens the window.
    pub fn set_commitments(&mut self, task: &Task, chain: &Chain) {
        self.acc = chain.acc();
        if chain.seats == task.all_seats() {
            // At most `max_span`, which is 32 bits wide.
            self.window_lead = (task.commit_deadline - now()) as u32;
        }
    }
}

/// An open lane together with the id of its task.
pub struct Found {
    pub id: Word,
    pub lane: Lane,
}

impl Compute {
    /// The committee is the one that the lane knows; the task may have ended.
    pub(crate) fn matching(&self, task: &Task, committee: &[Seat]) -> Result<Found, Error> {
        let id = hash::task(&self.escrow, task);
        let record = self.lanes.get(&LaneKey(task.client.clone(), task.lane));
        let lane = record.ok_or(Error::NotOpen)?.get().clone();
        if lane.key != hash::committee(&id, committee) {
            return Err(Error::NotOpen);
        }
        Ok(Found { id, lane })
    }

    pub(crate) fn open(&self, task: &Task, committee: &[Seat]) -> Result<Found, Error> {
        let found = self.matching(task, committee)?;
        if !found.lane.is_busy() {
            return Err(Error::NotOpen);
        }
        Ok(found)
    }

    pub(crate) fn save(&mut self, task: &Task, lane: Lane) {
        self.lanes.insert(LaneKey(task.client.clone(), task.lane), LaneRecord::V1(lane));
    }

    pub(crate) fn pending(&self, task: &Task) -> Result<Found, Error> {
        require_caller(task.client.as_str())?;
        self.open(task, &[])
    }

    pub(crate) fn committing(&self, task: &Task, committee: &[Seat]) -> Result<(Found, Chain), Error> {
        let found = self.matching(task, committee)?;
        if now() > task.commit_deadline {
            return Err(Error::TooLate(task.commit_deadline));
        }
        let none_yet = found.lane.acc.is_zero();
        let chain = if none_yet { Chain::new(task.nonce) } else { Chain::read(&found.lane.acc) };
        Ok((found, chain))
    }
}

#[near]
impl Compute {
    /// Anybody: sends what accrued in lanes of a client to the treasury's account.
    #[handle_result]
    pub fn sweep(&mut self, client: AccountId, lanes: Vec<u32>) -> Result<(), Error> {
        if lanes.len() > MAX_SWEPT_LANES {
            return Err(Error::BadData);
        }
        let mut total = 0;
        for lane in lanes {
            let Some(LaneRecord::V1(record)) = self.lanes.get_mut(&LaneKey(client.clone(), lane)) else {
                continue;
            };
            let amount = std::mem::take(&mut record.accrued);
            if amount != 0 {
                total += amount;
                Event::FeesSwept { client: &client, lane, amount: U128(amount) }.emit();
            }
        }
        let treasury = self.parameters.treasury.clone();
        self.credit(&treasury, total)
    }
}
