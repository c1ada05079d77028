//! Vault accounts: free balances in the token, and the NEAR that pays for what an account stores here (NEP-145).
//!
//! An account pays for its record, its nodes and its lanes before they are written. Balances and lanes never
//! need NEAR from a node, whose function-call key could not attach any.
use near_contract_standards::storage_management::{StorageBalance, StorageBalanceBounds};
use near_sdk::json_types::U128;
use near_sdk::{env, near, AccountId, NearToken, Promise};

use crate::errors::Error;
use crate::events::Event;
use crate::lanes::lane_bytes;
use crate::nodes::node_bytes;
use crate::{require_one_yocto, Compute, ComputeExt};

/// Bytes that the chain adds to every record.
pub const RECORD_OVERHEAD: u64 = 40;
/// Bytes of the version, two amounts and a count.
const ACCOUNT_VALUE: u64 = 1 + 16 + 16 + 8;

#[near(serializers = [borsh])]
#[derive(Clone)]
pub enum AccountRecord {
    V1(Account),
}

/// What an account has here.
#[near(serializers = [borsh])]
#[derive(Clone)]
pub struct Account {
    /// Free tokens, base units.
    pub balance: u128,
    /// yoctoNEAR put down for storage.
    pub deposit: u128,
    /// What it stores: its record, nodes, lanes.
    pub bytes: u64,
}

impl AccountRecord {
    pub fn get(&self) -> &Account {
        let Self::V1(account) = self;
        account
    }

    fn get_mut(&mut self) -> &mut Account {
        let Self::V1(account) = self;
        account
    }
}

impl Account {
    pub fn available(&self) -> u128 {
        self.deposit.saturating_sub(price(self.bytes))
    }
}

/// yoctoNEAR that so many bytes lock.
pub fn price(bytes: u64) -> u128 {
    env::storage_byte_cost().as_yoctonear() * u128::from(bytes)
}

pub fn account_bytes(account: &AccountId) -> u64 {
    RECORD_OVERHEAD + 1 + 4 + account.len() as u64 + ACCOUNT_VALUE
}

impl Compute {
    /// The treasury's storage is part of the deployment.
    pub(crate) fn open_treasury(&mut self) {
        let treasury = self.parameters.treasury.clone();
        let bytes = account_bytes(&treasury);
        self.accounts
            .insert(treasury, AccountRecord::V1(Account { balance: 0, deposit: price(bytes), bytes }));
    }

    pub(crate) fn is_registered(&self, id: &AccountId) -> bool {
        self.accounts.contains_key(id)
    }

    pub(crate) fn account_mut(&mut self, id: &AccountId) -> Result<&mut Account, Error> {
        let found = self.accounts.get_mut(id);
        found.map(AccountRecord::get_mut).ok_or_else(|| Error::NotRegistered(id.clone()))
    }

    pub(crate) fn credit(&mut self, id: &AccountId, amount: u128) -> Result<(), Error> {
        self.account_mut(id)?.balance += amount;
        Ok(())
    }

    pub(crate) fn debit(&mut self, id: &AccountId, needed: u128) -> Result<(), Error> {
        let account = self.account_mut(id)?;
        let available = account.balance;
        if available < needed {
            return Err(Error::Insufficient { account: id.clone(), available, needed });
        }
        account.balance -= needed;
        Ok(())
    }

    /// Charges `bytes` more to an account, which may pay with `attached` yoctoNEAR; what it lacked is returned.
    pub(crate) fn charge(&mut self, id: &AccountId, bytes: u64, attached: u128) -> Result<u128, Error> {
        let account = self.account_mut(id)?;
        account.bytes += bytes;
        let lacking = price(account.bytes).saturating_sub(account.deposit);
        if lacking > attached {
            return Err(Error::Storage(NearToken::from_yoctonear(lacking)));
        }
        account.deposit += lacking;
        Ok(lacking)
    }

    pub(crate) fn deposited(
        &mut self,
        account: &AccountId,
        payer: &AccountId,
        amount: u128,
    ) -> Result<(), Error> {
        self.require_open()?;
        self.credit(account, amount)?;
        Event::Deposited { account, payer, amount: U128(amount) }.emit();
        Ok(())
    }

    fn storage_of(&self, id: &AccountId) -> Option<StorageBalance> {
        let account = self.accounts.get(id)?.get();
        Some(StorageBalance {
            total: NearToken::from_yoctonear(account.deposit),
            available: NearToken::from_yoctonear(account.available()),
        })
    }
}

#[near]
impl Compute {
    /// Takes tokens out; never paused. In the callback the tokens come back if the token refused.
    #[payable]
    #[handle_result]
    pub fn withdraw(&mut self, to: AccountId, amount: U128) -> Result<Promise, Error> {
        require_one_yocto()?;
        let account = env::predecessor_account_id();
        if amount.0 == 0 {
            return Err(Error::BadData);
        }
        self.debit(&account, amount.0)?;
        Ok(self.send_tokens(&to, amount.0).then(
            Self::ext(env::current_account_id())
                .with_static_gas(crate::gas::CALLBACK)
                .on_withdrawn(account, to, amount),
        ))
    }

    #[private]
    #[handle_result]
    pub fn on_withdrawn(&mut self, account: AccountId, to: AccountId, amount: U128) -> Result<bool, Error> {
        let sent = near_sdk::is_promise_success();
        if sent {
            Event::Withdrawn { account: &account, to: &to, amount }.emit();
        } else {
            if !self.is_registered(&account) {
                // Closed while its tokens were on their way: opened again, at the deployment's cost.
                let bytes = account_bytes(&account);
                let reopened = Account { balance: 0, deposit: 0, bytes };
                self.accounts.insert(account.clone(), AccountRecord::V1(reopened));
            }
            self.credit(&account, amount.0)?;
            Event::TransferFailed { account: &account, to: &to, amount }.emit();
        }
        Ok(sent)
    }

    /// NEP-145. Opens an account; what exceeds its record waits for nodes and lanes.
    #[payable]
    #[handle_result]
    pub fn storage_deposit(
        &mut self,
        account_id: Option<AccountId>,
        registration_only: Option<bool>,
    ) -> Result<StorageBalance, Error> {
        let payer = env::predecessor_account_id();
        let id = account_id.unwrap_or_else(|| payer.clone());
        let attached = env::attached_deposit().as_yoctonear();
        let mut back = 0;
        if let Some(record) = self.accounts.get_mut(&id) {
            if registration_only == Some(true) {
                back = attached;
            } else {
                record.get_mut().deposit += attached;
            }
        } else {
            let bytes = account_bytes(&id);
            let needed = price(bytes);
            if attached < needed {
                return Err(Error::Storage(NearToken::from_yoctonear(needed)));
            }
            if registration_only == Some(true) {
                back = attached - needed;
            }
            let account = Account { balance: 0, deposit: attached - back, bytes };
            self.accounts.insert(id.clone(), AccountRecord::V1(account));
        }
        refund(&payer, back);
        self.storage_of(&id).ok_or(Error::NotRegistered(id))
    }

    /// NEP-145. Sends back NEAR that pays for nothing.
    #[payable]
    #[handle_result]
    pub fn storage_withdraw(&mut self, amount: Option<NearToken>) -> Result<StorageBalance, Error> {
        require_one_yocto()?;
        let id = env::predecessor_account_id();
        let account = self.account_mut(&id)?;
        let available = account.available();
        let wanted = amount.map_or(available, |amount| amount.as_yoctonear());
        if wanted > available {
            return Err(Error::Insufficient { account: id, available, needed: wanted });
        }
        account.deposit -= wanted;
        refund(&id, wanted + 1);
        self.storage_of(&id).ok_or(Error::NotRegistered(id))
    }

    /// NEP-145. Closes an account without tokens, nodes and lanes; `force` changes nothing: tokens are not burned.
    #[payable]
    #[handle_result]
    pub fn storage_unregister(&mut self, force: Option<bool>) -> Result<bool, Error> {
        let _ = force;
        require_one_yocto()?;
        let id = env::predecessor_account_id();
        let Some(record) = self.accounts.get(&id) else { return Ok(false) };
        let account = record.get().clone();
        let is_bare = account.balance == 0 && account.bytes == account_bytes(&id);
        if !is_bare || id == self.parameters.treasury {
            return Err(Error::InUse);
        }
        self.accounts.remove(&id);
        refund(&id, account.deposit + 1);
        Ok(true)
    }

    pub fn storage_balance_bounds(&self) -> StorageBalanceBounds {
        // Of the longest name: enough for anybody.
        let bytes = RECORD_OVERHEAD + 1 + 4 + AccountId::MAX_LEN as u64 + ACCOUNT_VALUE;
        StorageBalanceBounds { min: NearToken::from_yoctonear(price(bytes)), max: None }
    }

    pub fn storage_balance_of(&self, account_id: AccountId) -> Option<StorageBalance> {
        self.storage_of(&account_id)
    }

    /// yoctoNEAR that an account, one of its nodes (with the longest id) and one of its lanes cost.
    pub fn storage_cost(&self, account_id: AccountId) -> StorageCost {
        let cost = |bytes| NearToken::from_yoctonear(price(bytes));
        StorageCost {
            account: cost(account_bytes(&account_id)),
            node: cost(node_bytes(account_id.len() + 11)),
            lane: cost(lane_bytes(&account_id)),
        }
    }
}

#[near(serializers = [json])]
pub struct StorageCost {
    pub account: NearToken,
    pub node: NearToken,
    pub lane: NearToken,
}

/// Sends NEAR back; nothing waits for it, and a receiver cannot refuse.
pub fn refund(to: &AccountId, amount: u128) {
    if amount != 0 {
        Promise::new(to.clone()).transfer(NearToken::from_yoctonear(amount)).detach();
    }
}
