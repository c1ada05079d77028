//! Random sequences of calls, sound and unsound: tokens are conserved after every one, a refusal changes nothing,
//! and every task can be brought to its end.
use super::*;

/// xorshift64*: the same sequence everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    fn mask(&mut self) -> u16 {
        self.roll(8) as u16
    }
}

const NODES: usize = 5;
const LANES: usize = 2;

struct Walk {
    world: World,
    dice: Dice,
    plays: Vec<Option<(Play, Vec<Word>)>>,
    done: u32,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let world = World::with_nodes(NODES);
        Self { world, dice: Dice(seed * 2 + 1), plays: (0..LANES).map(|_| None).collect(), done: 0 }
    }

    fn escrowed(&self) -> u128 {
        let open = self.plays.iter().flatten().filter(|(play, _)| {
            let lane = self.world.lane(play.task.lane);
            lane.nonce == play.task.nonce && lane.closed != lane.nonce
        });
        open.map(|(play, _)| play.task.escrowed()).sum()
    }

    fn caller(&mut self) -> Caller {
        match self.dice.roll(4) {
            0 => client(),
            1 => Caller::of("nobody.near"),
            2 => operates(self.dice.roll(NODES as u64) as usize),
            _ => anybody(),
        }
    }

    fn members(&mut self, seats: usize) -> Vec<usize> {
        let first = self.dice.roll(NODES as u64) as usize;
        (0..seats).map(|i| (first + i) % NODES).collect()
    }

    fn post(&mut self, lane: usize) -> Result<(), Error> {
        let policy = [0, 1, 1, 128][self.dice.roll(4) as usize];
        let seats = if policy == 0 { 1 } else { 3 };
        let fee = U128(1000 + u128::from(self.dice.roll(3)) * UNIT);
        let task = Task { policy, seats, fee, ..self.world.task_in(lane as u32) };
        let members = self.members(usize::from(seats));
        let mut play = Play::by(&self.world, task, members);
        let digests = (0..seats).map(|_| [DIGEST, DIGEST, OTHER][self.dice.roll(3) as usize]);
        let mut digests: Vec<Word> = digests.collect();
        if self.dice.one_in(4) {
            digests[0] = hash::fault(&play.id, 2);
            if self.dice.one_in(2) {
                digests = vec![digests[0]; usize::from(seats)];
            }
        }
        let done =
            if self.dice.one_in(3) { play.post_only(&mut self.world) } else { play.post(&mut self.world) };
        if done.is_ok() {
            self.plays[lane] = Some((play, digests));
        }
        done
    }

    /// One call on the task of a lane, chosen by the dice whether it is sound or not.
    fn act(&mut self, lane: usize) -> Result<(), Error> {
        let Some((mut play, digests)) = self.plays[lane].take() else { return self.post(lane) };
        let seats = play.members.len();
        let seat = self.dice.roll(seats as u64) as usize;
        let caller = self.caller();
        let world = &mut self.world;
        let (task, committee) = play.both();
        let mut hidden = vec![];
        if self.dice.one_in(3) {
            hidden.push(seat);
        }
        let openings = play.openings_as(|i| digests[i], &hidden);
        let choice = self.dice.roll(14);
        let done = match choice {
            0 => {
                let accepts = play.accepts(world.now);
                let done = world.call(client(), |c| c.assign(task, accepts));
                play.learn(world);
                done
            }
            1 => world.call(client(), |c| c.cancel(task)),
            2..=4 if !play.committee.is_empty() => {
                if play.task.policy == 0 {
                    let result = play.result(0, digests[0], EVIDENCE);
                    let done = world.call(caller, |c| c.submit_result(task, committee, result));
                    if done.is_ok() {
                        play.order.push((0, digests[0]));
                    }
                    done
                } else {
                    let before = play.order.len();
                    let done = play.commit_as(world, &[(seat, digests[seat])]);
                    assert!(done.is_ok() || play.order.len() == before);
                    done
                }
            }
            5 if !play.committee.is_empty() => {
                world.call(operates(play.members[seat]), |c| c.release(task, committee, seat as u8))
            }
            6 if !play.committee.is_empty() => {
                let member = self.dice.roll(NODES as u64) as usize;
                play.reassign(world, seat, member)
            }
            7 => play.reveal(world, openings),
            8 if !play.committee.is_empty() => {
                let approval = play.approval(seat, self.dice.mask());
                play.approve(world, approval)
            }
            9 | 10 => {
                let approvals = (0..seats).map(|i| play.approval(i, self.dice.mask())).collect();
                let approvals = if play.task.is_tolerance() { approvals } else { vec![] };
                play.finalise(world, caller, openings, approvals)
            }
            11 => world.call(caller, |c| c.expire(task, committee)),
            12 => world.call(client(), |c| c.object(task, committee)),
            _ if !play.committee.is_empty() => {
                let pair = (play.result(seat, DIGEST, EVIDENCE), play.result(seat, OTHER, EVIDENCE));
                play.evidence(world, seat, pair.0, pair.1)
            }
            _ => Ok(()),
        };
        let ended = !self.world.view(|c| {
            let lane = c.get_lane(play.task.client.clone(), play.task.lane);
            lane.closed != lane.nonce
        });
        self.plays[lane] = if ended && self.dice.one_in(2) { None } else { Some((play, digests)) };
        done
    }

    fn step(&mut self) {
        let before = self.world.storage.clone();
        let node_number = self.dice.roll(NODES as u64) as usize;
        let amount = U128(u128::from(self.dice.roll(5)) * STAKE / 2);
        self.world.token_refuses = self.dice.one_in(8);
        let done = match self.dice.roll(16) {
            0 => self.world.deposit("client.near", amount.0),
            1 => self.world.call(client(), |c| c.withdraw(id("cold.near"), amount).map(drop)),
            2 => self.world.call(owns(node_number), |c| c.request_unstake(node(node_number), amount)),
            3 => self
                .world
                .call(owns(node_number), |c| c.withdraw_stake(node(node_number), owner(0)).map(drop)),
            4 => self.world.call(owns(node_number), |c| c.unjail(node(node_number))),
            5 => {
                let add = serde_json::json!({ "add_stake": { "node": node(node_number) } }).to_string();
                self.world.pay_in("stranger.near", amount.0, &add)
            }
            6 => self.world.call(anybody(), |c| c.sweep(id("client.near"), vec![0, 1])),
            7 => self.world.call(anybody(), |c| c.sweep_burns().map(drop)),
            8 => {
                self.world.advance([1, 150, 301, 1001, 40_000][self.dice.roll(5) as usize]);
                self.world.call(operates(node_number), |c| c.heartbeat(node(node_number)))
            }
            9 => self.world.call(Caller::of("guardian.near"), |c| c.pause()),
            10 => self.world.call(Caller::of("guardian.near"), |c| c.unpause()),
            _ => {
                let lane = self.dice.roll(LANES as u64) as usize;
                self.act(lane)
            }
        };
        if done.is_err() {
            assert!(before == self.world.storage, "a refusal changed something: {done:?}");
        } else {
            self.done += 1;
        }
        self.world.token_refuses = false;
        self.world.check_books(self.escrowed());
        let nodes = self.world.view(|c| c.get_nodes(None, None));
        assert!(nodes.iter().all(|node| node.reputation <= crate::reputation::MAX));
    }

    /// Whatever happened before, anybody ends every open task from what is public.
    fn bring_to_an_end(mut self) -> u32 {
        self.world.token_refuses = false;
        self.world.advance(3 * 24 * 3600);
        for (play, digests) in self.plays.iter().flatten() {
            let lane = self.world.lane(play.task.lane);
            if lane.closed == lane.nonce {
                continue;
            }
            let hidden: Vec<usize> =
                (0..play.members.len()).filter(|i| lane.revealed & 1 << i == 0).collect();
            let hidden = if play.task.policy == 0 { vec![] } else { hidden };
            let openings = play.openings_as(|i| digests[i], &hidden);
            if lane.committed == 0 {
                let (task, committee) = play.both();
                self.world.call(anybody(), |c| c.expire(task, committee)).unwrap();
            } else {
                play.finalise(&mut self.world, anybody(), openings, vec![]).unwrap();
            }
        }
        self.world.check_books(0);
        self.done
    }
}

#[test]
fn random_walks_conserve_tokens_and_every_task_ends() {
    let walks: u64 = std::env::var("WALKS").map_or(60, |text| text.parse().unwrap());
    let mut done = 0;
    for seed in 1..=walks {
        let mut walk = Walk::new(seed);
        for _ in 0..60 {
            walk.step();
        }
        done += walk.bring_to_an_end();
    }
    // Most rolls are unsound; enough of them must not be.
    assert!(u64::from(done) > 10 * walks, "{done} calls of {walks} walks succeeded");
}
