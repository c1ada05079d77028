"""Who is chosen, who is not, and why: properties of the pure matching."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given, strategies as st

from deai.chain.ledger import NodeRecord
from deai.client.matching import Candidate, Twin, Wish, choose, explain, fee_for, rank
from deai.ids import NEAR, AccountId, NodeId, PeerId, node_id
from deai.money import Amount
from deai.net import PeerAddress
from deai.offers import Hardware, Offer, WorkloadOffer
from deai.standing import Standing
from deai.tasks import Policy

NOW, EPOCH = 1_000_000, 100
SEED = b"s" * 32


def owner(number: int) -> AccountId:
    return AccountId("0x" + hashlib.sha256(str(number).encode()).hexdigest()[:40])


def candidate(
    number: int = 0,
    *,
    owned_by: int | None = None,
    price: int = 10,
    stake: int = 1000,
    reputation: int = 100_000,
    standing: Standing = Standing.ACTIVE,
    last_epoch: int = EPOCH,
    speed: int = 1_000_000,
    workload: str = "sums",
    version: int = 1,
    models: tuple[str, ...] = (),
    policies: tuple[str, ...] = ("exact/1", "none/1"),
    capacity: int = 1,
    sandbox: str = "full",
    expires_at: int = NOW + 60,
    twin: Twin | None = None,
    slashed: bool = False,
) -> Candidate:
    node = node_id(owner(number if owned_by is None else owned_by), number)
    offer = Offer(
        node=node, peer_id="p" * 40, addresses=(), version="1", sequence=1, issued_at=NOW - 60,
        expires_at=expires_at, capacity=capacity, sandbox=sandbox,
        hardware=Hardware(device="cpu", cores=1, memory_mib=1),
        workloads=(
            WorkloadOffer(
                workload=workload, version=version, models=models, policies=policies,
                base_fee=Amount(price), unit_fee=Amount(0), milliunits_per_second=speed,
            ),
        ),
    )  # fmt: skip
    record = NodeRecord(
        node=node, operator=AccountId("0x" + "11" * 20), standing=standing, stake=stake,
        unbonding=0, unbond_at=0, reputation=reputation, checked_tasks=0, last_epoch=last_epoch,
    )  # fmt: skip
    return Candidate(offer, PeerAddress(PeerId("p" * 40), ()), record, twin, slashed)


def wish(**changed: object) -> Wish:
    values: dict[str, object] = {
        "workload": "sums", "version": 1, "model": "", "policy": Policy.EXACT, "seats": 3,
        "units": 10, "max_fee": 100, "seconds": 120.0, **changed,
    }  # fmt: skip
    return Wish(**values)  # type: ignore[arg-type]


pools = st.lists(
    st.builds(
        candidate,
        st.integers(0, 10_000),
        owned_by=st.integers(0, 8),
        price=st.integers(0, 200),
        stake=st.integers(0, 10**24),
        reputation=st.integers(0, 1_000_000),
        standing=st.sampled_from(Standing),
        last_epoch=st.integers(EPOCH - 3, EPOCH),
        slashed=st.booleans(),
        twin=st.none()
        | st.builds(Twin, st.just(NodeId("a.near#0")), st.just(NEAR), st.integers(0, 1)),
    ),
    max_size=30,
)


@given(pools, st.integers(0, 200), st.binary(min_size=32, max_size=32))
def test_the_chosen_are_affordable_assignable_and_of_distinct_owners(
    pool: list[Candidate], limit: int, seed: bytes
) -> None:
    ranking = rank(pool, wish(max_fee=limit), now=NOW, epoch=EPOCH, seed=seed)
    chosen = choose(ranking.fit, 3)
    assert len({one.candidate.owner for one in chosen}) == len(chosen)
    for one in ranking.fit:
        assert one.ask <= limit
        assert one.candidate.record.standing.is_assignable
        assert one.candidate.record.last_epoch >= EPOCH - 1
        assert not one.candidate.slashed
        assert one.candidate.twin is None or not one.candidate.twin.slashed
    if chosen:
        assert all(one.ask <= fee_for(chosen, 0) <= limit for one in chosen)


@given(pools, st.binary(min_size=32, max_size=32))
def test_everybody_is_either_fit_or_rejected_with_a_reason_and_never_both(
    pool: list[Candidate], seed: bytes
) -> None:
    ranking = rank(pool, wish(), now=NOW, epoch=EPOCH, seed=seed)
    fit = [one.node for one in ranking.fit]
    rejected = [one.node for one in ranking.rejected]
    assert Counter(fit + rejected) == Counter({one.node for one in pool})
    assert all(one.reason and one.code for one in ranking.rejected)


@given(pools, st.binary(min_size=32, max_size=32), st.randoms())
def test_the_order_in_which_nodes_were_found_does_not_matter(
    pool: list[Candidate], seed: bytes, chance: object
) -> None:
    unique = list({one.node: one for one in pool}.values())
    shuffled = list(unique)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    first = rank(unique, wish(), now=NOW, epoch=EPOCH, seed=seed)
    assert rank(shuffled, wish(), now=NOW, epoch=EPOCH, seed=seed) == first


def test_seats_are_drawn_in_proportion_to_stake_times_reputation() -> None:
    heavy = candidate(0, stake=3000)
    light = [candidate(number, stake=1000) for number in range(1, 4)]
    firsts = Counter(
        rank([heavy, *light], wish(), now=NOW, epoch=EPOCH, seed=bytes([n % 256, n // 256]))
        .fit[0]
        .node
        for n in range(4000)
    )
    assert 0.45 < firsts[heavy.node] / 4000 < 0.55


def test_splitting_a_stake_over_many_cheap_nodes_buys_no_more_seats() -> None:
    honest = [candidate(number, stake=1000, price=50) for number in range(4)]
    swarm = [candidate(100 + n, owned_by=100 + n, stake=50, price=1) for n in range(20)]
    seats = Counter(
        one.candidate.record.stake == 50
        for n in range(2000)
        for one in choose(
            rank([*honest, *swarm], wish(), now=NOW, epoch=EPOCH, seed=n.to_bytes(4, "big")).fit, 1
        )
    )
    # The swarm holds a fifth of the stake.
    assert 0.15 < seats[True] / 2000 < 0.25


def test_where_nobody_checks_the_cheapest_comes_first_and_speed_decides_between_equals() -> None:
    pool = [candidate(0, price=9), candidate(1, price=5, speed=100_000), candidate(2, price=5)]
    unchecked = wish(policy=Policy.NONE, seats=1)
    fit = rank(pool, unchecked, now=NOW, epoch=EPOCH, seed=SEED).fit
    assert [one.node for one in fit] == [pool[2].node, pool[1].node, pool[0].node]


@pytest.mark.parametrize(
    ("made", "wished", "code"),
    [
        ({"workload": "other"}, {}, "workload"),
        ({"version": 2}, {}, "version"),
        ({}, {"model": "m"}, "model"),
        ({"policies": ("tol32/1",)}, {}, "policy"),
        ({"price": 101}, {}, "price"),
        ({"capacity": 0}, {}, "capacity"),
        ({"speed": 1}, {}, "deadline"),
        ({"standing": Standing.JAILED}, {}, "standing"),
        ({"standing": Standing.UNBONDING}, {}, "standing"),
        ({"last_epoch": EPOCH - 2}, {}, "silent"),
        ({"slashed": True}, {}, "slashed"),
        ({"slashed": True, "standing": Standing.PROBATION}, {}, "slashed"),
        ({"sandbox": "partial"}, {"min_sandbox": "full"}, "sandbox"),
        ({"expires_at": NOW - 1}, {}, "offer_expired"),
        ({}, {"nodes": (NodeId("0x" + "ab" * 32),)}, "not_named"),
    ],
)
def test_a_node_that_does_not_fit_is_told_apart_by_its_reason(
    made: dict[str, object], wished: dict[str, object], code: str
) -> None:
    ranking = rank(
        [candidate(0, **made)],  # type: ignore[arg-type]
        wish(**wished),
        now=NOW,
        epoch=EPOCH,
        seed=SEED,
    )
    assert ranking.fit == ()
    assert [one.code for one in ranking.rejected] == [code]


def test_when_too_few_fit_the_error_names_the_price_that_would_be_enough() -> None:
    pool = [candidate(0, price=50), candidate(1, price=150), candidate(2, price=120)]
    ranking = rank(pool, wish(), now=NOW, epoch=EPOCH, seed=SEED)
    error = explain(ranking, wish())
    assert error.reason_code == "no_offer"
    assert "--max-fee to 150" in error.hint


@given(st.integers(1, 10**24), st.sampled_from([Policy.EXACT, Policy.NONE]))
def test_a_node_that_was_slashed_as_its_twin_takes_no_seat(slashed: int, policy: Policy) -> None:
    twin = Twin(NodeId("owner.near#0"), NEAR, slashed)
    honest = [candidate(n, twin=Twin(NodeId(f"o{n}.near#0"), NEAR, 0)) for n in range(1, 4)]
    ranking = rank(
        [candidate(0, twin=twin), *honest], wish(policy=policy), now=NOW, epoch=EPOCH, seed=SEED
    )

    assert {one.node for one in ranking.fit} == {one.node for one in honest}
    (rejected,) = ranking.rejected
    assert rejected.code == "slashed_elsewhere"
    assert "owner.near#0" in rejected.reason


@pytest.mark.parametrize("policy", [Policy.EXACT, Policy.NONE])
@pytest.mark.parametrize("named", [False, True])
def test_a_node_that_was_slashed_here_takes_no_seat_after_its_release_either(
    policy: Policy, named: bool
) -> None:
    released = candidate(0, slashed=True, standing=Standing.PROBATION)
    pool = [released, *(candidate(number) for number in range(1, 4))]
    asked = wish(policy=policy, nodes=tuple(one.node for one in pool) if named else ())
    ranking = rank(pool, asked, now=NOW, epoch=EPOCH, seed=SEED)

    assert {one.node for one in ranking.fit} == {one.node for one in pool[1:]}
    assert [(one.node, one.code) for one in ranking.rejected] == [(released.node, "slashed")]
    assert "1 × was slashed for equivocation" in str(explain(ranking, asked))


@pytest.mark.parametrize(
    ("made", "code"),
    [({"standing": Standing.JAILED}, "standing"), ({"slashed": True}, "slashed")],
)
def test_what_a_node_did_here_is_told_before_what_its_twin_did(
    made: dict[str, object], code: str
) -> None:
    twin = Twin(NodeId("owner.near#0"), NEAR, 1)
    guilty = candidate(0, twin=twin, **made)  # type: ignore[arg-type]
    ranking = rank([guilty], wish(), now=NOW, epoch=EPOCH, seed=SEED)

    assert [one.code for one in ranking.rejected] == [code]
