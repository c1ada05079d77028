//! What a call reads and writes, charged as nearcore charges it.
//!
//! `MockedExternal` stands for the trie but leaves out what the node's own `RuntimeExt` charges for values that are
//! overwritten or removed. That is put in here; the nodes of a trie that a write touches are not, for there is none.
use near_crypto::PublicKey;
use near_primitives_core::hash::CryptoHash;
use near_primitives_core::types::{AccountId, Balance, Gas, GasWeight, Nonce, NonceIndex};
use near_vm_runner::logic::mocks::mock_external::MockedExternal;
use near_vm_runner::logic::types::{
    ActionIndex, GlobalContractDeployMode, GlobalContractIdentifier, ReceiptIndex,
};
use near_vm_runner::logic::{External, StorageAccessTracker, VMLogicError, ValuePtr};

type Result<T, E = VMLogicError> = std::result::Result<T, E>;

pub struct Charging(pub MockedExternal);

fn unasked<T>() -> T {
    unimplemented!("neither contract asks for this")
}

impl External for Charging {
    fn storage_set<'a>(
        &'a mut self,
        tracker: &mut dyn StorageAccessTracker,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        let evicted = self.0.storage_set(tracker, key, value)?;
        if let Some(old) = &evicted {
            tracker.deref_write_evicted_value_bytes(old.len() as u64)?;
        }
        Ok(evicted)
    }

    fn storage_get<'a>(
        &'a self,
        tracker: &mut dyn StorageAccessTracker,
        key: &[u8],
    ) -> Result<Option<Box<dyn ValuePtr + 'a>>> {
        self.0.storage_get(tracker, key)
    }

    fn storage_remove(
        &mut self,
        tracker: &mut dyn StorageAccessTracker,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        let removed = self.0.storage_remove(tracker, key)?;
        if let Some(old) = &removed {
            tracker.deref_removed_value_bytes(old.len() as u64)?;
        }
        Ok(removed)
    }

    fn storage_has_key(&mut self, access_tracker: &mut dyn StorageAccessTracker, key: &[u8]) -> Result<bool> {
        self.0.storage_has_key(access_tracker, key)
    }

    fn generate_data_id(&mut self) -> CryptoHash {
        self.0.generate_data_id()
    }

    fn get_recorded_storage_size(&self) -> usize {
        self.0.get_recorded_storage_size()
    }

    fn validator_stake(&self, _: &AccountId) -> Result<Option<Balance>> {
        unasked()
    }

    fn validator_total_stake(&self) -> Result<Balance> {
        unasked()
    }

    fn create_action_receipt(
        &mut self,
        receipt_indices: Vec<ReceiptIndex>,
        receiver_id: AccountId,
    ) -> Result<ReceiptIndex, VMLogicError> {
        self.0.create_action_receipt(receipt_indices, receiver_id)
    }

    fn create_promise_yield_receipt(
        &mut self,
        _: AccountId,
    ) -> Result<(ReceiptIndex, CryptoHash), VMLogicError> {
        unasked()
    }

    fn submit_promise_resume_data(&mut self, _: CryptoHash, _: Vec<u8>) -> Result<bool, VMLogicError> {
        unasked()
    }

    fn append_action_create_account(&mut self, receipt_index: ReceiptIndex) {
        self.0.append_action_create_account(receipt_index)
    }

    fn append_action_deploy_contract(&mut self, receipt_index: ReceiptIndex, code: Vec<u8>) {
        self.0.append_action_deploy_contract(receipt_index, code)
    }

    fn append_action_deploy_global_contract(
        &mut self,
        _: ReceiptIndex,
        _: Vec<u8>,
        _: GlobalContractDeployMode,
    ) {
        unasked()
    }

    fn append_action_use_global_contract(&mut self, _: ReceiptIndex, _: GlobalContractIdentifier) {
        unasked()
    }

    fn append_action_deterministic_state_init(
        &mut self,
        _: ReceiptIndex,
        _: GlobalContractIdentifier,
        _: Balance,
    ) -> ActionIndex {
        unasked()
    }

    fn set_deterministic_state_init_data_entry(
        &mut self,
        _: ReceiptIndex,
        _: ActionIndex,
        _: Vec<u8>,
        _: Vec<u8>,
    ) -> Result<(), VMLogicError> {
        unasked()
    }

    fn append_action_function_call_weight(
        &mut self,
        receipt_index: ReceiptIndex,
        method_name: Vec<u8>,
        args: Vec<u8>,
        attached_deposit: Balance,
        prepaid_gas: Gas,
        gas_weight: GasWeight,
    ) -> Result<(), VMLogicError> {
        self.0.append_action_function_call_weight(
            receipt_index,
            method_name,
            args,
            attached_deposit,
            prepaid_gas,
            gas_weight,
        )
    }

    fn append_action_transfer(&mut self, receipt_index: ReceiptIndex, deposit: Balance) {
        self.0.append_action_transfer(receipt_index, deposit)
    }

    fn append_action_transfer_to_gas_key(&mut self, _: ReceiptIndex, _: PublicKey, _: Balance) {
        unasked()
    }

    fn append_action_add_gas_key_with_full_access(&mut self, _: ReceiptIndex, _: PublicKey, _: NonceIndex) {
        unasked()
    }

    fn append_action_add_gas_key_with_function_call(
        &mut self,
        _: ReceiptIndex,
        _: PublicKey,
        _: NonceIndex,
        _: Option<Balance>,
        _: AccountId,
        _: Vec<Vec<u8>>,
    ) -> Result<(), VMLogicError> {
        unasked()
    }

    fn append_action_stake(&mut self, _: ReceiptIndex, _: Balance, _: PublicKey) {
        unasked()
    }

    fn append_action_add_key_with_full_access(&mut self, _: ReceiptIndex, _: PublicKey, _: Nonce) {
        unasked()
    }

    fn append_action_add_key_with_function_call(
        &mut self,
        _: ReceiptIndex,
        _: PublicKey,
        _: Nonce,
        _: Option<Balance>,
        _: AccountId,
        _: Vec<Vec<u8>>,
    ) -> Result<(), VMLogicError> {
        unasked()
    }

    fn append_action_delete_key(&mut self, _: ReceiptIndex, _: PublicKey) {
        unasked()
    }

    fn append_action_delete_account(&mut self, _: ReceiptIndex, _: AccountId) {
        unasked()
    }

    fn get_receipt_receiver(&self, receipt_index: ReceiptIndex) -> &AccountId {
        self.0.get_receipt_receiver(receipt_index)
    }

    fn set_refund_to(&mut self, receipt_index: ReceiptIndex, refund_to: AccountId) {
        self.0.set_refund_to(receipt_index, refund_to)
    }
}
