//! Lane T0, the client's side: an escrowed task from `submit_task` to its committee, and the ends that need no
//! result. Whoever acts does so while now ≤ deadline; the next phase begins with a later block.
use near_sdk::json_types::U128;
use near_sdk::{env, near};

use crate::errors::Error;
use crate::events::Event;
use crate::hash;
use crate::lanes::{lane_bytes, Found, Lane, LaneKey};
use crate::types::{Accept, Seat, Task, Word, MAX_AMOUNT};
use crate::vault::refund;
use crate::{now, require_caller, require_one_yocto, Compute, ComputeExt};

const MAX_ATTEMPT: u8 = 3;

impl Compute {
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
}
