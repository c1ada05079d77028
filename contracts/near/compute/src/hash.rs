//! What parties sign and commit to: EIP-712 shapes over Keccak-256 with NEAR's own domain (ADR 6).
use near_sdk::{env, AccountId};

use crate::types::{NodeId, OperatorKey, Seat, Signature, Task, Word};

const FAULT_CODES: u8 = 8; // 1..8

/// Keccak-256 of the type texts beside them; a test hashes the texts.
pub const DOMAIN: (&str, [u8; 32]) = (
    "NearDomain(string name,string version,string chainId,string contract)",
    bytes("0d338f51a3161d9bbd6ce6fa4e4d1e270821bfb6d954afb4ccd0b171ae16212f"),
);
pub const TASK: (&str, [u8; 32]) = (
    "Task(string client,uint32 lane,uint32 nonce,uint96 fee,uint96 tip,uint8 seats,uint8 policy,\
     uint32 lease,uint40 commitDeadline,uint32 window,bytes32 specHash)",
    bytes("d0e28a5d67791dce683ba52dfe880ffb02e060fcc74909bb428d965f16c78efa"),
);
pub const ACCEPT: (&str, [u8; 32]) = (
    "Accept(bytes32 taskId,uint8 seat,uint8 attempt,string node,uint40 validUntil)",
    bytes("de00b11793dec8847896b59df70bdc8cb81cd7dbb23545b9eaf86effae13146b"),
);
pub const COMMIT: (&str, [u8; 32]) = (
    "Commit(bytes32 taskId,uint8 seat,uint8 attempt,bytes32 value)",
    bytes("63c5fe54bc4e335a58945134d3375791546a522d15c7b8b43e1ac50c349d7af3"),
);
pub const RESULT: (&str, [u8; 32]) = (
    "Result(bytes32 taskId,uint8 seat,uint8 attempt,bytes32 outputDigest,bytes32 evidenceDigest)",
    bytes("d4d7607923b8f3a1dbfd8cade9fa27fe0979ba8ef7ccf9d42b27f596fc4d4d71"),
);
pub const APPROVAL: (&str, [u8; 32]) = (
    "Approval(bytes32 taskId,uint8 seat,bytes32 commitments,uint16 mask)",
    bytes("2842b60f60db44c523aa0f6179fe4ccd5e909a15f8dfac842d7dfa0b6469a10f"),
);
pub const OPERATE: (&str, [u8; 32]) = (
    "Operate(string node,bytes32 operator,uint40 validUntil)",
    bytes("1b32452933982e4cd3e886e8ae8937708e5d872521df6be6958b9542cbe672e2"),
);
pub const COMMITMENT: (&str, [u8; 32]) =
    ("deai commit/1", bytes("47f75fc0d95350ca6a9bbff39f6254b35a91bd88f70a417b68da6f231c231eae"));
pub const FAULT: (&str, [u8; 32]) =
    ("fault/1", bytes("e4d948744a58fce5239d8b0509234ffcb4e83587d3859a7c8ea98aa99162c88f"));

pub const fn bytes(hex: &str) -> [u8; 32] {
    let digits = hex.as_bytes();
    assert!(digits.len() == 64);
    let mut out = [0; 32];
    let mut i = 0;
    while i < 64 {
        let digit = digits[i];
        let value = if digit <= b'9' { digit - b'0' } else { digit - b'a' + 10 };
        out[i / 2] = out[i / 2] << 4 | value;
        i += 1;
    }
    out
}

fn keccak(words: &[[u8; 32]]) -> [u8; 32] {
    env::keccak256_array(words.as_flattened())
}

pub fn text(value: &str) -> [u8; 32] {
    env::keccak256_array(value.as_bytes())
}

pub fn word(value: impl Into<u128>) -> [u8; 32] {
    let mut out = [0; 32];
    out[16..].copy_from_slice(&value.into().to_be_bytes());
    out
}

/// Hash of a domain; computed once, when the contract is deployed.
pub fn separator(name: &str, chain_id: &str, contract: &AccountId) -> [u8; 32] {
    keccak(&[DOMAIN.1, text(name), text("1"), text(chain_id), text(contract.as_str())])
}

pub fn digest(separator: &[u8; 32], fields: &[[u8; 32]]) -> [u8; 32] {
    let mut message = [0; 66];
    message[..2].copy_from_slice(b"\x19\x01");
    message[2..34].copy_from_slice(separator);
    message[34..].copy_from_slice(&keccak(fields));
    env::keccak256_array(message)
}

/// The id of a task: binds chain, contract and every field.
pub fn task(separator: &[u8; 32], t: &Task) -> Word {
    Word(digest(
        separator,
        &[
            TASK.1,
            text(t.client.as_str()),
            word(t.lane),
            word(t.nonce),
            word(t.fee.0),
            word(t.tip.0),
            word(t.seats),
            word(t.policy),
            word(t.lease),
            word(t.commit_deadline),
            word(t.window),
            t.spec_hash.0,
        ],
    ))
}

pub fn operate(separator: &[u8; 32], node: &NodeId, key: &OperatorKey, valid_until: u64) -> [u8; 32] {
    digest(separator, &[OPERATE.1, text(node.as_str()), key.0, word(valid_until)])
}

/// One seat of one task under the escrow's domain: what its key signs.
pub struct Signing<'a> {
    pub separator: &'a [u8; 32],
    pub id: &'a Word,
    pub seat: usize,
    pub attempt: u8,
}

impl Signing<'_> {
    fn place(&self) -> [u8; 32] {
        word(self.seat as u128)
    }

    pub fn accept(&self, node: &NodeId, valid_until: u64) -> [u8; 32] {
        let node = text(node.as_str());
        let fields = [ACCEPT.1, self.id.0, self.place(), word(self.attempt), node, word(valid_until)];
        digest(self.separator, &fields)
    }

    pub fn commit(&self, value: &Word) -> [u8; 32] {
        let fields = [COMMIT.1, self.id.0, self.place(), word(self.attempt), value.0];
        digest(self.separator, &fields)
    }

    pub fn result(&self, output: &Word, evidence: &Word) -> [u8; 32] {
        let fields = [RESULT.1, self.id.0, self.place(), word(self.attempt), output.0, evidence.0];
        digest(self.separator, &fields)
    }

    pub fn approval(&self, acc: &Word, mask: u16) -> [u8; 32] {
        digest(self.separator, &[APPROVAL.1, self.id.0, self.place(), acc.0, word(mask)])
    }
}

/// Bound to the seat, attempt and node: a copied commitment opens for nobody else.
pub fn commitment(id: &Word, index: usize, seat: &Seat, digest: &Word, salt: &Word) -> Word {
    Word(keccak(&[
        COMMITMENT.1,
        id.0,
        word(index as u128),
        word(seat.attempt),
        text(seat.node.as_str()),
        digest.0,
        salt.0,
    ]))
}

/// The digest by which a seat says that the task itself is bad.
pub fn fault(id: &Word, code: u8) -> Word {
    Word(keccak(&[FAULT.1, id.0, word(code)]))
}

pub fn is_fault(id: &Word, digest: &Word) -> bool {
    (1..=FAULT_CODES).any(|code| fault(id, code) == *digest)
}

/// What a lane keeps of a committee: who sits there, with which key, until when, in which attempt.
pub fn committee(id: &Word, seats: &[Seat]) -> Word {
    let mut words = Vec::with_capacity(1 + 3 * seats.len());
    words.push(id.0);
    for seat in seats {
        words.push(text(seat.node.as_str()));
        words.push(seat.operator.0);
        words.push(word(u128::from(seat.lease_end) << 8 | u128::from(seat.attempt)));
    }
    Word(keccak(&words))
}

pub fn is_signed(digest: [u8; 32], signature: &Signature, key: &OperatorKey) -> bool {
    env::ed25519_verify(&signature.0, digest, &key.0)
}

/// The commitments of a task in the order of the chain: hash chain 208 | nonce 32 | committed seats 16.
/// The same word on both chains; approvals sign it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    hash: [u8; 32],
    pub nonce: u32,
    pub seats: u16,
}

impl Chain {
    pub fn new(nonce: u32) -> Self {
        Self { hash: [0; 32], nonce, seats: 0 }
    }

    pub fn push(&mut self, seat: usize, value: &Word) {
        let mut hash = keccak(&[self.hash, word(seat as u128), value.0]);
        hash[26..].fill(0);
        self.hash = hash;
        self.seats |= 1 << seat;
    }

    pub fn acc(&self) -> Word {
        let mut out = self.hash;
        out[26..30].copy_from_slice(&self.nonce.to_be_bytes());
        out[30..].copy_from_slice(&self.seats.to_be_bytes());
        Word(out)
    }

    pub fn read(acc: &Word) -> Self {
        let (mut nonce, mut seats, mut hash) = ([0; 4], [0; 2], acc.0);
        nonce.copy_from_slice(&acc.0[26..30]);
        seats.copy_from_slice(&acc.0[30..]);
        hash[26..].fill(0);
        Self { hash, nonce: u32::from_be_bytes(nonce), seats: u16::from_be_bytes(seats) }
    }
}
