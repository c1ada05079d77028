//! A world of one contract: its storage, the clock, and what the token contract would say.
use near_sdk::borsh::{from_slice, BorshDeserialize};

use super::*;

/// What a call sent to other accounts.
#[derive(Debug, Clone)]
pub enum Sent {
    Near(AccountId, u128),
    Call { to: AccountId, method: String, args: Vec<u8>, deposit: u128 },
}

/// What an account is owed in all, its place in a tree, and what proves it.
#[derive(Clone, Debug)]
pub struct Leaf {
    pub account: AccountId,
    pub cumulative: u128,
    pub sides: u64,
    pub path: Vec<Word>,
}

/// A tree as RFC 6962 has it, built by splitting at the largest power of two: another way than the contract's.
#[derive(Clone, Debug)]
pub struct Tree {
    pub root: Word,
    pub leaves: Vec<Leaf>,
}

impl Tree {
    pub fn new(domain: &[u8; 32], owed: &[(AccountId, u128)]) -> Self {
        let mut leaves: Vec<Leaf> = owed
            .iter()
            .map(|(account, sum)| Leaf { account: account.clone(), cumulative: *sum, sides: 0, path: vec![] })
            .collect();
        let root = Self::grow(domain, &mut leaves);
        Self { root, leaves }
    }

    fn grow(domain: &[u8; 32], leaves: &mut [Leaf]) -> Word {
        if let [one] = leaves {
            return signed::leaf(domain, &one.account, one.cumulative);
        }
        let middle = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at_mut(middle);
        let (a, b) = (Self::grow(domain, left), Self::grow(domain, right));
        for one in left {
            one.path.push(b);
        }
        for one in right {
            one.sides |= 1 << one.path.len();
            one.path.push(a);
        }
        Word(env::sha256_array([&[1], a.0.as_slice(), b.0.as_slice()].concat()))
    }
}

#[derive(Clone)]
pub struct World {
    pub storage: Storage,
    pub now: u64,
    pub logs: Vec<String>,
    pub sent: Vec<Sent>,
    pub domain: [u8; 32],
    /// What the token contract would say.
    pub tokens: BTreeMap<AccountId, u128>,
    /// To whom the token sends nothing.
    pub refused: Vec<AccountId>,
    /// Callbacks wait until `settle`, so that other calls come in between.
    pub is_slow: bool,
    waiting: Vec<(bool, Vec<u8>)>,
    contract: String,
}

impl World {
    pub fn new() -> Self {
        Self::at(CONTRACT, CHAIN, parameters()).unwrap()
    }

    pub fn at(contract: &str, chain: &str, parameters: Parameters) -> Result<Self, Error> {
        let mut world = Self {
            storage: Storage::new(),
            now: START,
            logs: vec![],
            sent: vec![],
            domain: [0; 32],
            tokens: BTreeMap::from([(id(PAYER), SUPPLY)]),
            refused: vec![],
            is_slow: false,
            waiting: vec![],
            contract: contract.to_string(),
        };
        world.enter(&Caller::of(STRANGER), vec![]);
        let made = Rewards::new(id(TOKEN), chain.into(), id(OWNER), id(PROPOSER), id(GUARDIAN), parameters);
        world.leave(made.map(|contract| env::state_write(&contract)))?;
        world.domain = world.view(|c| c.domain);
        Ok(world)
    }

    fn enter(&self, caller: &Caller, results: Vec<PromiseResult>) {
        let context = VMContextBuilder::new()
            .current_account_id(id(&self.contract))
            .predecessor_account_id(caller.account.clone())
            .signer_account_id(caller.account.clone())
            .attached_deposit(NearToken::from_yoctonear(caller.deposit))
            .account_balance(NearToken::from_near(1000))
            .block_timestamp(self.now * 1_000_000_000 + 999_999_999)
            .prepaid_gas(Gas::from_tgas(300))
            .storage_usage(1_000_000)
            .build();
        env::set_blockchain_interface(MockedBlockchain::new(
            context,
            CONFIG.clone(),
            FEES.clone(),
            results,
            self.storage.clone(),
            Default::default(),
            None,
        ));
    }

    fn leave<T, E>(&mut self, done: Result<T, E>) -> Result<T, E> {
        self.logs.clear();
        self.sent.clear();
        if done.is_ok() {
            self.logs = near_sdk::test_utils::get_logs();
            self.sent = sent();
            self.storage = with_mocked_blockchain(|chain| chain.take_storage());
        }
        done
    }

    /// One call, and whatever it sends to the token contract; the callback too, unless the world is slow.
    pub fn call<T>(
        &mut self,
        caller: Caller,
        call: impl FnOnce(&mut Rewards) -> Result<T, Error>,
    ) -> Result<(), Error> {
        self.enter(&caller, vec![]);
        let mut contract: Rewards = env::state_read().unwrap();
        // What a call promises is made when its value is dropped.
        let done = call(&mut contract).map(drop);
        if done.is_ok() {
            env::state_write(&contract);
        }
        drop(contract); // writes its roles; `leave` forgets them after a refusal
        self.leave(done)?;
        let sent = self.sent.clone();
        let mut arrived = None;
        for one in &sent {
            let Sent::Call { to, method, args, deposit } = one else { continue };
            if *to == id(TOKEN) {
                assert_eq!((method.as_str(), *deposit), ("ft_transfer", 1), "the token wants one yocto");
                arrived = Some(self.transfer(&serde_json::from_slice(args).unwrap()));
            } else {
                assert_eq!((to, method.as_str()), (&id(&self.contract), "on_sent"));
                self.waiting.push((arrived.take().expect("a callback without a transfer"), args.clone()));
            }
        }
        assert!(arrived.is_none(), "a transfer without a callback");
        if !self.is_slow {
            let mut logs = std::mem::take(&mut self.logs);
            self.settle();
            logs.append(&mut self.logs);
            self.logs = logs;
        }
        self.sent = sent;
        Ok(())
    }

    fn transfer(&mut self, args: &serde_json::Value) -> bool {
        let receiver = id(args["receiver_id"].as_str().unwrap());
        let amount: u128 = args["amount"].as_str().unwrap().parse().unwrap();
        assert!(amount != 0, "the token refuses to send nothing");
        let arrives = !self.refused.contains(&receiver);
        if arrives {
            let held = self.tokens.entry(id(&self.contract)).or_default();
            *held = held.checked_sub(amount).expect("the contract sends what it does not have");
            *self.tokens.entry(receiver).or_default() += amount;
        }
        arrives
    }

    /// Every callback that waits, in order.
    pub fn settle(&mut self) {
        let mut logs = vec![];
        for (arrived, args) in std::mem::take(&mut self.waiting) {
            let result =
                if arrived { PromiseResult::Successful(b"null".to_vec()) } else { PromiseResult::Failed };
            self.enter(&Caller::of(&self.contract.clone()), vec![result]);
            let (account, amount, cumulative): (AccountId, U128, U128) = arguments(&args);
            assert_eq!(Rewards::on_sent(account, amount, cumulative), arrived);
            self.leave(Ok::<_, Error>(())).unwrap();
            logs.append(&mut self.logs);
        }
        self.logs = logs;
    }

    pub fn view<T>(&self, view: impl FnOnce(&Rewards) -> T) -> T {
        self.enter(&Caller::of(STRANGER), vec![]);
        let contract: Rewards = env::state_read().unwrap();
        view(&contract)
    }

    // --- calls --------------------------------------------------------------------------------

    /// `ft_transfer_call` of the payer.
    pub fn pay_in(&mut self, amount: u128, message: &str) -> Result<(), Error> {
        let text = message.to_string();
        self.call(Caller::of(TOKEN), |c| {
            let back = c.ft_on_transfer(id(PAYER), U128(amount), text)?;
            assert_eq!(back.0, 0, "nothing is sent back of what is taken");
            Ok(())
        })?;
        let held = self.tokens.entry(id(PAYER)).or_default();
        *held = held.checked_sub(amount).expect("has so many tokens");
        *self.tokens.entry(id(&self.contract)).or_default() += amount;
        Ok(())
    }

    pub fn tree(&self, owed: &[u128]) -> Tree {
        let pairs: Vec<_> = owed.iter().enumerate().map(|(i, sum)| (account(i), *sum)).collect();
        Tree::new(&self.domain, &pairs)
    }

    /// The last epoch that is over.
    pub fn over(&self) -> u64 {
        self.now / SECONDS - 1
    }

    pub fn propose(&mut self, epoch: u64, root: Word, total: u128) -> Result<(), Error> {
        self.call(Caller::of(PROPOSER), |c| c.propose(epoch, root, U128(total), STATEMENT))
    }

    pub fn cancel(&mut self, epoch: u64) -> Result<(), Error> {
        self.call(Caller::of(GUARDIAN), |c| c.cancel(epoch))
    }

    /// A root over what accounts are owed, in force: of the epoch after the last one.
    pub fn activate(&mut self, owed: &[u128]) -> Tree {
        let tree = self.tree(owed);
        self.now += SECONDS;
        self.propose(self.over(), tree.root, owed.iter().sum()).unwrap();
        self.now += DELAY;
        tree
    }

    /// By somebody whose business it is not, who brings what a record costs.
    pub fn claim(&mut self, leaf: &Leaf) -> Result<(), Error> {
        let deposit = self.cost(&leaf.account);
        self.claim_with(leaf, deposit)
    }

    pub fn claim_with(&mut self, leaf: &Leaf, deposit: u128) -> Result<(), Error> {
        let Leaf { account, cumulative, sides, path } = leaf.clone();
        self.call(Caller::of(STRANGER).with(deposit), |c| {
            c.claim(account, U128(cumulative), U64(sides), path)
        })
    }

    // --- what is where ------------------------------------------------------------------------

    pub fn cost(&self, account: &AccountId) -> u128 {
        self.view(|c| c.storage_cost(account.clone())).as_yoctonear()
    }

    pub fn roots(&self) -> RootsView {
        self.view(|c| c.roots())
    }

    pub fn claimed_by(&self, account: &AccountId) -> u128 {
        self.view(|c| c.claimed_by(account.clone())).0
    }

    pub fn has(&self, account: &AccountId) -> u128 {
        self.tokens.get(account).copied().unwrap_or(0)
    }

    /// NEAR sent to somebody by the last call.
    pub fn sent_back(&self) -> Vec<(AccountId, u128)> {
        let near = |one: &Sent| match one {
            Sent::Near(to, amount) => Some((to.clone(), *amount)),
            Sent::Call { .. } => None,
        };
        self.sent.iter().filter_map(near).collect()
    }

    pub fn events(&self) -> Vec<serde_json::Value> {
        let json = |line: &String| line.strip_prefix("EVENT_JSON:").map(str::to_owned);
        self.logs.iter().filter_map(json).map(|text| serde_json::from_str(&text).unwrap()).collect()
    }

    /// The data of the one event that the last call logged.
    pub fn event(&self, name: &str) -> serde_json::Value {
        let events = self.events();
        let [one] = events.as_slice() else { panic!("not one event: {events:?}") };
        assert_eq!((&one["standard"], &one["version"]), (&"deai".into(), &"1.0.0".into()));
        assert_eq!(one["event"], name);
        one["data"].clone()
    }

    /// Tokens are neither made nor lost, and no more is paid than was promised, or promised than came in.
    pub fn check_books(&self) {
        let (active, received) = (self.roots().active, self.view(|c| c.info()).received.0);
        assert!(active.paid <= active.total && active.total.0 <= received);
        if self.waiting.is_empty() {
            assert_eq!(self.has(&id(&self.contract)), received - active.paid.0);
        }
        assert_eq!(self.tokens.values().sum::<u128>(), SUPPLY);
    }
}

fn arguments<T: BorshDeserialize>(args: &[u8]) -> T {
    from_slice(args).unwrap()
}

fn sent() -> Vec<Sent> {
    let mut found = vec![];
    for receipt in near_sdk::test_utils::get_created_receipts() {
        let to = receipt.receiver_id.clone();
        for action in receipt.actions {
            found.push(match action {
                MockAction::Transfer { deposit, .. } => Sent::Near(to.clone(), deposit.as_yoctonear()),
                MockAction::FunctionCallWeight { method_name, args, attached_deposit, .. } => Sent::Call {
                    to: to.clone(),
                    method: String::from_utf8(method_name).unwrap(),
                    args,
                    deposit: attached_deposit.as_yoctonear(),
                },
                _ => continue,
            });
        }
    }
    found
}
