//! Random sequences of calls, sound and unsound, against a book of its own: what was put in, the largest voucher
//! that was taken, what is due. Transfers fail and callbacks come late, at random.
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
}

const CHANNELS: usize = 6;

/// What should be so of one channel, by vouchers alone.
#[derive(Clone, Default)]
struct Page {
    epoch: u32,
    /// In this epoch.
    put: u128,
    /// The largest voucher taken in this epoch, as far as the deposit went then.
    best: u128,
}

struct Walk {
    world: World,
    dice: Dice,
    all: Vec<Channel>,
    book: Vec<Page>,
    /// What each account should have, transfers that failed or are on their way included.
    earned: BTreeMap<String, u128>,
    done: u64,
    seen: std::collections::BTreeSet<String>,
}

impl Walk {
    /// Six channels of two clients with three nodes of two owners.
    fn new(seed: u64) -> Self {
        let sibling = NodeId::new(&id(&owner(0)), 1);
        let all = (0..CHANNELS).map(|k| {
            let nodes = [node(0), sibling.clone(), node(1)];
            channel([CLIENT, OTHER][k % 2], nodes[k / 2].clone(), 0)
        });
        let mut earned = BTreeMap::from([(CLIENT.to_string(), SUPPLY / 2), (OTHER.to_string(), SUPPLY / 2)]);
        earned.extend((0..2).map(|i| (owner(i), 0)));
        Self {
            world: World::new(),
            dice: Dice(seed * 2 + 1),
            all: all.collect(),
            book: vec![Page::default(); CHANNELS],
            earned,
            done: 0,
            seen: Default::default(),
        }
    }

    fn amount(&mut self) -> u128 {
        [0, 1, UNIT, 3 * UNIT, DEPOSIT][self.dice.roll(5) as usize] + u128::from(self.dice.roll(50))
    }

    /// Often a little more than the last; one in eight by the wrong key, one for the epoch before.
    fn voucher(&mut self, k: usize) -> (Voucher, bool) {
        let page = self.book[k].clone();
        let more = self.amount();
        let amount = if self.dice.one_in(4) { more } else { page.best + more / 8 };
        let slip = self.dice.roll(8);
        let epoch = if slip == 1 { page.epoch.wrapping_sub(1) } else { page.epoch };
        let voucher = self.world.signed_by(&self.all[k], usize::from(slip == 0), epoch, amount);
        (voucher, slip > 1)
    }

    fn taken(&mut self, k: usize, voucher: &Voucher, is_valid: bool) {
        let page = &mut self.book[k];
        let reached = voucher.cumulative_amount.0.min(page.put);
        if reached > page.best {
            assert!(is_valid, "a voucher of another key or epoch paid");
            *self.earned.get_mut(self.all[k].node.owner()).unwrap() += reached - page.best;
            page.best = reached;
        }
    }

    fn ended(&mut self, k: usize) {
        let page = &mut self.book[k];
        *self.earned.get_mut(self.all[k].client.as_str()).unwrap() += page.put - page.best;
        (page.put, page.best) = (0, 0);
    }

    fn spent(&mut self, k: usize, amount: u128) {
        self.book[k].put += amount;
        *self.earned.get_mut(self.all[k].client.as_str()).unwrap() -= amount;
    }

    fn act(&mut self) -> Result<(), Error> {
        let k = self.dice.roll(CHANNELS as u64) as usize;
        let c = self.all[k].clone();
        match self.dice.roll(13) {
            0 | 1 => {
                let amount = self.amount();
                self.world.open(&c, amount)?;
                self.book[k].epoch += 1;
                self.spent(k, amount);
            }
            2 => {
                let amount = self.amount();
                self.world.top_up(&c, amount)?;
                self.spent(k, amount);
            }
            3..=5 => {
                let (voucher, is_valid) = self.voucher(k);
                self.world.redeem(&c, &voucher)?;
                self.taken(k, &voucher, is_valid);
            }
            6 | 7 => {
                let which: Vec<usize> = (0..4).map(|_| self.dice.roll(CHANNELS as u64) as usize).collect();
                let vouchers: Vec<_> = which.iter().map(|k| self.voucher(*k)).collect();
                let channels: Vec<_> = which.iter().map(|k| self.all[*k].clone()).collect();
                let is_late = |c: &Channel| {
                    let end = self.world.channel(c).closes_at;
                    end != 0 && self.world.now > end
                };
                let late: Vec<bool> = channels.iter().map(is_late).collect();
                let batch: Vec<_> = channels.iter().zip(vouchers.iter().map(|(v, _)| v)).collect();
                self.world.redeem_many(&batch)?;
                let told = self.world.events();
                let mut wanted = vec![];
                for (i, (voucher, is_valid)) in vouchers.iter().enumerate() {
                    let page = &self.book[which[i]];
                    let adds = voucher.cumulative_amount.0.min(page.put) > page.best;
                    if *is_valid && adds && !late[i] {
                        self.taken(which[i], voucher, true);
                        wanted.push("voucher_redeemed");
                    } else {
                        wanted.push("voucher_skipped");
                    }
                }
                let vouchers = |e: &&serde_json::Value| e["event"].as_str().unwrap().starts_with("voucher");
                let names: Vec<_> = told.iter().filter(vouchers).map(|e| e["event"].clone()).collect();
                assert_eq!(names, wanted, "each item by itself");
            }
            8 => {
                let (voucher, is_valid) = self.voucher(k);
                let given = (!self.dice.one_in(4)).then_some(&voucher);
                self.world.close(&c, given)?;
                if given.is_some() {
                    self.taken(k, &voucher, is_valid);
                }
                self.ended(k);
            }
            9 => self.world.request_close(&c)?,
            10 => {
                let end = self.world.channel(&c).closes_at;
                self.world.finish(&c)?;
                assert!(self.world.now > end, "a refund before its time");
                self.ended(k);
            }
            11 => self.world.pay_due(&c)?,
            _ => {
                self.world.now += [1, PERIOD / 2, PERIOD, PERIOD + 1][self.dice.roll(4) as usize];
                self.world.settle();
            }
        }
        Ok(())
    }

    fn step(&mut self) {
        self.world.is_slow = self.dice.one_in(3);
        self.world.refused.clear();
        for account in [CLIENT, OTHER, "provider-0.near", "provider-1.near"] {
            if self.dice.one_in(6) {
                self.world.refused.push(id(account));
            }
        }
        let before = self.world.storage.clone();
        match self.act() {
            Err(refused) => {
                self.seen.insert(refused.name().to_string());
                assert!(before == self.world.storage, "a refusal changed something: {refused:?}");
            }
            Ok(()) => self.done += 1,
        }
        for (k, page) in self.book.iter().enumerate() {
            let c = self.world.channel(&self.all[k]);
            assert!(c.claimed.0 <= c.deposit.0, "claimed is a part of the deposit");
            assert_eq!((c.deposit.0, c.claimed.0, c.epoch), (page.put, page.best, page.epoch));
            if matches!(c.state, State::None | State::Closed) {
                assert_eq!((c.deposit.0, c.claimed.0, c.closes_at), (0, 0, 0), "holds nothing");
            }
            self.seen.insert(c.state.to_string());
        }
    }

    /// Whatever happened before, everybody gets out with what the book says.
    fn bring_to_an_end(mut self) -> (u64, std::collections::BTreeSet<String>) {
        self.world.is_slow = false;
        self.world.settle();
        self.world.refused.clear();
        self.world.check_books(&self.all);
        for k in 0..CHANNELS {
            let c = self.all[k].clone();
            if self.world.channel(&c).state == State::Open {
                self.world.request_close(&c).unwrap();
            }
            if self.world.channel(&c).state == State::Closing {
                self.world.after_period(&c);
                self.world.finish(&c).unwrap();
                self.ended(k);
            }
            let done = self.world.pay_due(&c);
            assert!(matches!(done, Ok(()) | Err(Error::NothingDue)));
        }
        assert_eq!(self.world.has(CONTRACT), 0, "nothing stays");
        for (account, sum) in &self.earned {
            assert_eq!(self.world.has(account), *sum, "{account}");
        }
        (self.done, self.seen)
    }
}

#[test]
fn random_walks_pay_the_largest_voucher_whatever_the_order_and_everybody_gets_out() {
    let walks: u64 = std::env::var("WALKS").map_or(60, |text| text.parse().unwrap());
    let mut done = 0;
    let mut seen = std::collections::BTreeSet::new();
    for seed in 1..=walks {
        let mut walk = Walk::new(seed);
        for _ in 0..80 {
            walk.step();
        }
        let (count, names) = walk.bring_to_an_end();
        done += count;
        seen.extend(names);
    }
    // Most rolls are unsound; enough of them must not be, and all kinds must come up.
    assert!(done > 20 * walks, "{done} calls of {walks} walks succeeded");
    for name in ["none", "open", "closing", "closed", "E_BAD_DATA", "E_BAD_STATE", "E_BAD_SIGNATURE"]
        .into_iter()
        .chain(["E_NOTHING_NEW", "E_NOTHING_REDEEMED", "E_TOO_LATE", "E_TOO_EARLY", "E_NOTHING_DUE"])
    {
        assert!(seen.contains(name), "{name} never came up: {seen:?}");
    }
}

#[test]
fn the_largest_voucher_pays_whatever_the_order() {
    let mut dice = Dice(77);
    for _ in 0..20 {
        let mut world = World::new();
        world.open(&chan(), DEPOSIT).unwrap();
        let c = chan();
        let mut most = 0;
        for _ in 0..4 {
            let pair = [(); 2].map(|()| 1 + u128::from(dice.roll(125)) * UNIT + u128::from(dice.roll(1000)));
            most = pair.into_iter().fold(most, u128::max);
            let pair = pair.map(|amount| world.voucher(&c, amount));
            if dice.one_in(2) {
                let _ = world.redeem_many(&pair.each_ref().map(|v| (&c, v)));
            } else {
                for voucher in &pair {
                    let _ = world.redeem(&c, voucher);
                }
            }
        }
        let most = most.min(DEPOSIT);
        assert_eq!(world.has(&owner(0)), most, "the largest, as far as the deposit goes");
        let before = world.has(CLIENT);
        world.close(&c, None).unwrap();
        assert_eq!(world.has(CLIENT) - before, DEPOSIT - most, "the rest");
    }
}
