//! Runs recorded contract calls in nearcore's VM: `cargo run --example gas -- calls.json`.
//!
//! The file is made by `tests/contracts_near/gas.py`: for every call its code, input, context and storage on the
//! embedded chain, and what came of it there. Logs, success and storage must be the same here; the gas that this VM
//! burns is printed as JSON, call by call, with where it went.
mod external;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use external::Charging;
use near_parameters::{ActionCosts, RuntimeConfigStore};
use near_primitives_core::account::AccountContract;
use near_primitives_core::hash::CryptoHash;
use near_primitives_core::types::{Balance, Gas};
use near_sdk::base64::{engine::general_purpose::STANDARD as BASE64, Engine};
use near_sdk::serde::Deserialize;
use near_sdk::serde_json::{self, json};
use near_vm_runner::logic::mocks::mock_external::MockedExternal;
use near_vm_runner::logic::types::PromiseResult;
use near_vm_runner::logic::{VMContext, VMOutcome};
use near_vm_runner::{Contract, ContractCode, MockContractRuntimeCache};

#[derive(Deserialize)]
#[serde(crate = "near_sdk::serde")]
struct Records {
    protocol: u32,
    codes: HashMap<String, String>,
    calls: Vec<Call>,
}

/// Bytes are base64; money is decimal text.
#[derive(Deserialize)]
#[serde(crate = "near_sdk::serde")]
struct Call {
    code: String,
    account: String,
    signer: String,
    signer_key: String,
    predecessor: String,
    refund_to: String,
    method: String,
    input: String,
    deposit: String,
    balance: String,
    usage: u64,
    gas: u64,
    height: u64,
    timestamp: u64,
    seed: String,
    results: Vec<Option<String>>,
    outputs: Vec<String>,
    before: Vec<(String, String)>,
    after: Vec<(String, String)>,
    logs: Vec<String>,
    failed: bool,
}

struct Code(Arc<ContractCode>);

impl Contract for Code {
    fn hash(&self) -> CryptoHash {
        *self.0.hash()
    }

    fn get_code(&self) -> Option<Arc<ContractCode>> {
        Some(self.0.clone())
    }
}

fn bytes(text: &str) -> Vec<u8> {
    BASE64.decode(text).expect("base64")
}

fn yocto(text: &str) -> Balance {
    Balance::from_yoctonear(text.parse().expect("an amount"))
}

fn entries(pairs: &[(String, String)]) -> HashMap<Vec<u8>, Vec<u8>> {
    pairs.iter().map(|(key, value)| (bytes(key), bytes(value))).collect()
}

fn main() {
    let path = std::env::args().nth(1).expect("the file of recorded calls");
    let records: Records = serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("records");
    let codes: HashMap<String, Arc<ContractCode>> = records
        .codes
        .iter()
        .map(|(hash, code)| (hash.clone(), Arc::new(ContractCode::new(bytes(code), None))))
        .collect();
    let runtime = RuntimeConfigStore::new(None).get_config(records.protocol).clone();
    let config = Arc::new(near_parameters::vm::Config {
        vm_kind: near_parameters::vm::VMKind::Wasmtime,
        ..near_parameters::vm::Config::clone(&runtime.wasm_config)
    });
    let cache = MockContractRuntimeCache::default();
    let mut measured = vec![];
    for call in &records.calls {
        let code = Code(codes[&call.code].clone());
        let mut external = Charging(MockedExternal::new());
        external.0.fake_trie = entries(&call.before);
        let context = context(call);
        let counter = context.make_gas_counter(&config);
        let prepared = near_vm_runner::prepare(&code, config.clone(), Some(&cache), counter, &call.method);
        let outcome = prepared.run(&mut external, &context, runtime.fees.clone()).expect("a run");
        let size = (call.method.len() + bytes(&call.input).len()) as u64;
        let fee = |cost| runtime.fees.fee(cost).exec_fee().as_gas();
        let fees = fee(ActionCosts::new_action_receipt)
            + fee(ActionCosts::function_call_base)
            + fee(ActionCosts::function_call_byte) * size;
        // What a failed call wrote the chain forgets.
        let after = if outcome.aborted.is_some() { entries(&call.before) } else { external.0.fake_trie };
        measured.push(json!({
            "burnt": outcome.burnt_gas.as_gas(),
            "fees": fees,
            "same": outcome.logs == call.logs
                && outcome.aborted.is_some() == call.failed
                && after == entries(&call.after),
            "aborted": outcome.aborted.as_ref().map(|failure| format!("{failure:?}")),
            "costs": costs(&outcome),
        }));
    }
    println!("{}", serde_json::to_string(&measured).expect("JSON"));
}

fn context(call: &Call) -> VMContext {
    let account = |name: &String| name.parse().expect("an account");
    let result = |one: &Option<String>| match one {
        Some(value) => PromiseResult::Successful(bytes(value).into()),
        None => PromiseResult::Failed,
    };
    VMContext {
        current_account_id: account(&call.account),
        signer_account_id: account(&call.signer),
        signer_account_pk: bytes(&call.signer_key),
        predecessor_account_id: account(&call.predecessor),
        refund_to_account_id: account(&call.refund_to),
        input: bytes(&call.input).into(),
        promise_results: call.results.iter().map(result).collect(),
        block_height: call.height,
        block_timestamp: call.timestamp,
        epoch_height: 1,
        account_balance: yocto(&call.balance),
        account_locked_balance: Balance::ZERO,
        storage_usage: call.usage,
        account_contract: AccountContract::None,
        attached_deposit: yocto(&call.deposit),
        prepaid_gas: Gas::from_gas(call.gas),
        random_seed: bytes(&call.seed),
        view_config: None,
        output_data_receivers: call.outputs.iter().map(account).collect(),
    }
}

/// Gas by what it was burnt for: instructions, receipts sent, and each host function's own.
fn costs(outcome: &VMOutcome) -> BTreeMap<String, u64> {
    let profile = &outcome.profile;
    let mut found = BTreeMap::from([
        ("instructions".to_string(), profile.get_wasm_cost().as_gas()),
        ("receipts".to_string(), profile.action_gas().as_gas()),
    ]);
    for (cost, gas) in profile.wasm_ext_profile.iter() {
        if gas.as_gas() != 0 {
            found.insert(<&str>::from(&cost.param()).to_string(), gas.as_gas());
        }
    }
    found
}
