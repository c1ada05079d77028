//! A world of one contract: its storage, the clock, and what the token contract would say.
use super::*;

/// What a call sent to other accounts.
#[derive(Debug, Clone)]
pub enum Sent {
    Near(AccountId, u128),
    Call { to: AccountId, method: String, args: serde_json::Value, deposit: u128 },
    Deploy(AccountId),
}

#[derive(Clone)]
pub struct World {
    pub storage: Storage,
    pub now: u64,
    pub logs: Vec<String>,
    pub sent: Vec<Sent>,
    /// What the token contract would say.
    pub tokens: BTreeMap<AccountId, u128>,
    pub burned: u128,
    /// The next outgoing token call fails.
    pub token_refuses: bool,
}

impl World {
    pub fn empty() -> Self {
        let tokens = BTreeMap::from([(id("bank.near"), 1_000_000 * UNIT)]);
        Self {
            storage: Storage::new(),
            now: START,
            logs: vec![],
            sent: vec![],
            tokens,
            burned: 0,
            token_refuses: false,
        }
    }

    /// Deployed, with four nodes and a client that has 1,000 tokens in its vault.
    pub fn new() -> Self {
        Self::with_nodes(4)
    }

    pub fn with_nodes(count: usize) -> Self {
        // Verifying a signature takes milliseconds in a debug build, so each size is made once.
        static MADE: Mutex<BTreeMap<usize, World>> = Mutex::new(BTreeMap::new());
        let known = MADE.lock().unwrap().get(&count).cloned();
        known.unwrap_or_else(|| {
            let world = Self::make(count);
            MADE.lock().unwrap().insert(count, world.clone());
            world
        })
    }

    fn make(count: usize) -> Self {
        let mut world = Self::empty();
        world.deploy(parameters()).unwrap();
        for account in ["client.near", "stranger.near"].map(id).into_iter().chain((0..count).map(owner)) {
            let caller = Caller::of(account.as_str()).with(NEAR / 50);
            world.call(caller, |c| c.storage_deposit(None, None)).unwrap();
        }
        for i in 0..count {
            world.register(i).unwrap();
        }
        world.deposit("client.near", 1000 * UNIT).unwrap();
        world
    }

    pub fn deploy(&mut self, parameters: Parameters) -> Result<(), Error> {
        let caller = Caller::of(CONTRACT);
        self.enter(&caller, vec![]);
        let made = Compute::new(id(TOKEN), CHAIN.into(), id("dao.near"), id("guardian.near"), parameters);
        self.leave(made.map(|contract| env::state_write(&contract)))
    }

    pub fn enter(&self, caller: &Caller, results: Vec<PromiseResult>) {
        let context = VMContextBuilder::new()
            .current_account_id(id(CONTRACT))
            .predecessor_account_id(caller.account.clone())
            .signer_account_id(caller.signer.clone())
            .signer_account_pk(PublicKey::from_parts(CurveType::ED25519, caller.key.to_vec()).unwrap())
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

    pub fn leave<T, E>(&mut self, done: Result<T, E>) -> Result<T, E> {
        self.logs.clear();
        self.sent.clear();
        if done.is_ok() {
            self.logs = near_sdk::test_utils::get_logs();
            self.sent = sent();
            self.storage = with_mocked_blockchain(|chain| chain.take_storage());
        }
        done
    }

    pub fn run<T>(
        &mut self,
        caller: Caller,
        results: Vec<PromiseResult>,
        call: impl FnOnce(&mut Compute) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.enter(&caller, results);
        let mut contract: Compute = env::state_read().unwrap();
        let done = call(&mut contract);
        if done.is_ok() {
            env::state_write(&contract);
        }
        drop(contract); // writes its collections; `leave` forgets them after a refusal
        self.leave(done)
    }

    /// One call, and whatever it sends to the token contract, callbacks included.
    pub fn call<T>(
        &mut self,
        caller: Caller,
        call: impl FnOnce(&mut Compute) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let done = self.run(caller.clone(), vec![], call)?;
        let sent = self.sent.clone();
        let mut logs = std::mem::take(&mut self.logs);
        self.token_and_callback(&sent);
        logs.append(&mut self.logs);
        (self.logs, self.sent) = (logs, sent);
        Ok(done)
    }

    fn token_and_callback(&mut self, sent: &[Sent]) {
        let mut succeeded = false;
        for one in sent {
            let Sent::Call { to, method, args, deposit } = one else { continue };
            let amount = args["amount"].as_str().map_or(0, |text| text.parse().unwrap());
            if *to == id(TOKEN) {
                assert_eq!(*deposit, 1, "the token wants one yocto");
                let held = self.tokens.entry(id(CONTRACT)).or_default();
                succeeded = !std::mem::take(&mut self.token_refuses);
                if succeeded {
                    *held = held.checked_sub(amount).expect("the contract sends what it does not have");
                    if method == "burn" {
                        self.burned += amount;
                    } else {
                        *self
                            .tokens
                            .entry(args["receiver_id"].as_str().unwrap().parse().unwrap())
                            .or_default() += amount;
                    }
                }
                continue;
            }
            if !method.starts_with("on_") {
                continue;
            }
            let result = if succeeded { PromiseResult::Successful(vec![]) } else { PromiseResult::Failed };
            let me = Caller { signer: id("client.near"), ..Caller::of(CONTRACT) };
            let text = |name: &str| -> AccountId { args[name].as_str().unwrap().parse().unwrap() };
            self.run(me, vec![result], |c| match method.as_str() {
                "on_withdrawn" => c.on_withdrawn(text("account"), text("to"), U128(amount)),
                "on_stake_withdrawn" => c.on_stake_withdrawn(
                    args["node"].as_str().unwrap().parse().unwrap(),
                    text("to"),
                    U128(amount),
                ),
                "on_burned" => Ok(c.on_burned(U128(amount))),
                other => panic!("an unknown callback: {other}"),
            })
            .unwrap();
        }
    }

    pub fn view<T>(&self, view: impl FnOnce(&Compute) -> T) -> T {
        self.enter(&anybody(), vec![]);
        let contract: Compute = env::state_read().unwrap();
        view(&contract)
    }

    pub fn advance(&mut self, seconds: u64) {
        self.now += seconds;
    }

    /// `ft_transfer_call` from the bank's tokens in the name of `sender`.
    pub fn pay_in(&mut self, sender: &str, amount: u128, message: &str) -> Result<(), Error> {
        let token = Caller { account: id(TOKEN), ..Caller::of(sender) };
        let kept = self.call(token, |c| c.ft_on_transfer(id(sender), U128(amount), message.to_string()))?;
        assert_eq!(kept.0, 0, "nothing is sent back of what is taken");
        *self.tokens.get_mut(&id("bank.near")).unwrap() -= amount;
        *self.tokens.entry(id(CONTRACT)).or_default() += amount;
        Ok(())
    }

    pub fn deposit(&mut self, account: &str, amount: u128) -> Result<(), Error> {
        self.pay_in(account, amount, "")
    }

    pub fn registration(&self, i: usize, index: u32, valid_until: u64) -> String {
        let id = NodeId::new(&owner(i), index);
        let digest = self.view(|c| hash::operate(&c.registry, &id, &operator(i), valid_until));
        serde_json::json!({ "register": {
            "index": index,
            "operator": operator(i),
            "valid_until": valid_until,
            "signature": sign(&key(i), digest),
            "peer_id": "12D3KooW",
            "addresses": ["/ip4/203.0.113.7/udp/4001/quic-v1"],
        }})
        .to_string()
    }

    pub fn register(&mut self, i: usize) -> Result<(), Error> {
        let message = self.registration(i, 0, self.now);
        self.pay_in(owner(i).as_str(), 2 * STAKE, &message)
    }

    pub fn vault(&self, account: &str) -> u128 {
        self.view(|c| c.get_account(id(account)).map_or(0, |found| found.balance.0))
    }

    pub fn node(&self, i: usize) -> NodeView {
        self.view(|c| c.get_node(node(i))).unwrap()
    }

    pub fn lane(&self, number: u32) -> LaneView {
        self.view(|c| c.get_lane(id("client.near"), number))
    }

    pub fn beat(&mut self, count: usize) {
        for i in 0..count {
            self.call(operates(i), |c| c.heartbeat(node(i))).unwrap();
        }
    }

    pub fn events(&self) -> Vec<serde_json::Value> {
        let json = |line: &String| line.strip_prefix("EVENT_JSON:").map(str::to_owned);
        self.logs.iter().filter_map(json).map(|text| serde_json::from_str(&text).unwrap()).collect()
    }

    pub fn event(&self, name: &str) -> serde_json::Value {
        let mut found = self.events().into_iter().filter(|event| event["event"] == name);
        let data = found.next().unwrap_or_else(|| panic!("no {name} in {:?}", self.logs))["data"].clone();
        assert!(found.next().is_none(), "{name} twice");
        data
    }

    /// All that the contract owes: vaults, stakes, fees, burns, and what is in escrow.
    pub fn owed(&self, escrowed: u128) -> u128 {
        self.view(|c| {
            let accounts = ["client.near", "stranger.near", "treasury.near", CONTRACT].map(id);
            let vaults: u128 = accounts
                .into_iter()
                .chain((0..16).map(owner))
                .filter_map(|account| c.get_account(account))
                .map(|found| found.balance.0)
                .sum();
            let nodes = c.get_nodes(None, None);
            let stakes: u128 = nodes.iter().map(|node| node.bonded.0 + node.unbonding.0).sum();
            let accrued: u128 =
                c.get_lanes(id("client.near"), None, None).iter().map(|lane| lane.accrued.0).sum();
            vaults + stakes + accrued + c.burn_due().0 + escrowed
        })
    }

    /// Tokens are neither made nor lost.
    pub fn check_books(&self, escrowed: u128) {
        assert_eq!(self.owed(escrowed), self.tokens[&id(CONTRACT)]);
        assert_eq!(self.tokens.values().sum::<u128>() + self.burned, 1_000_000 * UNIT);
    }

    /// The next task of the client's lane 0, of three seats and `exact/1`.
    pub fn task(&self) -> Task {
        self.task_in(0)
    }

    pub fn task_in(&self, lane: u32) -> Task {
        Task {
            client: id("client.near"),
            lane,
            nonce: self.lane(lane).closed + 1,
            fee: U128(FEE),
            tip: U128(TIP),
            seats: 3,
            policy: 1,
            lease: LEASE,
            commit_deadline: self.now + SPAN,
            window: WINDOW,
            spec_hash: Word([5; 32]),
        }
    }
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
                    args: serde_json::from_slice(&args).unwrap_or_default(),
                    deposit: attached_deposit.as_yoctonear(),
                },
                MockAction::DeployContract { .. } => Sent::Deploy(to.clone()),
                _ => continue,
            });
        }
    }
    found
}
