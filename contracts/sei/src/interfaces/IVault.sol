// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Vault
/// @notice Free balances of clients and providers. Tokens move only at the edges; tasks move numbers.
interface IVault {
    /// @dev One slot. `open` is set with the first credit and never cleared: a slot that returned to zero would be
    /// bought again, for 72,000 gas on Sei.
    struct Account {
        uint96 balance;
        bool open;
    }

    event Deposited(address indexed account, address indexed payer, uint256 amount);
    event Withdrawn(address indexed account, address indexed to, uint256 amount);
    /// @notice Deposits, posts and first assignments are refused (or accepted again).
    event PauseSet(bool paused);

    error Forbidden(address caller);
    error IsPaused();
    error BadData();
    error Insufficient(address account, uint256 available, uint256 needed);

    /// @notice Takes tokens out of the caller's account: at once, and never paused.
    /// @param amount base units; reverts with `Insufficient` when the balance is smaller
    function withdraw(address to, uint96 amount) external;

    /// @notice Called by the registry when a node registers, so that its first payment buys no slot.
    function openAccount(address owner) external;

    /// @notice Called by the registry, which holds the roles of both contracts.
    function setPaused(bool on) external;

    function accountOf(address owner) external view returns (Account memory);
}
