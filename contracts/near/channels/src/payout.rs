//! Tokens that leave: to the owner's and the client's own accounts. There is no balance to withdraw.
//!
//! A transfer is on its way for a few blocks, in which the channel may be redeemed again, closed and opened again.
//! What the token refuses is therefore not put back into the deposit but into a place of its own in the channel's
//! record, which was paid for at the first opening: no callback ever needs storage, and neither party's money
//! becomes the other's.
use near_sdk::json_types::U128;
use near_sdk::{env, ext_contract, near, AccountId, NearToken, Promise, PromiseError, PromiseOrValue};

use crate::errors::Error;
use crate::events::Event;
use crate::forms::Channel;
use crate::record::Record;
use crate::types::Word;
use crate::{gas, require_no_deposit, Channels, ChannelsExt};

#[ext_contract(ext_token)]
#[allow(dead_code)] // only the generated caller is used
trait Token {
    fn ft_transfer(&mut self, receiver_id: AccountId, amount: U128);
}

/// A part of a payment: from which channel, and to which of its parties.
#[near(serializers = [borsh])]
pub struct Due {
    channel_id: Word,
    to_client: bool,
    amount: U128,
}

/// One transfer.
#[near(serializers = [borsh])]
pub struct Payment {
    to: AccountId,
    dues: Vec<Due>,
}

impl Payment {
    /// None where there is nothing to pay.
    pub fn to_owner(channel_id: Word, channel: &Channel, amount: u128) -> Option<Self> {
        Self::of(channel.node.owner_id(), Due { channel_id, to_client: false, amount: U128(amount) })
    }

    pub fn to_client(channel_id: Word, channel: &Channel, amount: u128) -> Option<Self> {
        Self::of(channel.client.clone(), Due { channel_id, to_client: true, amount: U128(amount) })
    }

    fn of(to: AccountId, due: Due) -> Option<Self> {
        (due.amount.0 != 0).then(|| Self { to, dues: vec![due] })
    }

    /// To the owner of a channel, together with what goes there already.
    pub fn add(payments: &mut Vec<Self>, channel_id: Word, channel: &Channel, amount: u128) {
        let owner = channel.node.owner();
        match payments.iter_mut().find(|one| one.to.as_str() == owner) {
            Some(one) => one.dues.push(Due { channel_id, to_client: false, amount: U128(amount) }),
            None => payments.extend(Self::to_owner(channel_id, channel, amount)),
        }
    }

    fn sum(&self) -> u128 {
        self.dues.iter().map(|due| due.amount.0).sum()
    }
}

impl Channels {
    /// The last thing a call does; the value is whether everything arrived.
    pub(crate) fn pay(&self, payments: Vec<Payment>) -> PromiseOrValue<bool> {
        let transfer = |payment: &Payment| {
            ext_token::ext(self.token.clone())
                .with_attached_deposit(NearToken::from_yoctonear(1))
                .with_static_gas(gas::TOKEN_CALL)
                .ft_transfer(payment.to.clone(), U128(payment.sum()))
        };
        let Some(sent) = payments.iter().map(transfer).reduce(Promise::and) else {
            return PromiseOrValue::Value(true);
        };
        let dues: usize = payments.iter().map(|payment| payment.dues.len()).sum();
        let needed = gas::CALLBACK.saturating_add(gas::RESTORE.saturating_mul(dues as u64));
        let callback = Self::ext(env::current_account_id()).with_static_gas(needed).on_sent(payments);
        sent.then(callback).into()
    }
}

impl Due {
    fn put_back(&self) {
        // Every channel that ever paid has a record, for good.
        let mut record = Record::find(&self.channel_id).unwrap_or_default();
        if self.to_client {
            record.due_client += self.amount.0;
        } else {
            record.due_owner += self.amount.0;
        }
        record.save(&self.channel_id);
    }
}

#[near]
impl Channels {
    /// After the transfers, in their order.
    #[private]
    pub fn on_sent(#[serializer(borsh)] payments: Vec<Payment>) -> bool {
        let mut have_arrived = true;
        for (i, Payment { to, dues }) in (0..).zip(payments) {
            if !matches!(env::promise_result_checked(i, 0), Err(PromiseError::Failed)) {
                continue;
            }
            have_arrived = false;
            for due in dues {
                due.put_back();
                Event::TransferFailed { channel_id: due.channel_id, to: &to, amount: due.amount }.emit();
            }
        }
        have_arrived
    }

    /// Anybody: sends once more what the token refused, to whom it is due.
    #[handle_result]
    pub fn pay_due(&self, channel: Channel) -> Result<PromiseOrValue<bool>, Error> {
        require_no_deposit();
        let id = self.id_of(&channel);
        let record = Record::find(&id).unwrap_or_default();
        let payments = [
            Payment::to_owner(id, &channel, record.due_owner),
            Payment::to_client(id, &channel, record.due_client),
        ];
        let payments: Vec<Payment> = payments.into_iter().flatten().collect();
        if payments.is_empty() {
            return Err(Error::NothingDue);
        }
        Record { due_owner: 0, due_client: 0, ..record }.save(&id);
        for payment in &payments {
            Event::DueSent { channel_id: id, to: &payment.to, amount: U128(payment.sum()) }.emit();
        }
        Ok(self.pay(payments))
    }
}
