# SPDX-License-Identifier: GPL-2.0
"""Models of locks, states and pins: the claims hold, and each planted fault breaks one."""

from __future__ import annotations

from lab.common import config
from lab.faults import models
from lab.faults.models import Check, Found, ModelError


def problems(checks: tuple[Check, ...]) -> list[str]:
    """Wrong outcomes of these."""
    wrong = []
    for check, found in models.run_all(checks):
        print(f"{check.name}: {found.states} states, {found.seconds} s, {found.error or 'holds'}")
        wrong += [models.check_outcome(check, found)]
    return [line for line in wrong if line]


def test_claims_hold() -> None:
    """No interleaving breaks a claim, and all of them were looked at."""
    assert not problems(models.HOLDS)


def test_planted_faults_are_found() -> None:
    """Each breaks the claim that it should."""
    assert not problems(models.FAULTS)


def test_functions_exist() -> None:
    """The functions that the models name exist in the driver."""
    text = "\n".join(path.read_text(encoding="utf-8") for pattern in models.SOURCES
                     for path in sorted(config.LINUX.glob(pattern)))
    for name in ("session", "pins"):
        named = models.functions(name)
        assert len(named) > 10, named
        assert not {function for function in named if f"{function}(" not in text}


def test_names_are_unique() -> None:
    """A folder for each."""
    names = [check.name for check in (*models.HOLDS, *models.FAULTS)]
    assert len(names) == len(set(names))


def test_verifier_output_is_parsed() -> None:
    """An error, none, and a search that is not complete."""
    end = "\n State-vector 60 byte, depth reached 7, errors: {}\n  12 states, stored\n" \
          "pan: elapsed time 0.5 seconds\n"
    assert models.parse(end.format(0)) == Found("", 12, 0.5)
    assert models.parse("pan:1: invalid end state (at depth 7)" + end.format(1)) == Found(
        "invalid end state (at depth 7)", 12, 0.5)
    for bad in ("error: max search depth too small" + end.format(0), "out of memory\n",
                "Warning: Search not completed" + end.format(0), end.format(1)):
        try:
            models.parse(bad)
        except ModelError:
            continue
        raise AssertionError(bad)


def test_judgement() -> None:
    """A fault has to break the claim it was made for."""
    good, bad = Check("a", "pins", ""), Check("b", "pins", "X", "not held")
    none, other, right = Found("", 1, 0), Found("assert (else)", 1, 0), Found("( notheld)", 1, 0)
    assert not models.check_outcome(good, none) and not models.check_outcome(bad, right)
    assert models.check_outcome(good, right) and models.check_outcome(bad, none)
    assert models.check_outcome(bad, other)
