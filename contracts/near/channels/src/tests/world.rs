//! A world of one contract: its storage, the clock, and what the token contract would say.
use near_sdk::borsh::BorshDeserialize;

use super::*;

type Payments = Vec<crate::payout::Payment>;

/// What a call sent to other accounts.
#[derive(Debug, Clone)]
pub enum Sent {
    Near(AccountId, u128),
    Call { to: AccountId, method: String, args: Vec<u8>, deposit: u128 },
    Deploy(AccountId),
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
    waiting: Vec<(Vec<bool>, Vec<u8>)>,
    contract: String,
}

impl World {
    /// Deployed, with two clients that have tokens and paid for storage.
    pub fn new() -> Self {
        let mut world = Self::at(CONTRACT, CHAIN, parameters()).unwrap();
        for account in [CLIENT, OTHER] {
            world.call(Caller::of(account).with(NEAR), |c| c.storage_deposit(None, None)).unwrap();
        }
        world
    }

    pub fn at(contract: &str, chain: &str, parameters: Parameters) -> Result<Self, Error> {
        let tokens = BTreeMap::from([(id(CLIENT), SUPPLY / 2), (id(OTHER), SUPPLY / 2)]);
        let mut world = Self {
            storage: Storage::new(),
            now: START,
            logs: vec![],
            sent: vec![],
            domain: [0; 32],
            tokens,
            refused: vec![],
            is_slow: false,
            waiting: vec![],
            contract: contract.to_string(),
        };
        world.enter(&anybody(), vec![]);
        let made = Channels::new(id(TOKEN), chain.into(), id("dao.near"), id("guardian.near"), parameters);
        world.leave(made.map(|contract| env::state_write(&contract)))?;
        world.domain = world.view(|c| c.domain);
        Ok(world)
    }

    pub fn enter(&self, caller: &Caller, results: Vec<PromiseResult>) {
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

    fn run<T>(
        &mut self,
        caller: Caller,
        call: impl FnOnce(&mut Channels) -> Result<T, Error>,
    ) -> Result<(), Error> {
        self.enter(&caller, vec![]);
        let mut contract: Channels = env::state_read().unwrap();
        // What a call promises is made when its value is dropped.
        let done = call(&mut contract).map(drop);
        if done.is_ok() {
            env::state_write(&contract);
        }
        drop(contract); // writes its collections; `leave` forgets them after a refusal
        self.leave(done)
    }

    /// One call, and whatever it sends to the token contract; callbacks too, unless the world is slow.
    pub fn call<T>(
        &mut self,
        caller: Caller,
        call: impl FnOnce(&mut Channels) -> Result<T, Error>,
    ) -> Result<(), Error> {
        self.run(caller, call)?;
        let sent = self.sent.clone();
        let mut arrived = vec![];
        for one in &sent {
            let Sent::Call { to, method, args, deposit } = one else { continue };
            if *to == id(TOKEN) {
                assert_eq!((method.as_str(), *deposit), ("ft_transfer", 1), "the token wants one yocto");
                arrived.push(self.transfer(&serde_json::from_slice(args).unwrap()));
            } else if method == "on_sent" {
                assert_eq!(*to, id(&self.contract));
                self.waiting.push((std::mem::take(&mut arrived), args.clone()));
            }
        }
        assert!(arrived.is_empty(), "a transfer without a callback");
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
        for (arrived, payments) in std::mem::take(&mut self.waiting) {
            let result =
                |ok| if ok { PromiseResult::Successful(b"null".to_vec()) } else { PromiseResult::Failed };
            let all = arrived.iter().all(|ok| *ok);
            self.enter(&Caller::of(&self.contract.clone()), arrived.into_iter().map(result).collect());
            let done = Channels::on_sent(Payments::try_from_slice(&payments).unwrap());
            assert_eq!(done, all);
            self.leave(Ok::<_, Error>(())).unwrap();
            logs.append(&mut self.logs);
        }
        self.logs = logs;
    }

    pub fn view<T>(&self, view: impl FnOnce(&Channels) -> T) -> T {
        self.enter(&anybody(), vec![]);
        let contract: Channels = env::state_read().unwrap();
        view(&contract)
    }

    // --- tokens that come ---------------------------------------------------------------------

    /// `ft_transfer_call` of `sender`.
    pub fn pay_in(&mut self, sender: &str, amount: u128, message: &str) -> Result<(), Error> {
        let text = message.to_string();
        self.call(Caller::of(TOKEN), |c| {
            let back = c.ft_on_transfer(id(sender), U128(amount), text)?;
            assert_eq!(back.0, 0, "nothing is sent back of what is taken");
            Ok(())
        })?;
        let held = self.tokens.entry(id(sender)).or_default();
        *held = held.checked_sub(amount).expect("has so many tokens");
        *self.tokens.entry(id(&self.contract)).or_default() += amount;
        Ok(())
    }

    pub fn open(&mut self, c: &Channel, amount: u128) -> Result<(), Error> {
        let message = serde_json::json!({ "open": { "node": c.node, "session_key": c.session_key } });
        self.pay_in(c.client.as_str(), amount, &message.to_string())
    }

    pub fn top_up(&mut self, c: &Channel, amount: u128) -> Result<(), Error> {
        let message = serde_json::json!({ "top_up": { "channel_id": self.id_of(c) } });
        self.pay_in(c.client.as_str(), amount, &message.to_string())
    }

    // --- signing ------------------------------------------------------------------------------

    pub fn id_of(&self, c: &Channel) -> Word {
        signed::channel_id(&self.domain, c)
    }

    /// Of the present epoch, by the key of session 0.
    pub fn voucher(&self, c: &Channel, amount: u128) -> Voucher {
        self.signed_by(c, 0, self.channel(c).epoch, amount)
    }

    pub fn signed_by(&self, c: &Channel, key: usize, epoch: u32, amount: u128) -> Voucher {
        let cumulative_amount = U128(amount);
        let mut voucher = Voucher { cumulative_amount, receipts_root: ROOT, signature: Signature([0; 64]) };
        let digest = signed::voucher(&self.domain, &self.id_of(c), epoch, &voucher);
        voucher.signature = Signature(session(key).sign(&digest).to_bytes());
        voucher
    }

    // --- calls --------------------------------------------------------------------------------

    /// By somebody whose business it is not.
    pub fn redeem(&mut self, c: &Channel, voucher: &Voucher) -> Result<(), Error> {
        let (c, voucher) = (c.clone(), voucher.clone());
        self.call(anybody(), |it| it.redeem(c, voucher))
    }

    pub fn redeem_many(&mut self, batch: &[(&Channel, &Voucher)]) -> Result<(), Error> {
        let one = |(c, v): &(&Channel, &Voucher)| Redemption { channel: (*c).clone(), voucher: (*v).clone() };
        let batch = batch.iter().map(one).collect();
        self.call(anybody(), |it| it.redeem_many(batch))
    }

    pub fn pays(&mut self, c: &Channel, amount: u128) -> Result<(), Error> {
        let voucher = self.voucher(c, amount);
        self.redeem(c, &voucher)
    }

    pub fn close(&mut self, c: &Channel, voucher: Option<&Voucher>) -> Result<(), Error> {
        let (c, voucher) = (c.clone(), voucher.cloned());
        self.call(full(c.node.owner()), |it| it.close(c.clone(), voucher))
    }

    pub fn request_close(&mut self, c: &Channel) -> Result<(), Error> {
        let c = c.clone();
        self.call(full(c.client.as_str()), |it| it.request_close(c.clone()))
    }

    pub fn finish(&mut self, c: &Channel) -> Result<(), Error> {
        let c = c.clone();
        self.call(anybody(), |it| it.finish(c))
    }

    pub fn pay_due(&mut self, c: &Channel) -> Result<(), Error> {
        let c = c.clone();
        self.call(anybody(), |it| it.pay_due(c))
    }

    pub fn after_period(&mut self, c: &Channel) {
        self.now = self.channel(c).closes_at + 1;
    }

    // --- what is where ------------------------------------------------------------------------

    pub fn channel(&self, c: &Channel) -> ChannelView {
        self.view(|it| it.get_channel(self.id_of(c)))
    }

    pub fn bad_state(&self, c: &Channel, state: State) -> Error {
        Error::BadState(self.id_of(c), state)
    }

    pub fn has(&self, account: &str) -> u128 {
        self.tokens.get(&id(account)).copied().unwrap_or(0)
    }

    /// Writes a channel's record, as no call would.
    pub fn put(&mut self, c: Word, record: Record) {
        let key = [&[1], c.0.as_slice()].concat();
        assert_eq!(
            key.len() as u64 + crate::storage::RECORD_OVERHEAD + value(&record).len() as u64,
            crate::record::CHANNEL_BYTES
        );
        self.storage.insert(key, value(&record));
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

    /// Tokens are neither made nor lost, and the contract holds what it owes.
    pub fn check_books(&self, channels: &[Channel]) {
        let owed: u128 = channels
            .iter()
            .map(|c| self.channel(c))
            .map(|it| it.deposit.0 - it.claimed.0 + it.due_owner.0 + it.due_client.0)
            .sum();
        assert_eq!(owed, self.has(&self.contract));
        assert_eq!(self.tokens.values().sum::<u128>(), SUPPLY);
    }
}

fn value(record: &Record) -> Vec<u8> {
    near_sdk::borsh::to_vec(&ChannelRecord::V1(record.clone())).unwrap()
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
                MockAction::DeployContract { .. } => Sent::Deploy(to.clone()),
                _ => continue,
            });
        }
    }
    found
}
