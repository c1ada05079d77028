"""What a person sees while a task runs."""

from __future__ import annotations

from deai.cli.render import bar, marked, plain, short
from deai.cli.task_progress import Screen, describe
from deai.client.updates import TaskUpdate
from deai.ids import NodeId

FIRST, SECOND = NodeId("0x" + "ab" * 32), NodeId("0x" + "cd" * 32)
STORY = (
    TaskUpdate(kind="matched", at=0.1, message="9 offers fit, 3 accepted"),
    TaskUpdate(kind="posted", at=0.5, message="0x" + "ee" * 32, transaction="0x" + "7b" * 32),
    TaskUpdate(kind="input", at=0.6, message="input sent to 3 nodes"),
    TaskUpdate(kind="progress", at=3.0, seat=0, node=FIRST, done=0.65),
    TaskUpdate(kind="silent", at=5.9, seat=0, node=FIRST, message="no sign of life"),
    TaskUpdate(kind="replaced", at=9.0, seat=0, attempt=1, node=SECOND, message="took over"),
    TaskUpdate(kind="progress", at=10.0, seat=0, attempt=1, node=SECOND, done=0.25),
    TaskUpdate(kind="committed", at=13.6, seat=1, node=FIRST),
    TaskUpdate(kind="note", at=14.0, message="the chain does not answer"),
)


def screen(width: int) -> str:
    made = Screen(width)
    for update in STORY:
        made.take(update)
    return made.text()


def test_every_seat_and_every_holder_has_a_line_with_a_word_beside_its_mark() -> None:
    lines = screen(100).splitlines()
    assert any("seat 0 " in line and "▲ replaced" in line and "65 %" in line for line in lines)
    assert any("seat 0.1" in line and "◉ computing" in line and "25 %" in line for line in lines)
    assert any(
        "seat 1" in line and "◐ committed 13.6 s" in line and "100 %" in line for line in lines
    )
    assert lines[0].startswith("● Matched")
    assert "▲ the chain does not answer" in lines


def test_no_line_is_wider_than_the_terminal_or_a_hundred_columns() -> None:
    for width in (80, 100, 240):
        assert max(len(line) for line in screen(width).splitlines()) <= min(width, 100)


def test_a_bar_tells_done_from_to_do_without_colour() -> None:
    assert bar(0.5, 10) == "█████░░░░░"
    assert bar(-1, 4) == "░░░░"
    assert bar(2, 4) == "████"


def test_elsewhere_a_change_is_one_line() -> None:
    for update in STORY:
        assert "\n" not in describe(update)
    assert describe(STORY[3]) == "◉ seat 0 0xabab…abab 65 %"
    assert describe(STORY[7]).startswith("◐ seat 1")


def test_what_a_node_says_stays_on_its_line_and_moves_nothing() -> None:
    evil = TaskUpdate(kind="note", at=1.0, message="no\x1b[2J\n● settled\r\x9b1A")
    made = Screen(80)
    made.take(evil)
    for shown in (made.text(), plain(describe(evil))):
        assert len(shown.splitlines()) == 1
        assert not set(shown) & set("\x1b\r\x9b")


def test_marks_never_stand_alone_and_ids_are_cut() -> None:
    assert marked("completed") == "● completed"
    assert marked("something new") == "○ something new"
    assert short("0x" + "ab" * 32) == "0xabab…abab"
    assert short(None) == "none"
