//! Who may propose and who may cancel: accounts named by an owner, who is handed over in two steps with a delay.
//!
//! The owner may be a DAO or a multisig. Nobody here can touch what is paid, or to whom, but by a root.
use near_sdk::{env, near, AccountId};

use crate::errors::Error;
use crate::events::Event;
use crate::{now, require_caller, require_one_yocto, Rewards, RewardsExt};

/// Of one role.
const MAX_HOLDERS: usize = 8;

#[near(serializers = [json])]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Proposer,
    Guardian,
}

#[near(serializers = [borsh])]
pub struct Roles {
    pub owner: AccountId,
    /// Who may accept, from when.
    pub proposed: Option<(AccountId, u64)>,
    pub proposers: Vec<AccountId>,
    pub guardians: Vec<AccountId>,
}

impl Roles {
    pub fn new(owner: AccountId, proposer: AccountId, guardian: AccountId) -> Self {
        Self { owner, proposed: None, proposers: vec![proposer], guardians: vec![guardian] }
    }

    fn holders(&mut self, role: Role) -> &mut Vec<AccountId> {
        match role {
            Role::Proposer => &mut self.proposers,
            Role::Guardian => &mut self.guardians,
        }
    }

    /// The caller has the role.
    pub fn require(&self, role: Role) -> Result<(), Error> {
        let holders = match role {
            Role::Proposer => &self.proposers,
            Role::Guardian => &self.guardians,
        };
        let caller = env::predecessor_account_id();
        if !holders.contains(&caller) {
            return Err(Error::Forbidden(caller));
        }
        Ok(())
    }
}

impl Rewards {
    fn require_owner(&self) -> Result<(), Error> {
        require_one_yocto()?;
        require_caller(self.roles.owner.as_str())
    }
}

#[near]
impl Rewards {
    /// Owner: gives a role to an account that does not have it.
    #[payable]
    #[handle_result]
    pub fn grant(&mut self, role: Role, account_id: AccountId) -> Result<(), Error> {
        self.require_owner()?;
        let holders = self.roles.holders(role);
        if holders.contains(&account_id) || holders.len() >= MAX_HOLDERS {
            return Err(Error::BadData);
        }
        Event::RoleSet { role, account_id: &account_id, on: true }.emit();
        holders.push(account_id);
        Ok(())
    }

    /// Owner: takes a role from an account that has it.
    #[payable]
    #[handle_result]
    pub fn revoke(&mut self, role: Role, account_id: AccountId) -> Result<(), Error> {
        self.require_owner()?;
        let holders = self.roles.holders(role);
        if !holders.contains(&account_id) {
            return Err(Error::BadData);
        }
        holders.retain(|one| *one != account_id);
        Event::RoleSet { role, account_id: &account_id, on: false }.emit();
        Ok(())
    }

    /// Owner: names its successor, who may accept after the delay; null takes the proposal back.
    #[payable]
    #[handle_result]
    pub fn propose_owner(&mut self, account_id: Option<AccountId>) -> Result<(), Error> {
        self.require_owner()?;
        let not_before = now() + self.parameters.owner_delay;
        Event::OwnerProposed { account_id: account_id.as_ref(), not_before }.emit();
        self.roles.proposed = account_id.map(|account| (account, not_before));
        Ok(())
    }

    /// The proposed owner, after the delay.
    #[payable]
    #[handle_result]
    pub fn accept_owner(&mut self) -> Result<(), Error> {
        require_one_yocto()?;
        let Some((account, not_before)) = self.roles.proposed.clone() else {
            return Err(Error::Forbidden(env::predecessor_account_id()));
        };
        require_caller(account.as_str())?;
        if now() < not_before {
            return Err(Error::TooEarly(not_before));
        }
        Event::OwnerChanged { account_id: &account }.emit();
        self.roles.owner = account;
        self.roles.proposed = None;
        Ok(())
    }
}
