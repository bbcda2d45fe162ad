# SPDX-License-Identifier: GPL-2.0
"""The shape of lab/: packages import each other in one direction, modules stay short."""

from __future__ import annotations

import ast
import graphlib
import pathlib
from collections.abc import Iterator

MAX_LINES = 500


def imported(path: pathlib.Path) -> Iterator[str]:
    """The modules below lab that a module imports, in functions, too; not those for types only."""
    nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"), str(path))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            nodes += node.orelse
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def packages(root: pathlib.Path) -> dict[str, set[str]]:
    """The packages of lab/ that each package imports, itself left out; tests import all."""
    names = {path.parent.name for path in (root / "lab").glob("*/*.py")}
    found: dict[str, set[str]] = {name: set() for name in names}
    for path in (root / "lab").glob("*/*.py"):
        if path.name.startswith("test_"):
            continue
        parts = [name.split(".") for name in imported(path)]
        found[path.parent.name] |= {part[1] for part in parts if part[0] == "lab" and len(part) > 1
                                    and part[1] in names} - {path.parent.name}
    return found


def check(root: pathlib.Path) -> list[str]:
    """Cycles of imports between packages, and modules of too many lines."""
    modules = sorted((root / "lab").rglob("*.py"))
    if not modules:
        return ["lab: has no Python module"]
    found = []
    try:
        graphlib.TopologicalSorter(packages(root)).prepare()
    except graphlib.CycleError as err:
        found.append(f"import cycle: {' <- '.join(err.args[1])}")
    for path in modules:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_LINES:
            found.append(f"{path.relative_to(root)}: {lines} lines, {MAX_LINES} at most")
    return found
