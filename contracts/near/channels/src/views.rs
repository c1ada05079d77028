//! What anybody may read.
use near_sdk::json_types::{Base58CryptoHash, U128};
use near_sdk::{near, AccountId};

use crate::errors::Error;
use crate::forms::Channel;
use crate::record::{Record, State};
use crate::types::Word;
use crate::{Channels, ChannelsExt, Parameters};

const MAX_PAGE: usize = 100;

/// A channel; zeros where none was ever opened.
#[near(serializers = [json])]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelView {
    pub channel_id: Word,
    pub state: State,
    pub deposit: U128,
    pub claimed: U128,
    pub closes_at: u64,
    pub epoch: u32,
    pub due_owner: U128,
    pub due_client: U128,
}

#[near(serializers = [json])]
pub struct UpgradeView {
    pub code_hash: Base58CryptoHash,
    pub not_before: u64,
}

#[near(serializers = [json])]
pub struct GovernanceView {
    pub version: u16,
    pub token: AccountId,
    pub chain_id: String,
    pub owner: AccountId,
    pub proposed_owner: Option<AccountId>,
    pub accept_not_before: Option<u64>,
    pub guardians: Vec<AccountId>,
    pub paused: bool,
    pub upgrade: Option<UpgradeView>,
}

#[near]
impl Channels {
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub fn governance(&self) -> GovernanceView {
        let governance = &*self.governance;
        let (proposed_owner, accept_not_before) = governance.proposed.clone().unzip();
        GovernanceView {
            version: self.version,
            token: self.token.clone(),
            chain_id: self.chain_id.clone(),
            owner: governance.owner.clone(),
            proposed_owner,
            accept_not_before,
            guardians: governance.guardians.clone(),
            paused: self.paused,
            upgrade: governance
                .upgrade
                .map(|(hash, not_before)| UpgradeView { code_hash: hash.into(), not_before }),
        }
    }

    pub fn channel_id(&self, channel: Channel) -> Word {
        self.id_of(&channel)
    }

    pub fn get_channel(&self, channel_id: Word) -> ChannelView {
        let record = Record::find(&channel_id).unwrap_or_default();
        ChannelView {
            channel_id,
            state: record.state(),
            deposit: U128(record.deposit),
            claimed: U128(record.claimed),
            closes_at: record.closes_at,
            epoch: record.epoch,
            due_owner: U128(record.due_owner),
            due_client: U128(record.due_client),
        }
    }

    /// A page of the caller's own list, at most 100: the contract keeps none, events tell which channels exist.
    #[handle_result]
    pub fn get_channels(&self, channel_ids: Vec<Word>) -> Result<Vec<ChannelView>, Error> {
        if channel_ids.len() > MAX_PAGE {
            return Err(Error::BadData);
        }
        Ok(channel_ids.into_iter().map(|id| self.get_channel(id)).collect())
    }
}
