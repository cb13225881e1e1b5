"""Every fault of an upstream against every strategy, on real sockets; the tables of docs/fault-matrix.md are made here.

To renew the page: LLMGATE_UPDATE_MATRIX=1 pytest tests/wire/test_fault_matrix.py; then read the difference.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.wire.fault_matrix import FAULTS, STRATEGIES, TEXT, Cell, Matrix, again, measured, table

PAGE = Path(__file__).parents[2] / "docs" / "fault-matrix.md"
MAX_ATTEMPTS = 5
REACHED_NOBODY = ("refuses the connection", "fails at TLS")
KNOWN = (400, 403, 404, 429, 502, 503, 504)
BROKEN_LATE = (
    "an error after some text",
    "an event that breaks off, after some text",
    "cut in the middle",
    "ends in the middle, properly",
    "silence in the middle",
)
"""Faults after the first token of a stream: nothing can be tried again then."""


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    return asyncio.run(measured())


Place = tuple[bool, str, str, Cell]


def cells(matrix: Matrix) -> Iterator[Place]:
    """Whether it is a stream, fault, strategy, cell."""
    for stream, faults in matrix.items():
        for fault, found in faults.items():
            for strategy, cell in found.items():
                yield stream, fault, strategy, cell


def wrong(matrix: Matrix, is_wrong: Callable[[bool, str, str, Cell], bool]) -> list[Place]:
    return [place for place in cells(matrix) if is_wrong(*place)]


def test_a_truncated_answer_is_never_shown_as_a_success(matrix: Matrix) -> None:
    assert not wrong(matrix, lambda stream, fault, strategy, cell: cell.whole and cell.text != TEXT)
    assert not wrong(
        matrix, lambda stream, fault, strategy, cell: not (cell.whole or cell.error or cell.broken or cell.unreadable)
    )


def test_another_branch_helps_against_everything_before_the_commit_point_but_a_bad_request(matrix: Matrix) -> None:
    def is_wrong(stream: bool, fault: str, strategy: str, cell: Cell) -> bool:
        is_alone = strategy == "`a`" and fault != "flapping, its second request"
        is_hopeless = is_alone or fault == "400" or (stream and fault in BROKEN_LATE)
        return cell.whole is is_hopeless

    assert not wrong(matrix, is_wrong)


def test_attempts_are_counted_once_and_within_the_budget(matrix: Matrix) -> None:
    def is_wrong(stream: bool, fault: str, strategy: str, cell: Cell) -> bool:
        return cell.attempts != cell.asked + (fault in REACHED_NOBODY) or cell.attempts > MAX_ATTEMPTS

    assert not wrong(matrix, is_wrong)


def test_errors_have_a_status_of_their_own_and_the_upstreams_words(matrix: Matrix) -> None:
    def is_wrong(stream: bool, fault: str, strategy: str, cell: Cell) -> bool:
        if cell.whole or cell.broken or cell.unreadable:
            return cell.status != 200
        in_stream = cell.status == 200 and stream
        has_words = "words of the upstream" in cell.message
        should_have = fault.split()[0] in ("400", "401", "403", "404", "408", "429", "500", "503", "529")
        return not cell.message or (should_have and not has_words) or not (in_stream or cell.status in KNOWN)

    assert not wrong(matrix, is_wrong)


def test_a_caller_is_told_when_to_come_back(matrix: Matrix) -> None:
    for stream in matrix:
        told = {name: cell.headers.get("retry-after") for name, cell in of_one_branch(matrix, stream).items()}
        assert {name: after for name, after in told.items() if after} == {
            "429 with `Retry-After: 7`": "7",
            "429 without": "1",
        }


def of_one_branch(matrix: Matrix, stream: bool) -> dict[str, Cell]:
    return {name: found["`a`"] for name, found in matrix[stream].items()}


# --- the page ---------------------------------------------------------------------------------------------------------


def written(page: str, name: str) -> re.Match[str]:
    found = re.search(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->)", page, re.DOTALL)
    assert found is not None
    return found


def measure_again_what_differs(matrix: Matrix, stream: bool, page: str) -> None:
    """Alone this time: with all the others at its side, a cell may take longer than it should."""
    for name, cells in matrix[stream].items():
        row = next((line for line in page.splitlines() if line.startswith(f"| {name} |")), "")
        for how, told in zip(STRATEGIES, row.strip("| ").split(" | ")[1:], strict=False):
            if str(cells[how]) != told:
                cells[how] = asyncio.run(again(name, how, stream=stream))


def test_the_page_shows_what_happens(matrix: Matrix) -> None:
    for stream, name in ((False, "plain"), (True, "streamed")):
        page = PAGE.read_text(encoding="utf-8")
        found = written(page, name)
        if not os.environ.get("LLMGATE_UPDATE_MATRIX"):
            measure_again_what_differs(matrix, stream, found[0])
        now = table(matrix[stream])
        if os.environ.get("LLMGATE_UPDATE_MATRIX"):
            PAGE.write_text(page[: found.start()] + now + page[found.end() :], encoding="utf-8")
        else:
            assert found[0].splitlines() == now.splitlines()


def test_every_fault_meets_every_strategy(matrix: Matrix) -> None:
    assert [list(faults) for faults in matrix.values()] == [list(FAULTS)] * 2
    assert all(list(found) == list(STRATEGIES) for faults in matrix.values() for found in faults.values())
