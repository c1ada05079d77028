// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ComputeToken} from "../../src/ComputeToken.sol";
import {PaymentChannels} from "../../src/PaymentChannels.sol";
import {
    Channel,
    ChannelState,
    IPaymentChannels,
    Redemption,
    Voucher
} from "../../src/interfaces/IPaymentChannels.sol";
import {Vm} from "../support/Base.sol";
import {ChannelFixture} from "../support/ChannelFixture.sol";

contract ChannelsTest is ChannelFixture {
    function test_the_contract_says_what_it_was_built_with() public view {
        assertEq(address(channels.token()), address(token), "token");
        assertEq(address(channels.registry()), address(registry), "registry");
        assertEq(channels.closePeriod(), PERIOD, "challenge period");
        assertEq(channels.channelIdOf(chan), _id(chan), "an id is EIP-712 over every field");
    }

    function test_senseless_parameters_cannot_be_deployed() public {
        ComputeToken another = new ComputeToken(address(this), 1);
        vm.expectRevert();
        new PaymentChannels(token, registry, 0);
        vm.expectRevert();
        new PaymentChannels(token, registry, 30 days + 1);
        vm.expectRevert();
        new PaymentChannels(another, registry, PERIOD); // not what the registry's nodes stake
        vm.expectRevert();
        new PaymentChannels(token, registry, type(uint40).max);
        new PaymentChannels(token, registry, 30 days);
    }

    function test_a_deposit_opens_a_channel() public {
        uint256 before = _has(CLIENT);
        vm.expectEmit(true, true, true, true, address(channels));
        emit IPaymentChannels.ChannelOpened(_id(chan), CLIENT, nodes[0], chan.sessionKey, 1, DEPOSIT);
        _open(chan, DEPOSIT);
        assertEq(before - _has(CLIENT), DEPOSIT, "locked");
        assertEq(_has(address(channels)), DEPOSIT, "here");
        IPaymentChannels.Record memory s = _record(chan);
        assertTrue(_state(chan) == ChannelState.OPEN, "open");
        assertEq(s.deposit, DEPOSIT, "deposit");
        assertEq(uint256(s.claimed) + s.closesAt, 0, "fresh");
        assertEq(s.epoch, 1, "first epoch");
    }

    function test_a_voucher_pays_the_difference_to_the_owner() public {
        _open(chan, DEPOSIT);
        _redeem(chan, 3e18);
        vm.expectEmit(true, true, true, true, address(channels));
        emit IPaymentChannels.VoucherRedeemed(_id(chan), 2e18, 5e18, ROOT);
        _redeem(chan, 5e18);
        assertEq(_has(owner), 5e18, "to the node's owner, whoever redeems");
        assertEq(_record(chan).claimed, 5e18, "remembered");
        assertTrue(_state(chan) == ChannelState.OPEN, "and it goes on");
    }

    function test_anybody_tops_up_an_open_channel() public {
        _open(chan, DEPOSIT);
        token.transfer(OTHER, 7);
        vm.expectEmit(true, true, true, true, address(channels));
        emit IPaymentChannels.ChannelToppedUp(_id(chan), 7, DEPOSIT + 7);
        vm.prank(OTHER);
        token.transferAndCall(address(channels), 7, abi.encode(_id(chan)));
        assertEq(_record(chan).deposit, DEPOSIT + 7, "larger");
        assertEq(_record(chan).epoch, 1, "the same channel");
    }

    function test_the_owner_closes_at_once_with_the_last_voucher() public {
        _open(chan, DEPOSIT);
        _redeem(chan, 1e18);
        uint256 before = _has(CLIENT);
        vm.expectEmit(true, true, true, true, address(channels));
        emit IPaymentChannels.VoucherRedeemed(_id(chan), 3e18, 4e18, ROOT);
        vm.expectEmit(true, true, true, true, address(channels));
        emit IPaymentChannels.ChannelClosed(_id(chan), 1, 4e18, DEPOSIT - 4e18);
        _close(chan, _voucher(chan, 4e18));
        assertEq(_has(owner), 4e18, "paid");
        assertEq(_has(CLIENT) - before, DEPOSIT - 4e18, "refunded");
        assertEq(_has(address(channels)), 0, "nothing stays");
        _expectClosed(1);
    }

    function test_the_owner_closes_without_a_voucher_or_with_one_that_adds_nothing() public {
        for (uint256 i; i < 3; ++i) {
            _open(chan, DEPOSIT);
            uint256 before = _has(CLIENT);
            _redeem(chan, DEPOSIT / 2);
            Voucher[3] memory last = [_noVoucher(), _voucher(chan, 1), _voucher(chan, DEPOSIT / 2)];
            _close(chan, last[i]);
            assertEq(_has(CLIENT) - before, DEPOSIT / 2, "refunded");
        }
        assertEq(_has(owner), 3 * uint256(DEPOSIT / 2), "paid once each");
        _expectClosed(3);
    }

    function test_a_channel_spent_to_the_end_closes_without_a_refund() public {
        _open(chan, DEPOSIT);
        uint256 before = _has(CLIENT);
        _close(chan, _voucher(chan, uint256(DEPOSIT) + 5)); // promised more than there is
        assertEq(_has(owner), DEPOSIT, "all of it");
        assertEq(_has(CLIENT), before, "nothing left");
        _open(chan, DEPOSIT);
        _redeem(chan, DEPOSIT);
        _requestClose(chan);
        _afterPeriod();
        channels.finish(chan);
        _expectClosed(2);
    }

    function test_the_client_gets_the_rest_after_the_challenge_period() public {
        _open(chan, DEPOSIT);
        uint40 end = uint40(block.timestamp) + PERIOD;
        vm.expectEmit(true, true, true, true, address(channels));
        emit IPaymentChannels.ChannelClosing(_id(chan), end);
        _requestClose(chan);
        assertTrue(_state(chan) == ChannelState.CLOSING, "closing");
        vm.warp(end);
        _redeem(chan, 6e18); // in the last second
        vm.expectRevert(abi.encodeWithSelector(IPaymentChannels.TooEarly.selector, end));
        channels.finish(chan);
        vm.warp(uint256(end) + 1);
        uint256 before = _has(CLIENT);
        vm.prank(OTHER); // nobody's cooperation is needed
        channels.finish(chan);
        assertEq(_has(CLIENT) - before, DEPOSIT - 6e18, "the rest");
        assertEq(_has(owner), 6e18, "a newer voucher wins");
        _expectClosed(1);
    }

    function test_the_owner_may_end_the_challenge_period() public {
        _open(chan, DEPOSIT);
        _requestClose(chan);
        _close(chan, _voucher(chan, 2e18));
        assertEq(_has(owner), 2e18, "with its last voucher");
        _expectClosed(1);
        _open(chan, DEPOSIT);
        _requestClose(chan);
        _afterPeriod();
        _close(chan, _noVoucher());
        _expectClosed(2);
    }

    function test_a_closed_channel_opens_again_in_its_slot() public {
        _open(chan, DEPOSIT);
        _close(chan, _noVoucher());
        _open(chan, 5);
        IPaymentChannels.Record memory s = _record(chan);
        assertTrue(_state(chan) == ChannelState.OPEN, "open");
        assertEq(s.epoch, 2, "next epoch");
        assertEq(s.deposit, 5, "nothing from before");
        assertEq(s.claimed, 0, "nothing from before");
    }

    function test_many_channels_are_redeemed_at_once_and_owners_paid_together() public {
        Redemption[] memory batch = new Redemption[](5);
        uint256[5] memory holders = [uint256(0), 0, 1, 1, 0];
        for (uint256 i; i < 5; ++i) {
            Channel memory c = Channel(CLIENT, nodes[holders[i]], vm.addr(SESSION + i));
            _open(c, DEPOSIT);
            batch[i] = Redemption(c, _voucher(c, SESSION + i, 1, 10 ** i));
        }
        vm.recordLogs();
        channels.redeemMany(batch);
        assertEq(_has(owners[0]), 10011, "three channels");
        assertEq(_has(owners[1]), 1100, "two channels");
        for (uint256 i; i < 5; ++i) {
            assertEq(_record(batch[i].channel).claimed, 10 ** i, "each");
        }
        assertEq(_transfers(), 3, "one for each run of an owner");
    }

    function test_one_bad_voucher_does_not_sink_the_others() public {
        Redemption[] memory batch = new Redemption[](7);
        for (uint256 i; i < 7; ++i) {
            Channel memory c = Channel(CLIENT, nodes[0], vm.addr(SESSION + i));
            if (i != 2) _open(c, DEPOSIT);
            batch[i] = Redemption(c, _voucher(c, SESSION + i, 1, 1e18));
        }
        batch[1].voucher = _voucher(batch[1].channel, SESSION, 1, 1e18); // another channel's key
        channels.redeem(batch[3].channel, batch[3].voucher); // somebody was faster
        _requestClose(batch[4].channel);
        _afterOf(batch[4].channel);
        batch[5].voucher.cumulativeAmount = 0;
        bytes4[5] memory wanted = [
            IPaymentChannels.BadSignature.selector,
            IPaymentChannels.BadState.selector,
            IPaymentChannels.NothingNew.selector,
            IPaymentChannels.TooLate.selector,
            IPaymentChannels.NothingNew.selector
        ];
        for (uint256 i; i < 5; ++i) {
            vm.expectEmit(true, true, true, true, address(channels));
            emit IPaymentChannels.VoucherSkipped(_id(batch[i + 1].channel), wanted[i]);
        }
        channels.redeemMany(batch);
        assertEq(_has(owner), 3e18, "the first, the last, and the one redeemed before");
        expect(IPaymentChannels.NothingRedeemed.selector);
        channels.redeemMany(batch);
        expect(IPaymentChannels.NothingRedeemed.selector);
        channels.redeemMany(new Redemption[](0));
    }

    function test_one_channel_twice_in_a_batch_pays_the_larger_once() public {
        _open(chan, DEPOSIT);
        Redemption[] memory batch = new Redemption[](3);
        for (uint256 i; i < 3; ++i) {
            batch[i] = Redemption(chan, _voucher(chan, [uint256(4), 9, 6][i]));
        }
        channels.redeemMany(batch);
        assertEq(_has(owner), 9, "the largest");
    }

    // --- who, and when ----------------------------------------------------------------------------------------

    function test_only_the_owner_closes_and_only_the_client_asks() public {
        _open(chan, DEPOSIT);
        address[3] memory others = [CLIENT, vm.addr(keys[0]), OTHER]; // the operator key redeems, never closes
        for (uint256 i; i < 3; ++i) {
            _expectForbidden(others[i]);
            vm.prank(others[i]);
            channels.close(chan, _noVoucher());
        }
        others = [owner, chan.sessionKey, OTHER];
        for (uint256 i; i < 3; ++i) {
            _expectForbidden(others[i]);
            vm.prank(others[i]);
            channels.requestClose(chan);
        }
    }

    /// @dev Every state meets every call.
    function test_a_step_is_in_the_table_or_refused() public {
        Voucher memory v = _voucher(chan, SESSION, 1, 1e18);
        _refuses(ChannelState.NONE, v);
        _open(chan, DEPOSIT);
        _expectState(chan, ChannelState.OPEN);
        _open(chan, DEPOSIT);
        _expectState(chan, ChannelState.OPEN);
        channels.finish(chan);
        _requestClose(chan);
        _expectState(chan, ChannelState.CLOSING);
        _open(chan, DEPOSIT);
        _expectState(chan, ChannelState.CLOSING);
        _topUp(chan, 1);
        _expectState(chan, ChannelState.CLOSING);
        _requestClose(chan);
        _close(chan, v);
        _refuses(ChannelState.CLOSED, v);
    }

    function test_the_guardian_stops_openings_and_top_ups_and_nothing_else() public {
        Channel memory fresh = Channel(CLIENT, nodes[1], vm.addr(SESSION));
        Channel memory second = Channel(CLIENT, nodes[2], vm.addr(SESSION));
        _open(chan, DEPOSIT);
        _open(second, DEPOSIT);
        vm.prank(GUARDIAN);
        registry.pause();
        expect(IPaymentChannels.IsPaused.selector);
        _open(fresh, DEPOSIT);
        expect(IPaymentChannels.IsPaused.selector);
        _topUp(chan, DEPOSIT);
        vm.expectRevert(); // a contract that starts paused would be a mistake
        new PaymentChannels(token, registry, PERIOD);
        _redeem(chan, 1e18);
        Redemption[] memory batch = new Redemption[](1);
        batch[0] = Redemption(chan, _voucher(chan, 2e18));
        channels.redeemMany(batch);
        _close(second, _voucher(second, 1e18));
        _requestClose(chan);
        _afterPeriod();
        channels.finish(chan);
        assertEq(_has(address(channels)), 0, "everybody is out");
        vm.prank(GUARDIAN);
        registry.unpause();
        _open(fresh, DEPOSIT);
    }

    function test_only_the_token_brings_money_and_only_with_a_channels_name() public {
        _expectForbidden(OTHER);
        vm.prank(OTHER);
        channels.onTransferReceived(OTHER, OTHER, 1e18, abi.encode(nodes[0], OTHER));
        bytes[5] memory wrong = [
            bytes(""),
            hex"01",
            abi.encode(nodes[0], chan.sessionKey, 1),
            abi.encode(nodes[0], address(0)), // nobody could sign
            abi.encode(bytes32(uint256(1)), chan.sessionKey) // nobody could be paid
        ];
        for (uint256 i; i < 5; ++i) {
            expect(IPaymentChannels.BadData.selector);
            token.transferAndCall(address(channels), 1, wrong[i]);
        }
        expect(IPaymentChannels.BadData.selector);
        _open(chan, 0);
        vm.expectRevert();
        token.transferAndCall(address(channels), 1, abi.encode(nodes[0], type(uint256).max));
    }

    function test_an_allowance_is_no_consent_to_be_a_client() public {
        vm.prank(CLIENT);
        IERC20(token).approve(OTHER, DEPOSIT);
        _expectForbidden(OTHER);
        vm.prank(OTHER);
        token.transferFromAndCall(CLIENT, address(channels), DEPOSIT, abi.encode(nodes[0], OTHER));
        _open(chan, DEPOSIT);
        vm.prank(OTHER); // it may still pay for somebody
        token.transferFromAndCall(CLIENT, address(channels), DEPOSIT, abi.encode(_id(chan)));
        assertEq(_record(chan).deposit, 2 * uint256(DEPOSIT), "topped up");
    }

    function _refuses(ChannelState state, Voucher memory v) private {
        _expectState(chan, state);
        channels.redeem(chan, v);
        _expectState(chan, state);
        _close(chan, v);
        _expectState(chan, state);
        _requestClose(chan);
        _expectState(chan, state);
        channels.finish(chan);
        _expectState(chan, state);
        _topUp(chan, 1);
    }

    function _expectClosed(uint24 epoch) private view {
        IPaymentChannels.Record memory s = _record(chan);
        assertTrue(_state(chan) == ChannelState.CLOSED, "closed");
        assertEq(uint256(s.deposit) + s.claimed + s.closesAt, 0, "holds nothing");
        assertEq(s.epoch, epoch, "and remembers its epoch");
    }

    function _afterOf(Channel memory c) private {
        vm.warp(_record(c).closesAt + 1);
    }

    function _transfers() private returns (uint256 n) {
        bytes32 topic = keccak256("Transfer(address,address,uint256)");
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] == topic) ++n;
        }
    }
}
