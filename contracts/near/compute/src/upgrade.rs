//! Upgrades: announced by hash, carried out after a delay that is longer than unbonding.
//!
//! Deployment, `migrate` of the new code and a first read of it are one receipt: if one fails the old code and
//! the old state stay, and the announced upgrade may be tried again.
use near_sdk::json_types::Base58CryptoHash;
use near_sdk::{env, near, NearToken, Promise};

use crate::errors::Error;
use crate::events::Event;
use crate::{gas, now, require_one_yocto, Compute, ComputeExt, STATE_VERSION};

#[near]
impl Compute {
    /// Owner: announces code by its sha256.
    #[payable]
    #[handle_result]
    pub fn propose_upgrade(&mut self, code_hash: Base58CryptoHash) -> Result<(), Error> {
        require_one_yocto()?;
        self.governance.require_owner()?;
        let not_before = now() + self.parameters.upgrade_delay;
        self.governance.upgrade = Some((code_hash.into(), not_before));
        Event::UpgradeProposed { code_hash, not_before }.emit();
        Ok(())
    }

    /// Owner or guardian.
    #[handle_result]
    pub fn cancel_upgrade(&mut self) -> Result<(), Error> {
        let caller = env::predecessor_account_id();
        let governance = &mut self.governance;
        if caller != governance.owner && !governance.is_guardian(&caller) {
            return Err(Error::Forbidden(caller));
        }
        let (hash, _) = governance.upgrade.take().ok_or(Error::NoUpgrade)?;
        Event::UpgradeCancelled { code_hash: hash.into() }.emit();
        Ok(())
    }

    /// Owner, after the delay: the input is the wasm itself.
    #[handle_result]
    pub fn upgrade(&self) -> Result<Promise, Error> {
        self.governance.require_owner()?;
        let (hash, not_before) = self.governance.upgrade.ok_or(Error::NoUpgrade)?;
        if now() < not_before {
            return Err(Error::TooEarly(not_before));
        }
        let code = env::input().unwrap_or_default();
        if env::sha256_array(&code) != hash {
            return Err(Error::NoUpgrade);
        }
        let nothing = NearToken::from_yoctonear(0);
        Ok(Promise::new(env::current_account_id())
            .deploy_contract(code)
            .function_call("migrate".to_string(), Vec::new(), nothing, gas::MIGRATE)
            .function_call("governance".to_string(), Vec::new(), nothing, gas::FIRST_READ))
    }

    /// Called by `upgrade` on the code it deployed. State of another version than the ones named here is refused,
    /// which undoes the deployment.
    #[private]
    #[init(ignore_state)]
    #[handle_result]
    pub fn migrate() -> Result<Self, Error> {
        // The version is the first field of every layout.
        let stored = env::storage_read(b"STATE").unwrap_or_default();
        let version = stored.first_chunk().map(|bytes| u16::from_le_bytes(*bytes));
        if version != Some(STATE_VERSION) {
            return Err(Error::NoUpgrade);
        }
        let mut this: Self = env::state_read().ok_or(Error::NoUpgrade)?;
        this.governance.upgrade = None;
        Event::Upgraded { version: STATE_VERSION }.emit();
        Ok(this)
    }
}
