# SPDX-License-Identifier: GPL-2.0
"""The stream code against an enemy's bytes, for a fixed number of runs: the same each time."""

from __future__ import annotations

import pathlib

from lab.common import config
from lab.faults import corpus, stream

# A few seconds on an idle machine.
RUNS = 15000
SEED = 1
# A bound, a piece, the order of rows, a queue, the comparison, a buffer of text.
KINDS = {"unit_overflows", "piece_changes_the_image", "rows_not_sorted", "irq_queue_twice",
         "control_domains_differ", "encoder_writes_too_far"}


def test_seeds_are_up_to_date() -> None:
    """The corpus and its source agree; it stays small."""
    wanted = {f"{name}.bin": data for name, data in corpus.seeds().items()}
    there = {path.name: path.read_bytes() for path in corpus.FOLDER.iterdir()}
    assert there == wanted, "run python3 -m lab.faults.corpus"
    assert sum(map(len, wanted.values())) < 100_000


def test_decoder_under_attack() -> None:
    """No input breaks a property, and the inputs reach the branches of the file."""
    done = stream.run_fuzzer(stream.build(), SEED, RUNS)
    print(f"seed {SEED}, {done.runs} runs, {done.crash}")
    assert not done.why, done.why
    assert done.runs >= RUNS
    reached = stream.coverage(done.found)
    print(f"{reached.taken} of {reached.total} branches", *reached.missed, sep="\n")
    assert reached.percent >= stream.FLOOR


def test_finds_planted_faults(tmp: pathlib.Path) -> None:
    """Faults that are put into a copy of the driver's file break a property.

    One of each kind: make test-long tries all of them.
    """
    stream.build(folder=tmp)
    missed = []
    for fault in stream.PLANTED:
        if fault.name not in KINDS:
            continue
        try:
            print(fault.name, *stream.find(fault, tmp), sep="\n  ")
        except stream.FuzzError as error:
            missed.append(str(error))
    assert not missed, missed


def test_planted_faults_fit() -> None:
    """The text that each replaces is in the driver's file, once."""
    text = (config.LINUX / stream.DRIVER).read_text(encoding="utf-8")
    for fault in stream.PLANTED:
        assert stream.plant(fault, text) != text
    names = {fault.name for fault in stream.PLANTED}
    assert len(names) == len(stream.PLANTED) and KINDS <= names


def test_assertions_are_known() -> None:
    """Those that stand on one line, those on two, and nothing of the macro."""
    found = stream.assertions()
    assert {"seen->error == ref.error", "(size_t)used <= len - done"} <= found
    assert any(text.startswith("vfio_ap_stream_decode(dec, chunk, len, &more) == used && ")
               for text in found)
    assert not any("cond" in text for text in found)


def test_coverage_counts_branches(tmp: pathlib.Path) -> None:
    """Both ways of each condition, in the driver's file only."""
    path = tmp / "file.c"
    path.write_text("if (one)\n\telse if (two)\n")
    branches = [[1, 5, 1, 8, 3, 0, 0, 0, 4], [2, 11, 2, 14, 1, 1, 0, 0, 4]]
    got = stream.parse_coverage({"data": [{"files": [
        {"filename": "/x/file.c", "branches": branches},
        {"filename": "/x/other.c", "branches": branches}]}]}, path)
    assert (got.total, got.taken, got.percent) == (4, 3, 75.0)
    assert got.missed == ("line 1: never false: one)",)
