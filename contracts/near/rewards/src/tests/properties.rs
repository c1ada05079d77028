//! Random walks: transfers that fail or come late, roots that lie, guardians that are in time or not. Whatever happens
//! nobody gets more than some root in force promised to him, and what is paid came in.
use super::*;

/// splitmix64
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

const ACCOUNTS: usize = 4;

struct Walk {
    dice: Dice,
    world: World,
    /// By root: what it says each is owed.
    trees: Vec<Tree>,
    owed: [u128; ACCOUNTS],
    /// The most that any root in force ever said.
    promised: [u128; ACCOUNTS],
}

impl Walk {
    fn new(seed: u64) -> Self {
        let world = World::new();
        Self { dice: Dice(seed), world, trees: vec![], owed: [0; ACCOUNTS], promised: [0; ACCOUNTS] }
    }

    fn act(&mut self) -> Result<(), Error> {
        let (dice, world) = (&mut self.dice, &mut self.world);
        match dice.roll(10) {
            0 | 1 => world.pay_in(u128::from(1 + dice.roll(300)), ""),
            2 | 3 => {
                for sum in &mut self.owed {
                    *sum += u128::from(dice.roll(40));
                }
                let mut said = self.owed;
                if dice.one_in(4) {
                    said[dice.roll(4) as usize] += 50; // a lie
                }
                let mut total = said.iter().sum::<u128>();
                if dice.one_in(4) {
                    total = total.saturating_sub(u128::from(dice.roll(90)));
                }
                let tree = world.tree(&said);
                let epoch = (world.over() + u64::from(dice.one_in(6))).saturating_sub(dice.roll(3));
                let done = world.propose(epoch, tree.root, total);
                if done.is_ok() {
                    self.trees.push(tree);
                }
                done
            }
            4 => {
                let epoch = world.roots().waiting.map_or(1, |it| it.epoch);
                world.cancel(epoch)
            }
            5 => {
                world.refused.clear();
                if dice.one_in(2) {
                    world.refused.push(account(dice.roll(ACCOUNTS as u64) as usize));
                }
                Ok(())
            }
            6 => {
                world.is_slow = !world.is_slow;
                world.settle();
                Ok(())
            }
            _ => {
                let Some(last) = self.trees.len().checked_sub(1) else { return Ok(()) };
                // Mostly of the root in force, now and then of another.
                let root = world.roots().active.root;
                let own = self.trees.iter().rposition(|tree| tree.root == root).unwrap_or(last);
                let which = if dice.one_in(5) { dice.roll(last as u64 + 1) as usize } else { own };
                let leaf = self.trees[which].leaves[dice.roll(ACCOUNTS as u64) as usize].clone();
                world.claim(&leaf)
            }
        }
    }

    fn step(&mut self) -> &'static str {
        self.world.now += [0, 1, 600, DELAY, SECONDS][self.dice.roll(5) as usize];
        let before = self.world.storage.clone();
        let done = self.act();
        if done.is_err() {
            assert_eq!(self.world.storage, before, "a refusal changes nothing");
        }
        let root = self.world.roots().active.root;
        for tree in self.trees.iter().filter(|tree| tree.root == root) {
            for (most, leaf) in self.promised.iter_mut().zip(&tree.leaves) {
                *most = leaf.cumulative.max(*most);
            }
        }
        for (i, most) in self.promised.iter().enumerate() {
            assert!(self.world.claimed_by(&account(i)) <= *most);
            assert!(self.world.has(&account(i)) <= *most);
        }
        self.world.check_books();
        done.map_or_else(|error| error.name(), |()| "")
    }

    /// With a root that tells the truth and money for it everybody gets what it says.
    fn bring_to_an_end(mut self) {
        let world = &mut self.world;
        world.settle();
        (world.is_slow, world.refused) = (false, vec![]);
        world.now += DELAY;
        let owed: Vec<u128> = (0..ACCOUNTS).map(|i| self.owed[i].max(self.promised[i])).collect();
        let missing = (owed.iter().sum::<u128>()).max(world.roots().active.total.0);
        world.pay_in(missing.max(1), "").unwrap();
        let tree = world.tree(&owed);
        world.now += 2 * SECONDS;
        world.propose(world.over(), tree.root, missing).unwrap();
        world.now += DELAY;
        for (i, leaf) in tree.leaves.iter().enumerate() {
            if world.claimed_by(&account(i)) < leaf.cumulative {
                world.claim(leaf).unwrap();
            }
            assert_eq!(world.has(&account(i)), leaf.cumulative);
            assert_eq!(world.claimed_by(&account(i)), leaf.cumulative);
        }
        world.check_books();
    }
}

#[test]
fn random_walks_pay_what_some_root_promised_and_everybody_gets_it_in_the_end() {
    let walks = std::env::var("WALKS").map_or(25, |text| text.parse().unwrap());
    let mut seen = std::collections::BTreeMap::<&str, u32>::new();
    for seed in 0..walks {
        let mut walk = Walk::new(seed);
        for _ in 0..60 {
            *seen.entry(walk.step()).or_default() += 1;
        }
        walk.bring_to_an_end();
    }
    let wanted = [
        "",
        "E_BAD_DATA",
        "E_BAD_EPOCH",
        "E_BAD_PROOF",
        "E_EXHAUSTED",
        "E_NOTHING_NEW",
        "E_NOTHING_WAITS",
        "E_STILL_WAITING",
        "E_TOO_EARLY",
        "E_UNFUNDED",
    ];
    assert!(wanted.iter().all(|name| seen.contains_key(name)), "{seen:?}");
}
