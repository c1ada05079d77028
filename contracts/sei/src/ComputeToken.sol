// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC1363} from "@openzeppelin/contracts/token/ERC20/extensions/ERC1363.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title ComputeToken
/// @notice Pays for tasks and is staked by nodes. The whole supply is minted at deployment; holders may burn theirs.
/// @dev `transferAndCall` (ERC-1363) deposits and stakes in one transaction and buys no allowance slot.
contract ComputeToken is ERC1363, ERC20Burnable, ERC20Permit {
    /// @param holder receives the whole supply
    /// @param supply base units (10^-18 CT); at most 2^96 - 1, the width of an amount everywhere else
    constructor(address holder, uint96 supply) ERC20("Compute Token", "CT") ERC20Permit("Compute Token") {
        _mint(holder, supply);
    }
}
