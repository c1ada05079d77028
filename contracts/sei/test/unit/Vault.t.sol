// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IVault} from "../../src/interfaces/IVault.sol";
import {Vm} from "../support/Base.sol";
import {Fixture} from "../support/Fixture.sol";

contract VaultTest is Fixture {
    function test_a_deposit_credits_the_payer_or_whom_it_names() public {
        token.transfer(OTHER, 10);
        vm.expectEmit(true, true, true, true, address(escrow));
        emit IVault.Deposited(OTHER, OTHER, 4);
        vm.prank(OTHER);
        token.transferAndCall(address(escrow), 4);
        vm.expectEmit(true, true, true, true, address(escrow));
        emit IVault.Deposited(CLIENT, OTHER, 6);
        uint256 before = _bal(CLIENT);
        vm.prank(OTHER);
        token.transferAndCall(address(escrow), 6, abi.encode(CLIENT));
        assertEq(_bal(OTHER), 4, "own");
        assertEq(_bal(CLIENT) - before, 6, "for another");
    }

    function test_only_the_token_credits_and_only_whole_addresses_are_named() public {
        vm.expectRevert(abi.encodeWithSelector(IVault.Forbidden.selector, OTHER));
        vm.prank(OTHER);
        escrow.onTransferReceived(OTHER, OTHER, 1e18, "");
        bytes[3] memory wrong = [bytes(hex"01"), abi.encode(CLIENT, CLIENT), abi.encode(address(0))];
        for (uint256 i; i < 3; ++i) {
            expect(IVault.BadData.selector);
            token.transferAndCall(address(escrow), 1, wrong[i]);
        }
        vm.expectRevert();
        token.transferAndCall(address(escrow), 1, abi.encode(type(uint256).max)); // more than an address
    }

    function test_a_withdrawal_is_at_once_and_leaves_the_slot_non_zero() public {
        uint256 all = _bal(CLIENT);
        vm.expectEmit(true, true, true, true, address(escrow));
        emit IVault.Withdrawn(CLIENT, OTHER, all);
        vm.prank(CLIENT);
        escrow.withdraw(OTHER, uint96(all));
        assertEq(token.balanceOf(OTHER), all, "at once");
        assertEq(_bal(CLIENT), 0, "all of it");
        assertTrue(escrow.accountOf(CLIENT).open, "the slot was bought for good");
        vm.expectRevert(abi.encodeWithSelector(IVault.Insufficient.selector, CLIENT, 0, 1));
        vm.prank(CLIENT);
        escrow.withdraw(OTHER, 1);
    }

    function test_registering_opens_the_account_that_will_be_paid() public view {
        assertTrue(escrow.accountOf(owners[3]).open, "no payment buys a slot");
        assertTrue(!escrow.accountOf(OTHER).open, "nobody else's");
    }

    function test_only_the_registry_opens_accounts_and_pauses() public {
        vm.expectRevert(abi.encodeWithSelector(IVault.Forbidden.selector, address(this)));
        escrow.openAccount(OTHER);
        vm.expectRevert(abi.encodeWithSelector(IVault.Forbidden.selector, address(this)));
        escrow.setPaused(true);
    }

    function testFuzz_deposits_and_withdrawals_add_up(uint96 a, uint96 b, uint96 out) public {
        (a, b) = (uint96(bound(a, 0, 1e26)), uint96(bound(b, 0, 1e26)));
        token.transfer(OTHER, uint256(a) + b);
        vm.startPrank(OTHER);
        token.transferAndCall(address(escrow), a);
        token.transferAndCall(address(escrow), b);
        uint256 had = uint256(a) + b;
        if (out > had) {
            vm.expectRevert(abi.encodeWithSelector(IVault.Insufficient.selector, OTHER, had, out));
            escrow.withdraw(OTHER, out);
        } else {
            escrow.withdraw(OTHER, out);
            assertEq(_bal(OTHER), had - out, "rest");
            assertEq(token.balanceOf(OTHER), out, "out");
        }
        vm.stopPrank();
    }
}
