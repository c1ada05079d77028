//! Vouchers: whoever holds one has it paid to the node's owner. Never paused, and made for function-call keys: a
//! node's hot key or a watchtower can do it.
use near_sdk::json_types::U128;
use near_sdk::{near, PromiseOrValue};

use crate::errors::Error;
use crate::events::Event;
use crate::forms::{Channel, Redemption, Voucher};
use crate::payout::Payment;
use crate::record::Record;
use crate::types::{OperatorKey, Word};
use crate::{hash, now, require_no_deposit, signed, Channels, ChannelsExt};

/// Of one call. A receipt may log 16 KiB: the longest events of so many vouchers fit, and so do those of the callback
/// when no transfer arrived, which must never fail. The gas of a transaction is enough for thirty owners.
pub const MAX_BATCH: usize = 40;

impl Channels {
    /// One voucher for one channel, from its arguments; what it pays is on its way out of the deposit.
    fn take(&self, id: Word, channel: &Channel, voucher: &Voucher) -> Result<u128, Error> {
        voucher.require_sound()?;
        let mut record = Record::live(&id)?;
        let paid = self.redeemed(id, &mut record, &channel.session_key, voucher)?;
        record.save(&id);
        Ok(paid)
    }

    /// Counts a voucher as paid. The order of the checks is the core's.
    pub(crate) fn redeemed(
        &self,
        id: Word,
        record: &mut Record,
        key: &OperatorKey,
        voucher: &Voucher,
    ) -> Result<u128, Error> {
        let paid = record.payable(voucher.cumulative_amount.0);
        if paid == 0 {
            return Err(Error::NothingNew(record.claimed));
        }
        if record.closes_at != 0 && now() > record.closes_at {
            return Err(Error::TooLate(record.closes_at));
        }
        let digest = signed::voucher(&self.domain, &id, record.epoch, voucher);
        if !hash::is_signed(digest, &voucher.signature, key) {
            return Err(Error::BadSignature);
        }
        record.claimed += paid;
        let (claimed, receipts_root) = (U128(record.claimed), voucher.receipts_root);
        Event::VoucherRedeemed { channel_id: id, paid: U128(paid), claimed, receipts_root }.emit();
        Ok(paid)
    }
}

#[near]
impl Channels {
    /// Anybody: pays the node's owner what a voucher promises beyond what was claimed, as far as the deposit goes.
    #[handle_result]
    pub fn redeem(&self, channel: Channel, voucher: Voucher) -> Result<PromiseOrValue<bool>, Error> {
        require_no_deposit();
        let id = self.id_of(&channel);
        let paid = self.take(id, &channel, &voucher)?;
        Ok(self.pay(Payment::to_owner(id, &channel, paid).into_iter().collect()))
    }

    /// The same for many channels; one that cannot be redeemed does not stop the others. Each owner is paid once.
    #[handle_result]
    pub fn redeem_many(&self, batch: Vec<Redemption>) -> Result<PromiseOrValue<bool>, Error> {
        require_no_deposit();
        if batch.len() > MAX_BATCH {
            return Err(Error::BadData);
        }
        let mut payments: Vec<Payment> = vec![];
        for Redemption { channel, voucher } in batch {
            let id = self.id_of(&channel);
            match self.take(id, &channel, &voucher) {
                Ok(paid) => Payment::add(&mut payments, id, &channel, paid),
                Err(refused) => Event::VoucherSkipped { channel_id: id, reason: refused.name() }.emit(),
            }
        }
        if payments.is_empty() {
            return Err(Error::NothingRedeemed);
        }
        Ok(self.pay(payments))
    }
}
