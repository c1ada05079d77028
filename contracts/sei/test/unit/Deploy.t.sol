// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC1363} from "@openzeppelin/contracts/interfaces/IERC1363.sol";
import {IERC1363Receiver} from "@openzeppelin/contracts/interfaces/IERC1363Receiver.sol";
import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {
    IAccessControlDefaultAdminRules
} from "@openzeppelin/contracts/access/extensions/IAccessControlDefaultAdminRules.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ComputeToken} from "../../src/ComputeToken.sol";
import {NodeRegistry} from "../../src/NodeRegistry.sol";
import {TaskEscrow} from "../../src/TaskEscrow.sol";
import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {Accept, ITaskEscrow, Task} from "../../src/interfaces/ITaskEscrow.sol";
import {IVault} from "../../src/interfaces/IVault.sol";
import {Fixture} from "../support/Fixture.sol";

/// @dev Constructors, the token, roles and the pause.
contract DeployTest is Fixture {
    function test_the_token_has_a_fixed_supply_that_can_only_shrink() public {
        ComputeToken t = new ComputeToken(OTHER, 100);
        assertEq(keccak256(bytes(t.name())), keccak256("Compute Token"), "name");
        assertEq(keccak256(bytes(t.symbol())), keccak256("CT"), "symbol");
        assertEq(t.decimals(), 18, "decimals");
        assertEq(t.balanceOf(OTHER), 100, "minted once");
        vm.prank(OTHER);
        t.burn(40);
        assertEq(t.totalSupply(), 60, "burned");
        assertTrue(t.supportsInterface(type(IERC1363).interfaceId), "ERC-1363");
    }

    function test_the_contracts_say_what_they_were_built_with() public view {
        INodeRegistry.Parameters memory r = registry.parameters();
        assertEq(r.minStake, 100e18, "minimum stake");
        assertEq(r.w0, 1e18, "w0");
        assertEq(r.epochLength, 6 hours, "epoch");
        assertEq(r.unbondingPeriod, 7 days, "unbonding");
        assertEq(r.bounty, 1e18, "bounty");
        ITaskEscrow.Parameters memory e = escrow.parameters();
        assertEq(e.treasury, TREASURY, "treasury");
        assertEq(e.minFee, 1e6, "minimum fee");
        assertEq(e.minLease, 10, "minimum lease");
        assertEq(e.minWindow, 600, "minimum window");
        assertEq(e.maxSpan, 24 hours, "longest span");
        assertEq(registry.escrow(), address(escrow), "they name each other");
        assertEq(address(escrow.registry()), address(registry), "they name each other");
        assertTrue(registry.supportsInterface(type(IERC1363Receiver).interfaceId), "receiver");
        assertTrue(registry.supportsInterface(type(IAccessControl).interfaceId), "roles");
    }

    function test_a_registry_with_senseless_parameters_cannot_be_deployed() public {
        INodeRegistry.Parameters[5] memory p;
        for (uint256 i; i < 5; ++i) {
            p[i] = _registryParameters();
        }
        p[0].w0 = 0;
        p[1].epochLength = 0;
        p[2].unbondingPeriod = 0;
        (p[3].minStake, p[3].bounty) = (0, 0);
        p[4].bounty = 2e18 + 1; // a tenth of a fifth of 100e18, and one more
        for (uint256 i; i < 5; ++i) {
            vm.expectRevert();
            new NodeRegistry(token, address(1), ADMIN, 2 days, GUARDIAN, p[i]);
        }
        p[4].bounty = 2e18;
        new NodeRegistry(token, address(1), ADMIN, 2 days, GUARDIAN, p[4]);
    }

    function test_an_escrow_with_senseless_parameters_cannot_be_deployed() public {
        ITaskEscrow.Parameters[9] memory p;
        for (uint256 i; i < 9; ++i) {
            p[i] = _escrowParameters();
        }
        p[0].treasury = address(0);
        p[1].minFee = 0;
        p[2].minLease = 0;
        p[3].minWindow = 1;
        p[4].minWindow = p[4].maxSpan + 1;
        p[5].minLease = p[5].maxSpan + 1;
        p[6].maxSpan = 3.5 days; // twice that is not shorter than the unbonding period
        p[7].maxSpan = 1 << 24;
        for (uint256 i; i < 8; ++i) {
            NodeRegistry r = _registryFor(1);
            vm.expectRevert();
            new TaskEscrow(token, r, p[i]);
        }
        p[8].maxSpan = 3.5 days - 1;
        new TaskEscrow(token, _registryFor(1), p[8]);
    }

    function test_an_escrow_that_its_registry_does_not_name_cannot_be_deployed() public {
        NodeRegistry r = _registryFor(2); // one address too far
        ITaskEscrow.Parameters memory p = _escrowParameters();
        vm.expectRevert();
        new TaskEscrow(token, r, p);
        r = _registryFor(2); // counting the token that comes between
        ComputeToken another = new ComputeToken(address(this), 1e18);
        vm.expectRevert();
        new TaskEscrow(another, r, p);
    }

    /// @dev A registry whose escrow is the contract that this one creates after `ahead - 1` others.
    function _registryFor(uint256 ahead) private returns (NodeRegistry) {
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + ahead);
        return new NodeRegistry(token, predicted, ADMIN, 2 days, GUARDIAN, _registryParameters());
    }

    function test_pause_stops_deposit_register_post_and_first_assign() public {
        Task memory t = _task(3, EXACT);
        Accept[] memory a = _accepts(escrow.taskIdOf(t), 3);
        vm.prank(CLIENT);
        escrow.post(t);
        vm.prank(GUARDIAN);
        registry.pause();
        assertTrue(escrow.paused(), "both");
        vm.startPrank(CLIENT);
        expect(IVault.IsPaused.selector);
        token.transferAndCall(address(escrow), 1);
        expect(IVault.IsPaused.selector);
        escrow.assign(t, a);
        expect(IVault.IsPaused.selector);
        escrow.postAndAssign(t, a);
        expect(IVault.IsPaused.selector);
        escrow.post(t);
        vm.stopPrank();
        token.transfer(OTHER, STAKE);
        bytes memory data = _registration(bytes32(uint256(uint160(OTHER)) << 96), 7, 0, type(uint40).max);
        expect(Pausable.EnforcedPause.selector);
        vm.prank(OTHER);
        token.transferAndCall(address(registry), STAKE, data);
        vm.prank(GUARDIAN);
        registry.unpause();
        vm.prank(CLIENT);
        escrow.assign(t, a);
    }

    function test_pause_stops_nothing_else() public conserved {
        Job memory j = _start(3, EXACT);
        vm.prank(GUARDIAN);
        registry.pause();
        _release(j, 2);
        _reassign(j, 2, 6);
        _commitAll(j, A, A, A);
        _reveal(j, 7);
        _finalise(j, OTHER);
        vm.prank(OTHER);
        escrow.withdraw(CLIENT, TIP);
        vm.startPrank(owners[9]);
        registry.requestUnstake(nodes[9], 1);
        vm.warp(block.timestamp + 7 days + 1);
        registry.withdrawStake(nodes[9], owners[9]);
        token.transferAndCall(address(registry), 1, abi.encode(nodes[9]));
        vm.stopPrank();
        _beat();
        uint32[] memory lanes = new uint32[](1);
        escrow.sweep(CLIENT, lanes);
        // Put it back, so that the sums of this test add up.
        vm.prank(GUARDIAN);
        registry.unpause();
        uint256 swept = token.balanceOf(TREASURY);
        vm.prank(TREASURY);
        token.transferAndCall(address(escrow), swept, abi.encode(CLIENT));
        vm.prank(CLIENT);
        token.transferAndCall(address(escrow), TIP);
    }

    function test_only_the_guardian_pauses() public {
        bytes32 role = registry.GUARDIAN_ROLE();
        bytes memory wanted =
            abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, OTHER, role);
        vm.startPrank(OTHER);
        vm.expectRevert(wanted);
        registry.pause();
        vm.expectRevert(wanted);
        registry.unpause();
        vm.stopPrank();
        vm.prank(ADMIN);
        registry.grantRole(role, OTHER);
        vm.prank(OTHER);
        registry.pause();
    }

    function test_the_admin_changes_in_two_steps_with_a_delay() public {
        vm.prank(ADMIN);
        registry.beginDefaultAdminTransfer(OTHER);
        uint48 due = uint48(block.timestamp + 2 days);
        vm.expectRevert(
            abi.encodeWithSelector(
                IAccessControlDefaultAdminRules.AccessControlEnforcedDefaultAdminDelay.selector, due
            )
        );
        vm.prank(OTHER);
        registry.acceptDefaultAdminTransfer();
        vm.warp(due + 1);
        vm.prank(OTHER);
        registry.acceptDefaultAdminTransfer();
        assertEq(registry.defaultAdmin(), OTHER, "handed over");
    }
}
