//! What Python wrote into `contracts/spec/vectors/channels.json`, replayed: what it signs is redeemed, and what the
//! core says of a run of calls is what the contract does.
use near_sdk::serde_json::Value;

use super::*;

fn read() -> Value {
    let path = format!("{}/../../spec/vectors/channels.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

fn from<T: std::str::FromStr<Err = &'static str>>(value: &Value) -> T {
    value.as_str().unwrap().parse().unwrap()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn sum(value: &Value) -> u128 {
    value.as_str().map_or_else(|| u128::from(value.as_u64().unwrap()), |text| text.parse().unwrap())
}

#[test]
fn every_type_hash_is_that_of_its_text() {
    for (text, hash) in [signed::CHANNEL, signed::VOUCHER] {
        assert_eq!(env::keccak256_array(text.as_bytes()), hash, "{text}");
    }
}

#[test]
fn vouchers_that_python_signed_are_redeemed() {
    let file = read();
    let near = &file["near"];
    let text = |name: &str| near["domain"][name].as_str().unwrap();
    assert_eq!(text("name"), signed::NAME);
    let mut world = World::at(text("contract"), text("chainId"), parameters()).unwrap();
    assert_eq!(Word(world.domain), from::<Word>(&near["domain"]["separator"]));
    let cases = list(&near["cases"]);
    assert!(cases.len() >= 5);
    for case in cases {
        let given = &case["channel"];
        let c = Channel {
            client: id(given["client"].as_str().unwrap()),
            node: from(&given["node"]),
            session_key: from(&given["sessionKey"]),
        };
        let channel_id: Word = from(&case["channelId"]);
        assert_eq!(world.view(|it| it.channel_id(c.clone())), channel_id);
        let seed: Word = from(&case["secret"]);
        assert_eq!(SigningKey::from_bytes(&seed.0).verifying_key().to_bytes(), c.session_key.0);
        let (amount, epoch) = (sum(&case["cumulativeAmount"]), case["epoch"].as_u64().unwrap() as u32);
        let voucher = Voucher {
            cumulative_amount: U128(amount),
            receipts_root: from(&case["receiptsRoot"]),
            signature: from(&case["signature"]),
        };
        assert_eq!(voucher.signature.to_string(), case["signature"].as_str().unwrap());
        let digest = signed::voucher(&world.domain, &channel_id, epoch, &voucher);
        assert_eq!(Word(digest), from::<Word>(&case["digest"]));
        world.put(channel_id, Record { deposit: amount, epoch, ..Record::default() });
        let before = world.has(c.node.owner());
        world.tokens.insert(id(text("contract")), amount);
        world.redeem(&c, &voucher).unwrap();
        assert_eq!(world.has(c.node.owner()) - before, amount, "the contract takes it");
    }
}

#[test]
fn a_voucher_for_sei_is_none_here() {
    for case in list(&read()["cases"]) {
        let text = case["signature"].as_str().unwrap();
        let byte = |i| u8::from_str_radix(&text[i..i + 2], 16).unwrap();
        let signature: Vec<u8> = (2..text.len()).step_by(2).map(byte).collect();
        let (seed, digest): (Word, Word) = (from(&case["secret"]), from(&case["digest"]));
        let key = OperatorKey(SigningKey::from_bytes(&seed.0).verifying_key().to_bytes());
        assert!(!crate::hash::is_signed(digest.0, &Signature(signature.try_into().unwrap()), &key));
    }
}

/// What a field reads as by its own decoder and by the one of its type, which must be the same.
fn same<T, U>(
    own: serde_json::Result<T>,
    other: serde_json::Result<T>,
    of: impl Fn(T) -> U,
    text: &str,
) -> bool
where
    U: PartialEq + std::fmt::Debug,
{
    let words = |it: serde_json::Result<T>| it.map(&of).map_err(|error| error.to_string());
    let (own, other) = (words(own), words(other));
    assert_eq!(own, other, "{text}");
    own.is_ok()
}

fn signature_is_read(text: &str) -> bool {
    let voucher = serde_json::json!(
        { "cumulative_amount": "1", "receipts_root": Word::ZERO, "signature": text });
    let own = serde_json::from_value::<Voucher>(voucher).map(|it| it.signature);
    same(own, serde_json::from_value::<Signature>(text.into()), |it| it.0, text)
}

fn key_is_read(text: &str) -> bool {
    let channel = serde_json::json!({ "client": CLIENT, "node": node(0), "session_key": text });
    let own = serde_json::from_value::<Channel>(channel).map(|it| it.session_key);
    same(own, serde_json::from_value::<OperatorKey>(text.into()), |it| it.0, text)
}

const STRANGE: [&str; 16] =
    ["=", "-", "_", " ", "\n", ".", "\u{e9}", "A", "w", "x", "/", "+", "0", "1", "z", ""];

#[test]
fn the_signature_of_a_voucher_is_read_as_every_other_signature() {
    let mut read = 0;
    for i in 0..64 {
        let sound = Signature(session(i).sign(&[i as u8]).to_bytes()).to_string();
        assert!(signature_is_read(&sound));
        for bad in STRANGE {
            // Every digit once; the last ones, which hold bits too many or none, always.
            for at in [i, 63 + i % 25, 84, 85, 86, 87] {
                read += u32::from(signature_is_read(&format!("{}{bad}{}", &sound[..at], &sound[at + 1..])));
                assert!(
                    !signature_is_read(&format!("{}{bad}{bad}{}", &sound[..at], &sound[at..]))
                        || bad.is_empty()
                );
            }
        }
    }
    assert!(read > 500);
}

#[test]
fn the_key_of_a_channel_is_read_as_every_other_key() {
    let mut read = 0;
    let mut keys: Vec<[u8; 32]> = (0..16).map(|i| key(i).0).collect();
    for zeros in [0, 1, 2, 3, 4, 5, 17, 30, 31, 32] {
        let mut bytes = [0xFF; 32];
        bytes[..zeros].fill(0);
        keys.push(bytes);
        bytes[zeros..].fill(0);
        if zeros < 32 {
            bytes[zeros] = 1;
        }
        keys.push(bytes);
    }
    for (i, bytes) in keys.into_iter().enumerate() {
        let sound = OperatorKey(bytes).to_string();
        assert!(key_is_read(&sound));
        assert!(!key_is_read(&sound["ed25519:".len()..]));
        for bad in STRANGE {
            for at in [0, 7, 8, 8 + i % 24, 8 + i % 32, sound.len() - 1] {
                read += u32::from(key_is_read(&format!("{}{bad}{}", &sound[..at], &sound[at + 1..])));
                key_is_read(&format!("{}{bad}{}", &sound[..at], &sound[at..]));
            }
        }
    }
    // The greatest number of 32 bytes, and one more; as many digits as there may be, and one more.
    let greatest = OperatorKey([0xFF; 32]).to_string();
    assert!(greatest.ends_with('G') && !key_is_read(&format!("{}H", &greatest[..greatest.len() - 1])));
    for digits in 40..=46 {
        for digit in ["1", "2", "z"] {
            key_is_read(&format!("ed25519:{}", digit.repeat(digits)));
        }
    }
    assert!(key_is_read(&format!("ed25519:{}", "1".repeat(32))));
    assert!(read > 100, "{read}");
}

#[test]
fn runs_of_calls_do_what_the_core_says() {
    let file = read();
    let period = file["period"].as_u64().unwrap();
    let ops: Vec<&str> = list(&file["ops"]).iter().map(|op| op.as_str().unwrap()).collect();
    let runs = list(&file["runs"]);
    assert!(runs.len() >= 12);
    let mut seen = std::collections::BTreeSet::new();
    for run in runs {
        let mut world =
            World::at(CONTRACT, CHAIN, Parameters { close_period: period, ..parameters() }).unwrap();
        world.call(Caller::of(CLIENT).with(NEAR), |c| c.storage_deposit(None, None)).unwrap();
        let start = world.has(CLIENT);
        let mut put = 0;
        for step in 0..list(&run["ops"]).len() {
            let at = |column: &str| &run[column][step];
            let number = |column: &str| sum(at(column));
            world.now = number("times") as u64;
            let (amount, epoch) = (number("amounts"), number("epochs") as u32);
            let op = ops[number("ops") as usize];
            let voucher = world.signed_by(&chan(), 0, epoch, amount);
            let done = match op {
                "open" => world.open(&chan(), amount),
                "topUp" => world.top_up(&chan(), amount),
                "redeem" => world.redeem(&chan(), &voucher),
                "requestClose" => world.request_close(&chan()),
                "close" => world.close(&chan(), (amount != 0).then_some(&voucher)),
                "finish" => world.finish(&chan()),
                other => panic!("no such call: {other}"),
            };
            let wanted = at("errors").as_str().unwrap();
            let said = match &done {
                Ok(()) => "",
                Err(Error::BadState(..)) => "BadState",
                Err(Error::BadData) => "BadData",
                Err(Error::BadSignature) => "BadSignature",
                Err(Error::NothingNew(_)) => "NothingNew",
                Err(Error::TooEarly(_)) => "TooEarly",
                Err(Error::TooLate(_)) => "TooLate",
                Err(other) => panic!("{other:?}"),
            };
            assert_eq!(said, wanted, "{op} {step}");
            seen.insert((op, said));
            if done.is_ok() && (op == "open" || op == "topUp") {
                put += amount;
            }
            let c = world.channel(&chan());
            assert_eq!(c.state as u128, number("states"), "state");
            assert_eq!(c.deposit.0, number("deposits"), "deposit");
            assert_eq!(c.claimed.0, number("claimed"), "claimed");
            assert_eq!(u128::from(c.closes_at), number("closesAt"), "closes at");
            assert_eq!(u128::from(c.epoch), number("counts"), "epoch");
            assert_eq!(world.has(&owner(0)), number("ownerHas"), "paid");
            assert_eq!(world.has(CLIENT) + put - start, number("clientGot"), "refunded");
        }
        world.check_books(&[chan()]);
    }
    assert!(seen.len() >= 18, "{seen:?}");
}
