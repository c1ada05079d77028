//! How a channel is named and what its session key signs.
use crate::forms::{Channel, Voucher};
use crate::hash::{bytes, digest, text, word};
use crate::types::Word;

/// Of the domain.
pub const NAME: &str = "deai channels";

/// Keccak-256 of the type texts beside them; a test hashes the texts.
pub const CHANNEL: (&str, [u8; 32]) = (
    "Channel(string client,string node,bytes32 sessionKey)",
    bytes("7133980b9bea67332865b258b748a462c8e505beaf40579a1e9979370a08625b"),
);
pub const VOUCHER: (&str, [u8; 32]) = (
    "Voucher(bytes32 channelId,uint24 epoch,uint96 cumulativeAmount,bytes32 receiptsRoot)",
    bytes("2f5f45a6668a013a98a6745c9b52b2b63cc534bb216ec724b1a534a49c0e78c9"),
);

/// The id of a channel: binds chain, contract and every field.
pub fn channel_id(domain: &[u8; 32], c: &Channel) -> Word {
    let fields = [CHANNEL.1, text(c.client.as_str()), text(c.node.as_str()), c.session_key.0];
    Word(digest(domain, &fields))
}

pub fn voucher(domain: &[u8; 32], id: &Word, epoch: u32, v: &Voucher) -> [u8; 32] {
    let fields = [VOUCHER.1, id.0, word(epoch), word(v.cumulative_amount.0), v.receipts_root.0];
    digest(domain, &fields)
}
