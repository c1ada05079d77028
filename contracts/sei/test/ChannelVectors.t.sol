// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {ComputeToken} from "../src/ComputeToken.sol";
import {PaymentChannels} from "../src/PaymentChannels.sol";
import {Channel, ChannelState, IPaymentChannels, Voucher} from "../src/interfaces/IPaymentChannels.sol";
import {ChannelHash} from "../src/lib/ChannelHash.sol";
import {ChannelFixture} from "./support/ChannelFixture.sol";
import {SpecReader} from "./support/SpecReader.sol";

/// @dev Replays contracts/spec/vectors/channels.json: what Python signs is redeemed, and what the core says of a run
/// of calls is what the contract does.
contract ChannelVectorsTest is ChannelFixture, SpecReader {
    /// @dev Columns of a run; see contracts/spec/channel_parts.py.
    struct Run {
        int256[] ops;
        int256[] amounts;
        int256[] epochs;
        int256[] times;
        string[] errors;
        int256[] states;
        int256[] deposits;
        int256[] claimed;
        int256[] closesAt;
        int256[] counts;
        int256[] ownerHas;
        int256[] clientGot;
    }

    string private constant FILE = "channels.json";

    /// @dev By the real contract, on the chain and at the address that the vector names, from its stored word.
    function test_vouchers_that_python_signed_are_redeemed() public {
        token = new ComputeToken(address(this), type(uint96).max);
        (registry, escrow) = _deploy(token);
        bytes memory code = address(new PaymentChannels(token, registry, PERIOD)).code;
        uint256 n = _count(FILE, ".cases", 8);
        for (uint256 i; i < n; ++i) {
            string memory place = _at(".cases", i);
            channels = PaymentChannels(_a(FILE, place, ".domain.verifyingContract"));
            vm.etch(address(channels), code);
            vm.chainId(_n(FILE, place, ".domain.chainId"));
            _replay(place, _channelAt(place), _voucherAt(place));
        }
    }

    function _replay(string memory place, Channel memory c, Voucher memory v) private {
        bytes32 id = _w(FILE, place, ".channelId");
        uint24 epoch = uint24(_n(FILE, place, ".epoch"));
        assertEq(channels.channelIdOf(c), id, place);
        bytes32 hash = ChannelHash.voucher(id, epoch, v.cumulativeAmount, v.receiptsRoot);
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", _w(FILE, place, ".domain.separator"), hash));
        assertEq(digest, _w(FILE, place, ".digest"), "digest");
        assertEq(ECDSA.recover(digest, v.r, v.vs), c.sessionKey, "signature");
        token.transfer(address(channels), v.cumulativeAmount);
        _setRecord(id, v.cumulativeAmount, 0, 0, epoch);
        channels.redeem(c, v);
        address paid = address(uint160(uint256(c.node) >> 96));
        assertEq(_has(paid), v.cumulativeAmount, "the contract takes it");
        vm.prank(paid);
        token.transfer(address(this), v.cumulativeAmount);
    }

    function test_runs_of_calls() public {
        uint256 n = _count(FILE, ".runs", 12);
        for (uint256 i; i < n; ++i) {
            channels = new PaymentChannels(token, registry, uint40(this.number(FILE, ".period")));
            _run(_runAt(_at(".runs", i)));
        }
    }

    function _run(Run memory y) private {
        uint256 owned = _has(owner);
        uint256 spent = _has(CLIENT);
        uint256 put;
        for (uint256 k; k < y.ops.length; ++k) {
            vm.warp(uint256(y.times[k]));
            uint256 deposit = _record(chan).deposit;
            (bool ok, bytes memory why) =
                _call(uint256(y.ops[k]), uint256(y.amounts[k]), uint256(y.epochs[k]));
            assertTrue(ok == (bytes(y.errors[k]).length == 0), y.errors[k]);
            if (!ok) assertEq(bytes32(bytes4(why)), bytes32(_selector(y.errors[k])), y.errors[k]);
            else if (y.ops[k] < 2) put += _record(chan).deposit - deposit;
            IPaymentChannels.Record memory s = _record(chan);
            assertEq(uint256(_state(chan)), uint256(y.states[k]), "state");
            assertEq(s.deposit, uint256(y.deposits[k]), "deposit");
            assertEq(s.claimed, uint256(y.claimed[k]), "claimed");
            assertEq(s.closesAt, uint256(y.closesAt[k]), "closes at");
            assertEq(s.epoch, uint256(y.counts[k]), "epoch");
            assertEq(_has(owner) - owned, uint256(y.ownerHas[k]), "paid");
            assertEq(_has(CLIENT) + put - spent, uint256(y.clientGot[k]), "refunded");
        }
    }

    function _call(uint256 op, uint256 amount, uint256 epoch) private returns (bool, bytes memory) {
        address target = op < 2 ? address(token) : address(channels);
        bytes memory data = op == 0 ? abi.encode(chan.node, chan.sessionKey) : abi.encode(_id(chan));
        bytes memory call;
        if (op < 2) {
            call = abi.encodeWithSignature(
                "transferAndCall(address,uint256,bytes)", address(channels), amount, data
            );
        } else if (op == 2) {
            call = abi.encodeCall(channels.redeem, (chan, _voucher(chan, SESSION, uint24(epoch), amount)));
        } else if (op == 3) {
            call = abi.encodeCall(channels.requestClose, (chan));
        } else if (op == 4) {
            call = abi.encodeCall(channels.close, (chan, _voucher(chan, SESSION, uint24(epoch), amount)));
        } else {
            call = abi.encodeCall(channels.finish, (chan));
        }
        vm.prank(op == 4 ? owner : op == 2 || op == 5 ? OTHER : CLIENT);
        return target.call(call);
    }

    function _selector(string memory name) private pure returns (bytes4) {
        bytes32 hash = keccak256(bytes(name));
        if (hash == keccak256("BadState")) return IPaymentChannels.BadState.selector;
        if (hash == keccak256("BadData")) return IPaymentChannels.BadData.selector;
        if (hash == keccak256("BadSignature")) return IPaymentChannels.BadSignature.selector;
        if (hash == keccak256("NothingNew")) return IPaymentChannels.NothingNew.selector;
        if (hash == keccak256("TooEarly")) return IPaymentChannels.TooEarly.selector;
        if (hash == keccak256("TooLate")) return IPaymentChannels.TooLate.selector;
        revert Untrue(name);
    }

    function _runAt(string memory place) private view returns (Run memory y) {
        y.ops = this.numbers(FILE, string.concat(place, ".ops"));
        y.amounts = this.numbers(FILE, string.concat(place, ".amounts"));
        y.epochs = this.numbers(FILE, string.concat(place, ".epochs"));
        y.times = this.numbers(FILE, string.concat(place, ".times"));
        y.errors = this.texts(FILE, string.concat(place, ".errors"));
        y.states = this.numbers(FILE, string.concat(place, ".states"));
        y.deposits = this.numbers(FILE, string.concat(place, ".deposits"));
        y.claimed = this.numbers(FILE, string.concat(place, ".claimed"));
        y.closesAt = this.numbers(FILE, string.concat(place, ".closesAt"));
        y.counts = this.numbers(FILE, string.concat(place, ".counts"));
        y.ownerHas = this.numbers(FILE, string.concat(place, ".ownerHas"));
        y.clientGot = this.numbers(FILE, string.concat(place, ".clientGot"));
    }

    function _channelAt(string memory place) private view returns (Channel memory c) {
        c.client = _a(FILE, place, ".channel.client");
        c.node = _w(FILE, place, ".channel.node");
        c.sessionKey = _a(FILE, place, ".channel.sessionKey");
    }

    function _voucherAt(string memory place) private view returns (Voucher memory v) {
        v.cumulativeAmount = uint96(_n(FILE, place, ".cumulativeAmount"));
        v.receiptsRoot = _w(FILE, place, ".receiptsRoot");
        (v.r, v.vs) = abi.decode(this.data(FILE, string.concat(place, ".signature")), (bytes32, bytes32));
    }
}
