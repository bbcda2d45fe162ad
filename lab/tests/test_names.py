# SPDX-License-Identifier: GPL-2.0
"""Names of tests and T=, known before anything is built."""

from __future__ import annotations

import sys

from lab.common import config
from lab.common.run import run
from lab.tests import names


def test_names_of_functions() -> None:
    """Suite and case."""
    assert names.of_function("test_series", "test_take") == "lab.series.take"
    assert names.of_function("test_pair_migrate", "test_completes") == "pair.migrate.completes"
    assert names.of_function("test_race", "long_faults") == "lab.race.faults"


def test_list_has_this_test() -> None:
    """This test and one of each kind are listed, each name once."""
    every = names.all_names()
    assert "lab.names.list_has_this_test" in every
    assert len(set(every)) == len(every)
    for start in ("lab.stream_host_test.", "a.vfio_ap_stream", "a.migration_state_test.", "pair."):
        assert any(name.startswith(start) for name in every), start


def test_selection() -> None:
    """T= decides by the whole name; a pattern that matches nothing is an error."""
    every = ("a.state.reset_twice", "a.state.open", "pair.reset.open")
    assert names.select("a.*.reset*", every) == ["a.state.reset_twice"]
    assert names.select("*", every) == list(every)
    assert names.select("a.* !*.open", every) == ["a.state.reset_twice"]
    assert names.select("!a.*", every) == ["pair.reset.open"]
    for pattern in ("a.state", "!a.state", "a.* !a.state"):
        try:
            names.select(pattern, every)
            raise AssertionError("a pattern that matches nothing was taken")
        except names.NamesError as error:
            assert "a.state: " in str(error) and "make list" in str(error), error


def test_selection_fails_before_anything_is_built() -> None:
    """The command says so at once, in a folder where nothing was built."""
    missing = config.OUT / "tmp/no-build"
    for command in ("test", "test-long"):
        done = run([sys.executable, "-m", "lab", command], cwd=config.REPO, timeout=60, merge=True,
                   env={"PATH": "/usr/bin:/bin", "T": "no.such.test", "LAB_BUILD": str(missing)})
        assert done.rc == 1 and "T=no.such.test: no test has such a name" in done.out, done
        assert not missing.exists()
