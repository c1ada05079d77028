"""What Sei's EVM charges and allows, as values; the defaults are Sei's of August 2026.

Sources: Sei's documentation and chain source (parameters of module ``evm``; the fee follows
``AdjustDynamicBaseFeePerGas``). Only the *fresh* storage slot has another price than on Ethereum:
setting a slot from zero costs 72,000 gas instead of 20,000.
"""

from dataclasses import dataclass
from typing import Final

GWEI: Final = 10**9

SEI_SSTORE_SET_GAS: Final = 72_000
ETHEREUM_SSTORE_SET_GAS: Final = 20_000

SEI_LOCAL_CHAIN_ID: Final = 713_714


@dataclass(frozen=True, slots=True)
class Rules:
    """The constants of one chain. Gas is in gas units, fees in wei per gas."""

    chain_id: int = SEI_LOCAL_CHAIN_ID
    sstore_set_gas: int = SEI_SSTORE_SET_GAS
    block_gas_limit: int = 12_500_000  # also the most one transaction may ask for
    call_gas_limit: int = 10_000_000  # for eth_call and eth_estimateGas
    base_fee_floor: int = 50 * GWEI
    base_fee_ceiling: int = 1_000 * GWEI
    block_gas_target: int = 850_000
    fee_up_millionths: int = 7_500  # a full block raises the fee by 0.75 %
    fee_down_millionths: int = 3_900  # an empty block lowers it by 0.39 %

    def next_base_fee(self, base_fee: int, gas_used: int) -> int:
        """Return the base fee after a block that used ``gas_used``, in wei per gas.

        It moves in proportion to the distance from the target and stays between the bounds.
        """
        target = self.block_gas_target
        if gas_used > target:
            over, room = gas_used - target, self.block_gas_limit - target
            moved = base_fee + base_fee * self.fee_up_millionths * over // (room * 1_000_000)
        else:
            under = target - gas_used
            moved = base_fee - base_fee * self.fee_down_millionths * under // (target * 1_000_000)
        return min(max(moved, self.base_fee_floor), self.base_fee_ceiling)


MAX_LOG_BLOCKS: Final = 2_000
MAX_LOGS: Final = 10_000
MAX_BATCH: Final = 1_000
MAX_BODY_BYTES: Final = 5 << 20
MAX_BATCH_ANSWER_BYTES: Final = 25 << 20
