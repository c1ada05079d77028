//! Opening, topping up, and the two ways in which a channel ends.
use near_sdk::json_types::U128;
use near_sdk::{near, AccountId, PromiseOrValue};

use crate::errors::Error;
use crate::events::Event;
use crate::forms::{Channel, Voucher};
use crate::payout::Payment;
use crate::record::{Record, State, CHANNEL_BYTES};
use crate::storage::charge;
use crate::types::{NodeId, OperatorKey, Word, MAX_AMOUNT};
use crate::{now, require_caller, require_no_deposit, require_one_yocto, signed, Channels, ChannelsExt};

#[near(serializers = [json])]
#[serde(deny_unknown_fields)]
pub struct Open {
    node: NodeId,
    session_key: OperatorKey,
}

impl Channels {
    pub(crate) fn id_of(&self, channel: &Channel) -> Word {
        signed::channel_id(&self.domain, channel)
    }

    pub(crate) fn open(&self, client: AccountId, deposit: u128, it: Open) -> Result<(), Error> {
        let channel = Channel { client, node: it.node, session_key: it.session_key };
        let id = self.id_of(&channel);
        let found = Record::find(&id);
        let is_new = found.is_none();
        let mut record = found.unwrap_or_default();
        record.open(&id, deposit)?;
        if is_new {
            charge(&channel.client, CHANNEL_BYTES)?;
        }
        Event::ChannelOpened {
            channel_id: id,
            client: &channel.client,
            node: &channel.node,
            session_key: channel.session_key,
            epoch: record.epoch,
            deposit: U128(deposit),
        }
        .emit();
        record.save(&id);
        Ok(())
    }

    pub(crate) fn top_up(&self, id: Word, amount: u128) -> Result<(), Error> {
        let mut record = Record::live(&id)?;
        if record.closes_at != 0 {
            return Err(Error::BadState(id, State::Closing));
        }
        if record.deposit > MAX_AMOUNT - amount {
            return Err(Error::BadData);
        }
        record.deposit += amount;
        let deposit = U128(record.deposit);
        Event::ChannelToppedUp { channel_id: id, amount: U128(amount), deposit }.emit();
        record.save(&id);
        Ok(())
    }
}

/// A closed channel holds nothing, and keeps its record. Returns what the client gets back.
fn end(id: Word, mut record: Record) -> u128 {
    let (epoch, claimed) = (record.epoch, U128(record.claimed));
    let refunded = record.end();
    Event::ChannelClosed { channel_id: id, epoch, claimed, refunded: U128(refunded) }.emit();
    record.save(&id);
    refunded
}

#[near]
impl Channels {
    /// The node's owner: ends the channel at once, redeeming its last voucher first if that pays anything; the rest
    /// returns to the client.
    #[payable]
    #[handle_result]
    pub fn close(
        &mut self,
        channel: Channel,
        voucher: Option<Voucher>,
    ) -> Result<PromiseOrValue<bool>, Error> {
        require_one_yocto()?;
        require_caller(channel.node.owner())?;
        let id = self.id_of(&channel);
        if let Some(voucher) = &voucher {
            voucher.require_sound()?;
        }
        let mut record = Record::live(&id)?;
        let mut paid = 0;
        if let Some(voucher) = &voucher {
            if record.payable(voucher.cumulative_amount.0) != 0 {
                paid = self.redeemed(id, &mut record, &channel.session_key, voucher)?;
            }
        }
        let refunded = end(id, record);
        let payments = [Payment::to_owner(id, &channel, paid), Payment::to_client(id, &channel, refunded)];
        Ok(self.pay(payments.into_iter().flatten().collect()))
    }

    /// The client: starts the challenge period, in which newer vouchers still pay.
    #[payable]
    #[handle_result]
    pub fn request_close(&mut self, channel: Channel) -> Result<(), Error> {
        require_one_yocto()?;
        require_caller(channel.client.as_str())?;
        let id = self.id_of(&channel);
        let mut record = Record::live(&id)?;
        if record.closes_at != 0 {
            return Err(Error::BadState(id, State::Closing));
        }
        record.closes_at = now() + self.parameters.close_period;
        Event::ChannelClosing { channel_id: id, closes_at: record.closes_at }.emit();
        record.save(&id);
        Ok(())
    }

    /// Anybody, after the challenge period: returns the rest to the client.
    #[handle_result]
    pub fn finish(&self, channel: Channel) -> Result<PromiseOrValue<bool>, Error> {
        require_no_deposit();
        let id = self.id_of(&channel);
        let record = Record::live(&id)?;
        if record.closes_at == 0 {
            return Err(Error::BadState(id, State::Open));
        }
        if now() <= record.closes_at {
            return Err(Error::TooEarly(record.closes_at));
        }
        let refunded = end(id, record);
        Ok(self.pay(Payment::to_client(id, &channel, refunded).into_iter().collect()))
    }
}
