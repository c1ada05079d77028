//! Lane T0: an escrowed task from `submit_task` to its openings. Whoever acts does so while now ≤ deadline; the
//! next phase begins with a later block. `settle` pays.
//!
//! A lane is reused for every task of its number. It keeps the hash of the present committee, never the task:
//! tasks travel in arguments and events. Evidence is accepted until the lane is used again, so the hash stays.
//! Longer than other modules because the verbs share their checks.
use near_sdk::json_types::U128;
use near_sdk::{env, near, AccountId};

use crate::errors::Error;
use crate::events::Event;
use crate::hash::{self, Chain, Signing};
use crate::judge::Tally;
use crate::types::{
    Accept, Approval, Commitment, Opening, Seat, Signature, SignedResult, Task, Word, MAX_AMOUNT, MAX_SEATS,
};
use crate::vault::{refund, RECORD_OVERHEAD};
use crate::{now, require_caller, require_key, require_one_yocto, Compute, ComputeExt};

const MAX_ATTEMPT: u8 = 3;
pub const FULL_MASK: u16 = (1 << MAX_SEATS) - 1;
/// Bytes of version, key, acc, three numbers, three masks, an amount, approvals.
const LANE_VALUE: u64 = 1 + 32 + 32 + 3 * 4 + 3 * 2 + 16 + 2 * MAX_SEATS as u64;
const MAX_SWEPT_LANES: usize = 64;

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

    fn window_start(&self, task: &Task) -> u64 {
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
    fn set_commitments(&mut self, task: &Task, chain: &Chain) {
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

    fn pending(&self, task: &Task) -> Result<Found, Error> {
        require_caller(task.client.as_str())?;
        self.open(task, &[])
    }

    fn committing(&self, task: &Task, committee: &[Seat]) -> Result<(Found, Chain), Error> {
        let found = self.matching(task, committee)?;
        if now() > task.commit_deadline {
            return Err(Error::TooLate(task.commit_deadline));
        }
        let none_yet = found.lane.acc.is_zero();
        let chain = if none_yet { Chain::new(task.nonce) } else { Chain::read(&found.lane.acc) };
        Ok((found, chain))
    }

    fn post(&mut self, task: &Task) -> Result<Found, Error> {
        self.require_open()?;
        require_caller(task.client.as_str())?;
        let key = LaneKey(task.client.clone(), task.lane);
        let known = self.lanes.get(&key).map(|record| record.get().clone());
        let is_new = known.is_none();
        let lane = known.unwrap_or_default();
        if lane.is_busy() {
            return Err(Error::LaneBusy);
        }
        let next = lane.closed.checked_add(1).ok_or(Error::NotOpen)?;
        if task.nonce != next {
            return Err(Error::BadNonce(next));
        }
        self.check_task(task)?;
        self.debit(&task.client, task.escrowed())?;
        let attached = env::attached_deposit().as_yoctonear();
        let bytes = if is_new { lane_bytes(&task.client) } else { 0 };
        let kept = self.charge(&task.client, bytes, attached)?;
        if kept == 0 {
            // The yocto that shows a full-access key stays as a deposit: sending it back would cost more.
            self.account_mut(&task.client)?.deposit += 1;
        }
        refund(&task.client, attached - kept.max(1));
        let id = hash::task(&self.escrow, task);
        let lane = Lane {
            key: hash::committee(&id, &[]),
            nonce: task.nonce,
            closed: lane.closed,
            accrued: lane.accrued,
            ..Lane::default()
        };
        Event::TaskPosted { task_id: id, task }.emit();
        Ok(Found { id, lane })
    }

    fn check_task(&self, task: &Task) -> Result<(), Error> {
        let p = &self.parameters;
        let seats = if task.is_unchecked() {
            task.seats == 1
        } else {
            (3..=15).contains(&task.seats) && task.seats % 2 == 1
        };
        let earliest = now() + u64::from(task.lease);
        let latest = now() + u64::from(p.max_span);
        let sound = seats
            && (p.min_fee.0..=MAX_AMOUNT).contains(&task.fee.0)
            && task.tip.0 <= MAX_AMOUNT
            && task.lease >= p.min_lease
            && (p.min_window..=p.max_span).contains(&task.window)
            && earliest <= task.commit_deadline
            && task.commit_deadline <= latest;
        if !sound {
            return Err(Error::BadTask);
        }
        Ok(())
    }

    /// Seats the first committee.
    fn seat(&self, found: &mut Found, task: &Task, accepts: &[Accept]) -> Result<(), Error> {
        if accepts.len() != usize::from(task.seats) {
            return Err(Error::BadSeat(accepts.len()));
        }
        let lease_end = lease_from(task)?;
        for (i, accept) in accepts.iter().enumerate() {
            let owner = accept.node.owner();
            if accepts[..i].iter().any(|other| other.node.owner() == owner) {
                return Err(Error::OwnerTwice(accept.node.owner_id()));
            }
        }
        let operators: Result<Vec<_>, Error> =
            accepts.iter().map(|accept| self.assignable(&accept.node)).collect();
        let mut committee = Vec::with_capacity(accepts.len());
        for ((i, accept), operator) in accepts.iter().enumerate().zip(operators?) {
            let seat = Seat { node: accept.node.clone(), operator, lease_end, attempt: 0 };
            self.check_accept(&found.id, i, &seat, accept)?;
            committee.push(seat);
        }
        found.lane.key = hash::committee(&found.id, &committee);
        Event::TaskAssigned { task_id: found.id, committee: &committee }.emit();
        Ok(())
    }

    /// Rebuilds the chain of commitments, so that none can be dropped, added or changed.
    pub(crate) fn open_all(
        &self,
        found: &Found,
        task: &Task,
        committee: &[Seat],
        openings: &[Opening],
    ) -> Result<Tally, Error> {
        let mut tally = Tally::new(found.id, usize::from(task.seats));
        let mut chain = Chain::new(task.nonce);
        for opening in openings {
            let index = usize::from(opening.seat);
            let seat = committee.get(index).ok_or(Error::BadSeat(index))?;
            let mut value = opening.salt;
            if !opening.digest.is_zero() {
                value = if task.is_unchecked() {
                    opening.digest
                } else {
                    hash::commitment(&found.id, index, seat, &opening.digest, &opening.salt)
                };
                tally.digests[index] = opening.digest;
                tally.opened |= 1 << index;
            }
            chain.push(index, &value);
        }
        // Equal chains have equal seats in equal order, and `commit` let no seat in twice.
        if openings.is_empty() || chain.acc() != found.lane.acc {
            return Err(Error::BadOpening);
        }
        tally.committed = chain.seats;
        Ok(tally)
    }

    fn signing<'a>(&'a self, id: &'a Word, index: usize, seat: &Seat) -> Signing<'a> {
        Signing { separator: &self.escrow, id, seat: index, attempt: seat.attempt }
    }

    fn check_accept(&self, id: &Word, index: usize, seat: &Seat, accept: &Accept) -> Result<(), Error> {
        if now() > accept.valid_until {
            return Err(Error::AcceptExpired(accept.valid_until));
        }
        let digest = self.signing(id, index, seat).accept(&accept.node, accept.valid_until);
        check(digest, &accept.signature, seat, index)
    }

    pub(crate) fn check_result(
        &self,
        id: &Word,
        index: usize,
        seat: &Seat,
        result: &SignedResult,
    ) -> Result<(), Error> {
        let signing = self.signing(id, index, seat);
        let digest = signing.result(&result.output_digest, &result.evidence_digest);
        check(digest, &result.signature, seat, index)
    }

    pub(crate) fn check_approval(
        &self,
        found: &Found,
        committee: &[Seat],
        approval: &Approval,
    ) -> Result<(), Error> {
        let index = usize::from(approval.seat);
        let seat = committee.get(index).ok_or(Error::BadSeat(index))?;
        let digest = self.signing(&found.id, index, seat).approval(&found.lane.acc, approval.mask);
        check(digest, &approval.signature, seat, index)
    }
}

/// The seat's key signed `digest`.
fn check(digest: [u8; 32], signature: &Signature, seat: &Seat, index: usize) -> Result<(), Error> {
    if !hash::is_signed(digest, signature, &seat.operator) {
        return Err(Error::BadSignature(index));
    }
    Ok(())
}

fn lease_from(task: &Task) -> Result<u64, Error> {
    let end = now() + u64::from(task.lease);
    if end > task.commit_deadline {
        return Err(Error::TooLate(task.commit_deadline));
    }
    Ok(end)
}

#[near]
impl Compute {
    /// Client: moves fee · seats + tip from its account into escrow and, with accepts, seats the committee. Pays
    /// for a new lane's storage; returns what of the deposit that does not need.
    #[payable]
    #[handle_result]
    pub fn submit_task(&mut self, task: Task, accepts: Option<Vec<Accept>>) -> Result<Word, Error> {
        let attached = env::attached_deposit();
        if attached.is_zero() {
            return Err(Error::OneYocto(attached));
        }
        let mut found = self.post(&task)?;
        if let Some(accepts) = accepts {
            self.seat(&mut found, &task, &accepts)?;
        }
        self.save(&task, found.lane);
        Ok(found.id)
    }

    /// Client: seats the committee, one accept per seat, attempt 0. Leases run from this block's time.
    #[payable]
    #[handle_result]
    pub fn assign(&mut self, task: Task, accepts: Vec<Accept>) -> Result<(), Error> {
        require_one_yocto()?;
        self.require_open()?;
        let mut found = self.pending(&task)?;
        self.seat(&mut found, &task, &accepts)?;
        self.save(&task, found.lane);
        Ok(())
    }

    /// Client: takes everything back while no seat has been assigned.
    #[payable]
    #[handle_result]
    pub fn cancel(&mut self, task: Task) -> Result<(), Error> {
        require_one_yocto()?;
        let mut found = self.pending(&task)?;
        found.lane.close(0);
        self.credit(&task.client, task.escrowed())?;
        Event::TaskCancelled { task_id: found.id, refunded: U128(task.escrowed()) }.emit();
        self.save(&task, found.lane);
        Ok(())
    }

    /// Client: gives a released or lapsed seat to another node, three times at most.
    #[payable]
    #[handle_result]
    pub fn reassign(
        &mut self,
        task: Task,
        committee: Vec<Seat>,
        seat: u8,
        accept: Accept,
    ) -> Result<(), Error> {
        require_one_yocto()?;
        let Found { id, mut lane } = self.open(&task, &committee)?;
        require_caller(task.client.as_str())?;
        let index = usize::from(seat);
        let held = committee.get(index).ok_or(Error::BadSeat(index))?;
        let bit = 1u16 << index;
        if lane.committed() & bit != 0 {
            return Err(Error::SeatTaken(index));
        }
        let released = lane.released & bit != 0;
        if !released && now() <= held.lease_end {
            return Err(Error::TooEarly(held.lease_end));
        }
        // Seating the same node again would extend its lease.
        if held.attempt >= MAX_ATTEMPT || accept.node == held.node {
            return Err(Error::BadSeat(index));
        }
        let owner = accept.node.owner();
        let mut others = committee.iter().enumerate().filter(|(i, _)| *i != index);
        if others.any(|(_, other)| other.node.owner() == owner) {
            return Err(Error::OwnerTwice(accept.node.owner_id()));
        }
        let new = Seat {
            node: accept.node.clone(),
            operator: self.assignable(&accept.node)?,
            lease_end: lease_from(&task)?,
            attempt: held.attempt + 1,
        };
        self.check_accept(&id, index, &new, &accept)?;
        let previous = held.node.clone();
        let mut committee = committee;
        committee[index] = new;
        lane.key = hash::committee(&id, &committee);
        lane.released &= !bit;
        lane.equivocated &= !bit; // the bit was the former holder's
        Event::SeatReassigned { task_id: id, seat, previous: &previous, released, committee: &committee }
            .emit();
        self.save(&task, lane);
        Ok(())
    }

    /// Client, `none/1`, within the window: ends the task; the fee goes to the pot, the tip returns.
    #[payable]
    #[handle_result]
    pub fn object(&mut self, task: Task, committee: Vec<Seat>) -> Result<(), Error> {
        require_one_yocto()?;
        let Found { id, mut lane } = self.open(&task, &committee)?;
        require_caller(task.client.as_str())?;
        if !task.is_unchecked() || lane.committed() == 0 {
            return Err(Error::BadTask);
        }
        let end = lane.window_start(&task) + u64::from(task.window);
        if now() > end {
            return Err(Error::TooLate(end));
        }
        lane.close(task.fee.0);
        self.credit(&task.client, task.tip.0)?;
        Event::TaskObjected { task_id: id, protocol_fee: task.fee, refunded: task.tip }.emit();
        self.save(&task, lane);
        Ok(())
    }

    /// Anybody: puts commitments on chain. Seats that have committed already are passed over; refuses when no
    /// commitment was new.
    #[handle_result]
    pub fn commit(
        &mut self,
        task: Task,
        committee: Vec<Seat>,
        commitments: Vec<Commitment>,
    ) -> Result<(), Error> {
        if task.is_unchecked() {
            return Err(Error::BadTask);
        }
        let (Found { id, mut lane }, mut chain) = self.committing(&task, &committee)?;
        let before = chain.seats;
        for commitment in &commitments {
            let index = usize::from(commitment.seat);
            let seat = committee.get(index).ok_or(Error::BadSeat(index))?;
            if chain.seats & (1 << index) != 0 {
                continue; // somebody was faster; it must not stop the others
            }
            match &commitment.signature {
                Some(signature) => {
                    let digest = self.signing(&id, index, seat).commit(&commitment.value);
                    check(digest, signature, seat, index)?;
                }
                None => require_key(&seat.operator).map_err(|_| Error::BadSignature(index))?,
            }
            chain.push(index, &commitment.value);
            Event::ResultCommitted {
                task_id: id,
                seat: commitment.seat,
                attempt: seat.attempt,
                value: commitment.value,
            }
            .emit();
        }
        if chain.seats == before {
            return Err(Error::SeatTaken(commitments.first().map_or(0, |one| usize::from(one.seat))));
        }
        lane.set_commitments(&task, &chain);
        self.save(&task, lane);
        Ok(())
    }

    /// Anybody, `none/1`: the signed result is commit and reveal at once.
    #[handle_result]
    pub fn submit_result(
        &mut self,
        task: Task,
        committee: Vec<Seat>,
        result: SignedResult,
    ) -> Result<(), Error> {
        if !task.is_unchecked() || result.output_digest.is_zero() {
            return Err(Error::BadTask);
        }
        let (Found { id, mut lane }, mut chain) = self.committing(&task, &committee)?;
        if chain.seats != 0 {
            return Err(Error::SeatTaken(0));
        }
        let seat = committee.first().ok_or(Error::BadSeat(0))?;
        self.check_result(&id, 0, seat, &result)?;
        chain.push(0, &result.output_digest);
        lane.set_commitments(&task, &chain);
        Event::ResultDelivered {
            task_id: id,
            node: &seat.node,
            output_digest: result.output_digest,
            evidence_digest: result.evidence_digest,
            signature: result.signature,
        }
        .emit();
        self.save(&task, lane);
        Ok(())
    }

    /// The seat's key, before it commits: gives the seat back. It may still commit until it is reassigned.
    #[handle_result]
    pub fn release(&mut self, task: Task, committee: Vec<Seat>, seat: u8) -> Result<(), Error> {
        let Found { id, mut lane } = self.open(&task, &committee)?;
        let index = usize::from(seat);
        let held = committee.get(index).ok_or(Error::BadSeat(index))?;
        require_key(&held.operator)?;
        if now() > task.commit_deadline {
            return Err(Error::TooLate(task.commit_deadline));
        }
        if (lane.committed() | lane.released) & (1 << index) != 0 {
            return Err(Error::SeatTaken(index));
        }
        // A bit beside the committee's hash, so that a release cannot make the commits of others fail.
        lane.released |= 1 << index;
        Event::SeatReleased { task_id: id, seat }.emit();
        self.save(&task, lane);
        Ok(())
    }

    /// Anybody, within the window (tolerance policies: its first half): records every seat opened here.
    #[handle_result]
    pub fn reveal(&mut self, task: Task, committee: Vec<Seat>, openings: Vec<Opening>) -> Result<(), Error> {
        let found = self.open(&task, &committee)?;
        if task.is_unchecked() {
            return Err(Error::BadTask);
        }
        let window = if task.is_tolerance() { task.window / 2 } else { task.window };
        let end = found.lane.require_window(&task)? + u64::from(window);
        if now() > end {
            return Err(Error::TooLate(end));
        }
        let tally = self.open_all(&found, &task, &committee, &openings)?;
        let known = found.lane.revealed;
        if tally.opened & !known == 0 {
            return Err(Error::BadOpening);
        }
        for one in &openings {
            if !one.digest.is_zero() && known & (1 << one.seat) == 0 {
                Event::ResultRevealed {
                    task_id: found.id,
                    seat: one.seat,
                    digest: one.digest,
                    salt: one.salt,
                }
                .emit();
            }
        }
        let mut lane = found.lane;
        lane.revealed |= tally.opened;
        self.save(&task, lane);
        Ok(())
    }

    /// Anybody, tolerance policies, within the window: records a member's approval, the first one it gave.
    #[handle_result]
    pub fn approve(&mut self, task: Task, committee: Vec<Seat>, approval: Approval) -> Result<(), Error> {
        let mut found = self.open(&task, &committee)?;
        if !task.is_tolerance() {
            return Err(Error::BadTask);
        }
        let end = found.lane.require_window(&task)? + u64::from(task.window);
        if now() > end {
            return Err(Error::TooLate(end));
        }
        let index = usize::from(approval.seat);
        if index >= MAX_SEATS || found.lane.committed() & (1 << index) == 0 {
            return Err(Error::BadSeat(index)); // only who committed
        }
        let mask = approval.mask & FULL_MASK;
        if mask == 0 || found.lane.approvals[index] != 0 {
            return Err(Error::BadApproval);
        }
        self.check_approval(&found, &committee, &approval)?;
        found.lane.approvals[index] = mask;
        Event::ResultApproved {
            task_id: found.id,
            seat: approval.seat,
            mask: approval.mask,
            signature: approval.signature,
        }
        .emit();
        self.save(&task, found.lane);
        Ok(())
    }

    /// Anybody, after the commit deadline: ends a task in which nobody committed; all of it returns.
    #[handle_result]
    pub fn expire(&mut self, task: Task, committee: Vec<Seat>) -> Result<(), Error> {
        let Found { id, mut lane } = self.open(&task, &committee)?;
        if now() <= task.commit_deadline {
            return Err(Error::TooEarly(task.commit_deadline));
        }
        if lane.committed() != 0 {
            return Err(Error::SeatTaken(0));
        }
        lane.close(0);
        self.credit(&task.client, task.escrowed())?;
        Event::TaskExpired { task_id: id, refunded: U128(task.escrowed()) }.emit();
        self.save(&task, lane);
        Ok(())
    }

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
