//! One task as its parties see it.
use super::*;

/// A task, its committee and what its members sign.
pub struct Play {
    pub task: Task,
    pub id: Word,
    pub members: Vec<usize>,
    pub committee: Vec<Seat>,
    /// Seat and value, in the order of the commits.
    pub order: Vec<(usize, Word)>,
    pub escrow: [u8; 32],
}

impl Play {
    pub fn new(world: &World, task: Task) -> Self {
        let members = (0..usize::from(task.seats)).collect();
        Self::by(world, task, members)
    }

    pub fn by(world: &World, task: Task, members: Vec<usize>) -> Self {
        let (id, escrow) = world.view(|c| (c.task_id(task.clone()), c.escrow));
        Self { task, id, members, committee: vec![], order: vec![], escrow }
    }

    /// Posted and assigned.
    pub fn start(world: &mut World, task: Task) -> Self {
        let mut play = Self::new(world, task);
        play.post(world).unwrap();
        play
    }

    pub fn committed(world: &mut World, task: Task) -> Self {
        let mut play = Self::start(world, task);
        let all: Vec<usize> = (0..play.members.len()).collect();
        play.commit(world, &all).unwrap();
        play
    }

    pub fn signing(&self, seat: usize, attempt: u8) -> Signing<'_> {
        Signing { separator: &self.escrow, id: &self.id, seat, attempt }
    }

    pub fn accept(&self, seat: usize, attempt: u8, until: u64) -> Accept {
        let member = self.members[seat];
        let digest = self.signing(seat, attempt).accept(&node(member), until);
        Accept { node: node(member), valid_until: until, signature: sign(&key(member), digest) }
    }

    pub fn accepts(&self, until: u64) -> Vec<Accept> {
        (0..self.members.len()).map(|seat| self.accept(seat, 0, until)).collect()
    }

    pub fn post(&mut self, world: &mut World) -> Result<(), Error> {
        let accepts = self.accepts(world.now);
        self.post_with(world, accepts)
    }

    pub fn post_with(&mut self, world: &mut World, accepts: Vec<Accept>) -> Result<(), Error> {
        let task = self.task.clone();
        let done = world.call(client().with(NEAR / 50), |c| c.submit_task(task, Some(accepts)))?;
        assert_eq!(done, self.id);
        self.learn(world);
        Ok(())
    }

    /// Posted without a committee.
    pub fn post_only(&mut self, world: &mut World) -> Result<(), Error> {
        let task = self.task.clone();
        world.call(client().with(NEAR / 50), |c| c.submit_task(task, None)).map(|_| ())
    }

    /// Takes the committee from the events, as a follower does.
    pub fn learn(&mut self, world: &World) {
        for event in world.events() {
            if let Some(seats) = event["data"].get("committee") {
                self.committee = serde_json::from_value(seats.clone()).unwrap();
            }
        }
    }

    pub fn reassign(&mut self, world: &mut World, seat: usize, member: usize) -> Result<(), Error> {
        let attempt = self.committee[seat].attempt + 1;
        let before = std::mem::replace(&mut self.members[seat], member);
        let accept = self.accept(seat, attempt, world.now);
        let (task, committee) = self.both();
        let done = world.call(client(), |c| c.reassign(task, committee, seat as u8, accept));
        match done {
            Ok(()) => self.learn(world),
            Err(_) => self.members[seat] = before,
        }
        done
    }

    pub fn both(&self) -> (Task, Vec<Seat>) {
        (self.task.clone(), self.committee.clone())
    }

    pub fn salt(seat: usize) -> Word {
        Word([0x50 + seat as u8; 32])
    }

    pub fn value(&self, seat: usize, digest: &Word) -> Word {
        hash::commitment(&self.id, seat, &self.committee[seat], digest, &Self::salt(seat))
    }

    pub fn commitment(&self, seat: usize, digest: &Word) -> Commitment {
        let value = self.value(seat, digest);
        let signed = self.signing(seat, self.committee[seat].attempt).commit(&value);
        Commitment { seat: seat as u8, value, signature: Some(sign(&key(self.members[seat]), signed)) }
    }

    /// Commits one digest for all, relayed by a stranger.
    pub fn commit(&mut self, world: &mut World, seats: &[usize]) -> Result<(), Error> {
        let digests: Vec<_> = seats.iter().map(|seat| (*seat, DIGEST)).collect();
        self.commit_as(world, &digests)
    }

    pub fn commit_as(&mut self, world: &mut World, digests: &[(usize, Word)]) -> Result<(), Error> {
        let given: Vec<_> = digests.iter().map(|(seat, digest)| self.commitment(*seat, digest)).collect();
        let values: Vec<_> = given.iter().map(|one| (usize::from(one.seat), one.value)).collect();
        let (task, committee) = self.both();
        world.call(anybody(), |c| c.commit(task, committee, given))?;
        self.order.extend(values);
        Ok(())
    }

    /// Every commitment opened as `digest`, the hidden seats' left closed.
    pub fn openings(&self, hidden: &[usize]) -> Vec<Opening> {
        self.openings_as(|_| DIGEST, hidden)
    }

    pub fn openings_as(&self, digest: impl Fn(usize) -> Word, hidden: &[usize]) -> Vec<Opening> {
        let opening = |(seat, value): &(usize, Word)| {
            let closed = hidden.contains(seat);
            Opening {
                seat: *seat as u8,
                digest: if closed { Word::ZERO } else { digest(*seat) },
                salt: if closed { *value } else { Self::salt(*seat) },
            }
        };
        self.order.iter().map(opening).collect()
    }

    pub fn acc(&self) -> Word {
        let mut chain = hash::Chain::new(self.task.nonce);
        for (seat, value) in &self.order {
            chain.push(*seat, value);
        }
        chain.acc()
    }

    pub fn approval(&self, seat: usize, mask: u16) -> Approval {
        let digest = self.signing(seat, 0).approval(&self.acc(), mask);
        Approval { seat: seat as u8, mask, signature: sign(&key(self.members[seat]), digest) }
    }

    pub fn result(&self, seat: usize, output: Word, evidence: Word) -> SignedResult {
        let digest = self.signing(seat, self.committee[seat].attempt).result(&output, &evidence);
        let signature = sign(&key(self.members[seat]), digest);
        SignedResult { output_digest: output, evidence_digest: evidence, signature }
    }

    pub fn reveal(&self, world: &mut World, openings: Vec<Opening>) -> Result<(), Error> {
        let (task, committee) = self.both();
        world.call(anybody(), |c| c.reveal(task, committee, openings))
    }

    pub fn approve(&self, world: &mut World, approval: Approval) -> Result<(), Error> {
        let (task, committee) = self.both();
        world.call(anybody(), |c| c.approve(task, committee, approval))
    }

    pub fn finalise(
        &self,
        world: &mut World,
        caller: Caller,
        openings: Vec<Opening>,
        approvals: Vec<Approval>,
    ) -> Result<(), Error> {
        let (task, committee) = self.both();
        world.call(caller, |c| c.finalise(task, committee, openings, approvals))
    }

    pub fn evidence(
        &self,
        world: &mut World,
        seat: usize,
        first: SignedResult,
        second: SignedResult,
    ) -> Result<(), Error> {
        let (task, committee) = self.both();
        world.call(anybody(), |c| c.prove_equivocation(task, committee, seat as u8, first, second))
    }

    pub fn key(&self) -> LaneKey {
        LaneKey(self.task.client.clone(), self.task.lane)
    }
}
