//! Governance: an owner that is handed over in two steps with a delay, guardians that pause, and nothing else.
//!
//! The owner may be a DAO or a multisig: it is an account name. Nobody here can touch balances or stake.
use near_sdk::{env, near, AccountId};

use crate::errors::Error;
use crate::events::Event;
use crate::{now, require_caller, require_one_yocto, Compute, ComputeExt};

const MAX_GUARDIANS: usize = 8;

#[near(serializers = [borsh])]
pub struct Governance {
    pub owner: AccountId,
    /// Who may accept, from when.
    pub proposed: Option<(AccountId, u64)>,
    pub guardians: Vec<AccountId>,
    /// sha256 of the code that may be deployed, from when.
    pub upgrade: Option<([u8; 32], u64)>,
}

impl Governance {
    pub fn new(owner: AccountId, guardian: AccountId) -> Self {
        Self { owner, proposed: None, guardians: vec![guardian], upgrade: None }
    }

    pub fn require_owner(&self) -> Result<(), Error> {
        require_caller(self.owner.as_str())
    }

    pub fn is_guardian(&self, account: &AccountId) -> bool {
        self.guardians.contains(account)
    }
}

impl Compute {
    fn set_paused(&mut self, paused: bool) -> Result<(), Error> {
        let caller = env::predecessor_account_id();
        if !self.governance.is_guardian(&caller) {
            return Err(Error::Forbidden(caller));
        }
        self.paused = paused;
        Event::PauseSet { paused }.emit();
        Ok(())
    }
}

#[near]
impl Compute {
    /// Guardian: stops deposits, registrations, posts and first assignments. Money in flight goes on.
    #[handle_result]
    pub fn pause(&mut self) -> Result<(), Error> {
        self.set_paused(true)
    }

    /// Guardian: allows them again.
    #[handle_result]
    pub fn unpause(&mut self) -> Result<(), Error> {
        self.set_paused(false)
    }

    #[payable]
    #[handle_result]
    pub fn add_guardian(&mut self, account_id: AccountId) -> Result<(), Error> {
        require_one_yocto()?;
        self.governance.require_owner()?;
        if self.governance.is_guardian(&account_id) || self.governance.guardians.len() >= MAX_GUARDIANS {
            return Err(Error::BadData);
        }
        Event::GuardianSet { account_id: &account_id, on: true }.emit();
        self.governance.guardians.push(account_id);
        Ok(())
    }

    #[payable]
    #[handle_result]
    pub fn remove_guardian(&mut self, account_id: AccountId) -> Result<(), Error> {
        require_one_yocto()?;
        self.governance.require_owner()?;
        if !self.governance.is_guardian(&account_id) {
            return Err(Error::BadData);
        }
        self.governance.guardians.retain(|one| *one != account_id);
        Event::GuardianSet { account_id: &account_id, on: false }.emit();
        Ok(())
    }

    /// Owner: names its successor, who may accept after the delay; null takes the proposal back.
    #[payable]
    #[handle_result]
    pub fn propose_owner(&mut self, account_id: Option<AccountId>) -> Result<(), Error> {
        require_one_yocto()?;
        self.governance.require_owner()?;
        let not_before = now() + self.parameters.owner_delay;
        Event::OwnerProposed { account_id: account_id.as_ref(), not_before }.emit();
        self.governance.proposed = account_id.map(|account| (account, not_before));
        Ok(())
    }

    /// The proposed owner, after the delay.
    #[payable]
    #[handle_result]
    pub fn accept_owner(&mut self) -> Result<(), Error> {
        require_one_yocto()?;
        let caller = env::predecessor_account_id();
        let Some((account, not_before)) = self.governance.proposed.clone() else {
            return Err(Error::Forbidden(caller));
        };
        require_caller(account.as_str())?;
        if now() < not_before {
            return Err(Error::TooEarly(not_before));
        }
        Event::OwnerChanged { account_id: &account }.emit();
        self.governance.owner = account;
        self.governance.proposed = None;
        Ok(())
    }
}
