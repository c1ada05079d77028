"""Writing state by hand (``sandbox_patch_state``): records in the form of nearcore's sandbox."""

import hashlib

import msgspec

from devnet.near import params
from devnet.near.errors import parse_error
from devnet.near.keys import is_account
from devnet.near.params import AccessKeyRecord, AccountRecord, ContractRecord, StateRecord
from devnet.near.rules import MAX_CONTRACT_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES, RECORD_BYTES
from devnet.near.state import AccessKey, Account, State, key_bytes


def write_record(state: State, record: StateRecord) -> None:
    """Write one record; raises :class:`RpcError` for what is no record.

    What an account occupies is counted here, whatever the record says of it.
    """
    every = (record.account, record.contract, record.data, record.access_key)
    given = [one for one in every if one is not None]
    if len(given) != 1:
        raise parse_error("Failed parsing args: one of Account, Contract, Data, AccessKey")
    (one,) = given
    if not is_account(one.account_id):
        raise parse_error(f"Failed parsing args: {one.account_id[:100]!r} is not an account ID")
    account = state.account(one.account_id) or Account()
    match one:
        case AccountRecord():
            amount = params.amount(one.account.amount)
            changed = msgspec.structs.replace(account, amount=amount)
        case ContractRecord():
            changed = _deploy(state, account, one)
        case AccessKeyRecord():
            changed = _put_key(state, account, one)
        case _:
            key = params.blob(one.data_key, "data_key", MAX_KEY_BYTES)
            value = params.blob(one.value, "value", MAX_VALUE_BYTES)
            old = state.datum(one.account_id, key)
            more = len(value) + (len(key) + RECORD_BYTES if old is None else -len(old))
            state.put_datum(one.account_id, key, value)
            changed = _grown(account, more)
    state.put_account(one.account_id, changed)


def _deploy(state: State, account: Account, record: ContractRecord) -> Account:
    code = params.blob(record.code, "code", MAX_CONTRACT_BYTES)
    old = len(state.code(account.code_hash)) if account.code_hash else 0
    digest = hashlib.sha256(code).digest()
    state.codes.setdefault(digest, code)
    return msgspec.structs.replace(_grown(account, len(code) - old), code_hash=digest)


def _put_key(state: State, account: Account, record: AccessKeyRecord) -> Account:
    public_key = params.public_key(record.public_key)
    key = AccessKey(record.access_key.nonce, record.access())
    old = state.key(record.account_id, public_key)
    state.put_key(record.account_id, public_key, key)
    replaced = key_bytes(public_key, old) if old is not None else 0
    return _grown(account, key_bytes(public_key, key) - replaced)


def _grown(account: Account, more: int) -> Account:
    return msgspec.structs.replace(account, usage=account.usage + more)
