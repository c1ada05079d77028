//! The NEAR that pays for what an account stores here (NEP-145): its own record and its channels. Opening comes
//! through the token, which cannot attach any, so it is put down beforehand.
use near_contract_standards::storage_management::{StorageBalance, StorageBalanceBounds};
use near_sdk::{env, near, AccountId, NearToken, Promise};

use crate::errors::Error;
use crate::record::CHANNEL_BYTES;
use crate::storage_keys::StorageKey;
use crate::{require_one_yocto, store, Channels, ChannelsExt};

/// Bytes that the chain adds to every record.
pub const RECORD_OVERHEAD: u64 = 40;
/// Bytes of the version, an amount and a count.
const ACCOUNT_VALUE: u64 = 1 + 16 + 8;

#[near(serializers = [borsh])]
pub enum AccountRecord {
    V1(Account),
}

#[near(serializers = [borsh])]
pub struct Account {
    /// yoctoNEAR put down for storage.
    deposit: u128,
    /// What it stores: its record and its channels.
    bytes: u64,
}

impl Account {
    fn find(id: &AccountId) -> Option<Self> {
        let AccountRecord::V1(account) = store::load(StorageKey::Accounts, id.as_bytes())?;
        Some(account)
    }

    fn save(self, id: &AccountId) {
        store::save(StorageKey::Accounts, id.as_bytes(), &AccountRecord::V1(self));
    }

    fn balance(&self) -> StorageBalance {
        StorageBalance {
            total: NearToken::from_yoctonear(self.deposit),
            available: NearToken::from_yoctonear(self.available()),
        }
    }

    fn available(&self) -> u128 {
        self.deposit.saturating_sub(price(self.bytes))
    }
}

/// yoctoNEAR that so many bytes lock.
fn price(bytes: u64) -> u128 {
    env::storage_byte_cost().as_yoctonear() * u128::from(bytes)
}

fn account_bytes(name_length: usize) -> u64 {
    RECORD_OVERHEAD + 1 + name_length as u64 + ACCOUNT_VALUE
}

/// Charges `bytes` more to an account.
pub fn charge(id: &AccountId, bytes: u64) -> Result<(), Error> {
    let mut account = Account::find(id).ok_or_else(|| Error::NotRegistered(id.clone()))?;
    account.bytes += bytes;
    let lacking = price(account.bytes).saturating_sub(account.deposit);
    if lacking != 0 {
        return Err(Error::Storage(NearToken::from_yoctonear(lacking)));
    }
    account.save(id);
    Ok(())
}

#[near]
impl Channels {
    /// NEP-145. Opens an account; what exceeds its record waits for channels.
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
        let found = Account::find(&id);
        let needed = if found.is_some() { 0 } else { price(account_bytes(id.len())) };
        if attached < needed {
            return Err(Error::Storage(NearToken::from_yoctonear(needed)));
        }
        let kept = if registration_only == Some(true) { needed } else { attached };
        let mut account = found.unwrap_or(Account { deposit: 0, bytes: account_bytes(id.len()) });
        account.deposit += kept;
        let balance = account.balance();
        account.save(&id);
        refund(&payer, attached - kept);
        Ok(balance)
    }

    /// NEP-145. Sends back NEAR that pays for nothing.
    #[payable]
    #[handle_result]
    pub fn storage_withdraw(&mut self, amount: Option<NearToken>) -> Result<StorageBalance, Error> {
        require_one_yocto()?;
        let id = env::predecessor_account_id();
        let mut account = Account::find(&id).ok_or_else(|| Error::NotRegistered(id.clone()))?;
        let available = account.available();
        let wanted = amount.map_or(available, |amount| amount.as_yoctonear());
        if wanted > available {
            return Err(Error::Insufficient { account: id, available, needed: wanted });
        }
        account.deposit -= wanted;
        let balance = account.balance();
        account.save(&id);
        refund(&id, wanted + 1);
        Ok(balance)
    }

    /// NEP-145. Closes an account that never opened a channel, whose record outlives every voucher; `force` changes
    /// nothing.
    #[payable]
    #[handle_result]
    pub fn storage_unregister(&mut self, force: Option<bool>) -> Result<bool, Error> {
        let _ = force;
        require_one_yocto()?;
        let id = env::predecessor_account_id();
        let Some(account) = Account::find(&id) else { return Ok(false) };
        if account.bytes != account_bytes(id.len()) {
            return Err(Error::InUse);
        }
        store::remove(StorageKey::Accounts, id.as_bytes());
        refund(&id, account.deposit + 1);
        Ok(true)
    }

    pub fn storage_balance_bounds(&self) -> StorageBalanceBounds {
        // Of the longest name: enough for anybody.
        let least = price(account_bytes(AccountId::MAX_LEN));
        StorageBalanceBounds { min: NearToken::from_yoctonear(least), max: None }
    }

    pub fn storage_balance_of(&self, account_id: AccountId) -> Option<StorageBalance> {
        Account::find(&account_id).map(|account| account.balance())
    }

    /// yoctoNEAR that an account and each of its channels cost.
    pub fn storage_cost(&self, account_id: AccountId) -> StorageCost {
        StorageCost {
            account: NearToken::from_yoctonear(price(account_bytes(account_id.len()))),
            channel: NearToken::from_yoctonear(price(CHANNEL_BYTES)),
        }
    }
}

#[near(serializers = [json])]
pub struct StorageCost {
    pub account: NearToken,
    pub channel: NearToken,
}

/// Sends NEAR back; nothing waits for it, and a receiver cannot refuse.
fn refund(to: &AccountId, amount: u128) {
    if amount != 0 {
        Promise::new(to.clone()).transfer(NearToken::from_yoctonear(amount)).detach();
    }
}
