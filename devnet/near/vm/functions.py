"""The table of host functions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

Function = Callable[..., int | None]
"""Takes a :class:`~devnet.near.vm.call.Call` and unsigned 64-bit numbers."""


@dataclass(frozen=True)
class Host:
    """One host function: how it is called, whether a view may call it, whether entering costs."""

    parameters: int
    results: int
    in_views: bool
    based: bool
    run: Function


HOST: Final[dict[str, Host]] = {}


def host(
    parameters: int, results: int = 0, *, in_views: bool = True, based: bool = True
) -> Callable[[Function], Function]:
    """Put a function into the table under its own name, less a trailing underscore.

    ``based`` is False for those that nearcore charges no ``base`` for: hashes and signatures.
    """

    def register(function: Function) -> Function:
        name: Any = getattr(function, "__name__", "")
        HOST[name.rstrip("_")] = Host(parameters, results, in_views, based, function)
        return function

    return register


_CURVES: Final = (
    "p1_sum", "p2_sum", "g1_multiexp", "g2_multiexp", "map_fp_to_g1", "map_fp2_to_g2",
    "p1_decompress", "p2_decompress",
)  # fmt: skip
_GLOBAL_CONTRACTS: Final = (
    "promise_batch_action_deploy_global_contract",
    "promise_batch_action_deploy_global_contract_by_account_id",
    "promise_batch_action_use_global_contract",
    "promise_batch_action_use_global_contract_by_account_id",
)

NOT_MODELLED: Final[dict[str, tuple[int, int, int]]] = {
    # name: (parameters, results, bits of a result). A contract may import them, as near-sdk's do,
    # and is stopped when it calls one.
    **dict.fromkeys(_GLOBAL_CONTRACTS, (3, 0, 64)),
    **{f"bls12381_{name}": (3, 1, 64) for name in _CURVES},
    "bls12381_pairing_check": (2, 1, 64),
    "alt_bn128_g1_multiexp": (3, 0, 64),
    "alt_bn128_g1_sum": (3, 0, 64),
    "alt_bn128_pairing_check": (2, 1, 64),
    "current_contract_code": (1, 1, 64),
    "promise_batch_action_state_init": (4, 1, 64),
    "promise_batch_action_state_init_by_account_id": (4, 1, 64),
    "set_state_init_data_entry": (6, 0, 64),
    "promise_batch_action_stake": (4, 0, 64),
    "promise_yield_create": (7, 1, 64),
    "promise_yield_resume": (4, 1, 32),
    "validator_stake": (3, 0, 64),
    "validator_total_stake": (1, 0, 64),
}
