"""What NEAR charges and allows, as values: nearcore's runtime parameters at protocol version 84.

Source: ``core/parameters/res/runtime_configs`` of nearcore. Gas in gas units, money in yoctoNEAR.
Later versions change some of this: 85 charges for created accounts and raises the least gas price,
87 ends the reward that contracts get from gas.
"""

from typing import Final, NamedTuple

TGAS: Final = 10**12
NEAR: Final = 10**24  # yoctoNEAR

PROTOCOL_VERSION: Final = 84
GAS_PRICE: Final = 10**8  # yoctoNEAR per gas; the least there is, and it never rises here
CHAIN_ID: Final = "localnet"

STORAGE_PRICE: Final = 10**19  # yoctoNEAR held for a byte: 1 NEAR for 100 kB
ACCOUNT_BYTES: Final = 100
RECORD_BYTES: Final = 40  # beside key and value
FREE_BYTES: Final = 770  # an account this small needs no balance

MAX_PREPAID_GAS: Final = 1_000 * TGAS  # 300 before protocol version 83
MAX_BURNT_GAS: Final = 1_000 * TGAS
OPERATION_GAS: Final = 822_756  # one wasm instruction
WRITE_TRIE_NODES: Final = 8  # nodes that a storage write touches: grows with the state on NEAR
REWARD_NUMERATOR, REWARD_DENOMINATOR = 3, 10  # of the gas burnt by a call, to the contract

MAX_CONTRACT_BYTES: Final = 4 << 20
MAX_ARGUMENT_BYTES: Final = 4 << 20
MAX_VALUE_BYTES: Final = 4 << 20
MAX_TRANSACTION_BYTES: Final = 1_572_864
MAX_KEY_BYTES: Final = 2_048
LARGE_VALUE_BYTES: Final = 4_000
MAX_LOGS: Final = 100
MAX_LOG_BYTES: Final = 16_384
MAX_REGISTER_BYTES: Final = 100 << 20
MAX_REGISTERS: Final = 100
MAX_REGISTERS_BYTES: Final = 1 << 30
MAX_RETURNED_BYTES: Final = 4 << 20
MAX_ACTIONS: Final = 100
MAX_PROMISES: Final = 1_024
MAX_JOINED: Final = 128  # promises behind one callback
MAX_METHOD_NAME_BYTES: Final = 256
MAX_METHOD_NAMES_BYTES: Final = 2_000  # of one access key
MEMORY_PAGES: Final = (1_024, 2_048)  # of 64 KiB: what a contract begins with and may have
MAX_MEMORY_BYTES: Final = MEMORY_PAGES[1] << 16
MAX_TABLE_ELEMENTS: Final = 10_000
MAX_FUNCTIONS: Final = 10_000
MAX_BODY_BYTES: Final = 196_608  # of one function
MAX_LOCALS: Final = 1_000_000
MAX_STATE_VIEW_BYTES: Final = 50_000

VALID_FOR_BLOCKS: Final = 86_400  # after the block whose hash a transaction names
NONCES_PER_BLOCK: Final = 1_000_000
EPOCH_BLOCKS: Final = 43_200
MAX_DELETED_STATE_BYTES: Final = 10_000


class Fee(NamedTuple):
    """Gas for sending to another account, for sending to oneself, and for executing."""

    send: int
    send_to_self: int
    execute: int


def _flat(gas: int) -> Fee:
    return Fee(gas, gas, gas)


RECEIPT_FEE: Final = _flat(108_059_500_000)
DATA_FEE: Final = _flat(36_486_732_312)
DATA_BYTE_FEE: Final = Fee(47_683_715, 17_212_011, 17_212_011)
CREATE_ACCOUNT_FEE: Final = _flat(3_850_000_000_000)
DEPLOY_FEE: Final = _flat(184_765_750_000)
DEPLOY_BYTE_FEE: Final = Fee(47_683_715, 6_812_999, 64_572_944)
CALL_FEE: Final = Fee(200_000_000_000, 200_000_000_000, 780_000_000_000)
CALL_BYTE_FEE: Final = Fee(47_683_715, 2_235_934, 2_235_934)
TRANSFER_FEE: Final = _flat(115_123_062_500)
ADD_FULL_KEY_FEE: Final = _flat(101_765_125_000)
ADD_CALL_KEY_FEE: Final = _flat(102_217_625_000)
ADD_CALL_KEY_BYTE_FEE: Final = Fee(47_683_715, 1_925_331, 1_925_331)
DELETE_KEY_FEE: Final = _flat(94_946_625_000)
DELETE_ACCOUNT_FEE: Final = _flat(147_489_000_000)

HOST_GAS: Final = {
    "base": 264_768_111,
    "contract_loading_base": 35_445_963,
    "contract_loading_byte": 1_089_295,
    "read_memory_base": 2_609_863_200,
    "read_memory_byte": 3_801_333,
    "write_memory_base": 2_803_794_861,
    "write_memory_byte": 2_723_772,
    "read_register_base": 2_517_165_186,
    "read_register_byte": 98_562,
    "write_register_base": 2_865_522_486,
    "write_register_byte": 3_801_564,
    "utf8_decoding_base": 3_111_779_061,
    "utf8_decoding_byte": 291_580_479,
    "utf16_decoding_base": 3_543_313_050,
    "utf16_decoding_byte": 163_577_493,
    "sha256_base": 4_540_970_250,
    "sha256_byte": 24_117_351,
    "keccak256_base": 5_879_491_275,
    "keccak256_byte": 21_471_105,
    "keccak512_base": 5_811_388_236,
    "keccak512_byte": 36_649_701,
    "ripemd160_base": 853_675_086,
    "ripemd160_block": 680_107_584,
    "ecrecover_base": 278_821_988_457,
    "ed25519_verify_base": 210_000_000_000,
    "ed25519_verify_byte": 9_000_000,
    "log_base": 3_543_313_050,
    "log_byte": 13_198_791,
    "storage_write_base": 64_196_736_000,
    "storage_write_key_byte": 70_482_867,
    "storage_write_value_byte": 31_018_539,
    "storage_write_evicted_byte": 32_117_307,
    "storage_read_base": 56_356_845_749,
    "storage_read_key_byte": 30_952_533,
    "storage_read_value_byte": 5_611_004,
    "large_read_base": 1,
    "large_read_byte": 1,
    "storage_remove_base": 53_473_030_500,
    "storage_remove_key_byte": 38_220_384,
    "storage_remove_value_byte": 11_531_556,
    "storage_has_key_base": 54_039_896_625,
    "storage_has_key_byte": 30_790_845,
    "touching_trie_node": 2_280_000_000,
    "promise_and_base": 1_465_013_400,
    "promise_and_per_promise": 5_452_176,
    "promise_return": 560_152_386,
}
