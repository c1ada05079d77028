// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC1363Receiver} from "@openzeppelin/contracts/interfaces/IERC1363Receiver.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IVault} from "./interfaces/IVault.sol";

/// @dev Every amount is a part of the supply, which the constructor bounds by 2^96 - 1; no sum of them overflows.
abstract contract Vault is IVault, IERC1363Receiver, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    IERC20 public immutable token;
    INodeRegistry public immutable registry;
    bool public paused;
    mapping(address owner => Account) private _accounts;

    constructor(IERC20 token_, INodeRegistry registry_) {
        require(token_.totalSupply() <= type(uint96).max);
        // The two contracts name each other; a deployment that mixed up addresses fails here.
        require(address(registry_.token()) == address(token_) && registry_.escrow() == address(this));
        (token, registry) = (token_, registry_);
    }

    modifier onlyRegistry() {
        if (msg.sender != address(registry)) revert Forbidden(msg.sender);
        _;
    }

    modifier whenOpen() {
        if (paused) revert IsPaused();
        _;
    }

    /// @notice The only way in: `transferAndCall` of the token. Empty `data` credits the payer, else
    /// `abi.encode(account)` names whom.
    function onTransferReceived(address, address from, uint256 value, bytes calldata data)
        external
        whenOpen
        returns (bytes4)
    {
        if (msg.sender != address(token)) revert Forbidden(msg.sender);
        if (data.length != 0 && data.length != 32) revert BadData();
        address account = data.length == 0 ? from : abi.decode(data, (address));
        if (account == address(0)) revert BadData();
        _credit(account, value);
        emit Deposited(account, from, value);
        return IERC1363Receiver.onTransferReceived.selector;
    }

    /// @inheritdoc IVault
    function withdraw(address to, uint96 amount) external nonReentrant {
        _debit(msg.sender, amount);
        emit Withdrawn(msg.sender, to, amount);
        token.safeTransfer(to, amount);
    }

    /// @inheritdoc IVault
    function openAccount(address owner) external onlyRegistry {
        _accounts[owner].open = true;
    }

    /// @inheritdoc IVault
    function setPaused(bool on) external onlyRegistry {
        paused = on;
        emit PauseSet(on);
    }

    /// @inheritdoc IVault
    function accountOf(address owner) external view returns (Account memory) {
        return _accounts[owner];
    }

    function _credit(address owner, uint256 amount) internal {
        Account memory a = _accounts[owner];
        unchecked {
            a.balance += uint96(amount);
        }
        a.open = true;
        _accounts[owner] = a;
    }

    function _debit(address owner, uint256 amount) internal {
        Account memory a = _accounts[owner];
        if (a.balance < amount) revert Insufficient(owner, a.balance, amount);
        unchecked {
            a.balance -= uint96(amount);
        }
        a.open = true;
        _accounts[owner] = a;
    }
}
