// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";

/// @title NodeOwner
/// @notice The account that owns one node: it holds the pool's tokens and does what `Delegations` says, nothing else.
/// @dev Pools have clones of one; the immutable is in the code that all of them run.
contract NodeOwner {
    address private immutable _delegations = msg.sender;

    error Forbidden(address caller);

    function run(address target, bytes calldata data) external {
        if (msg.sender != _delegations) revert Forbidden(msg.sender);
        Address.functionCall(target, data);
    }
}
