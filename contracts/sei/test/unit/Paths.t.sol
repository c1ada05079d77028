// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ITaskEscrow} from "../../src/interfaces/ITaskEscrow.sol";
import {Fixture} from "../support/Fixture.sol";

/// @dev The paths a task takes when everybody behaves, and the money on each.
contract PathsTest is Fixture {
    function test_three_equal_digests_pay_three_seats() public conserved {
        uint256 before = _bal(CLIENT);
        Job memory j = _start(3, EXACT);
        assertEq(before - _bal(CLIENT), 3 * uint256(FEE) + TIP, "escrowed");
        _commitAll(j, A, A, A);
        _finalise(j, CLIENT);
        // R = 100: φ = 14 %; weight = 0.42 of w0: R += 10 · 0.42 · 0.9 = 3.78
        for (uint256 i; i < 3; ++i) {
            assertEq(_bal(owners[i]), uint256(FEE) * 86 / 100, "paid");
            assertEq(_rep(i), 103_780, "R");
            assertEq(_node(i).checkedTasks, 1, "checked");
        }
        assertEq(_accrued(), 3 * (uint256(FEE) * 14 / 100), "protocol fee");
        assertEq(before - _bal(CLIENT), 3 * uint256(FEE), "the tip came back");
        expect(ITaskEscrow.NotOpen.selector);
        _finalise(j, CLIENT);
    }
}
