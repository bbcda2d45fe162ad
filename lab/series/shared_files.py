# SPDX-License-Identifier: GPL-2.0
"""Our entries in the kernel's MAINTAINERS and arch/s390/Kconfig.

Both files are lists of blocks with a title. The top-level files MAINTAINERS and Kconfig hold
the additions of the series: a new block whole, of an existing one its title and the added
lines. extract() makes that from the kernel's file before and after the series, merge() puts an
edit of it back.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

# The order of fields that checkpatch wants in a MAINTAINERS entry.
FIELDS = "MRLSWQBPCTVFXNK"
KCONFIG_BLOCK = re.compile(r"(config|menuconfig|menu|endmenu|if|endif|choice|endchoice|source|"
                           r"comment|mainmenu)\b")
MAINTAINERS_LIST = "Maintainers List"


@dataclass(frozen=True)
class Block:
    """A block: title (its first line; "" for the lines before the first) and all lines."""

    title: str
    lines: tuple[str, ...]

    @property
    def body(self) -> tuple[str, ...]:
        """The lines but for blank ones at the end."""
        end = len(self.lines)
        while end and not self.lines[end - 1].strip():
            end -= 1
        return self.lines[:end]


@dataclass(frozen=True)
class Kind:
    """One of the two files: its name at the top level and in the kernel."""

    name: str
    kernel_path: str
    header: str

    def split(self, text: str) -> list[Block]:
        """The blocks of a file; joining their lines gives the file."""
        blocks: list[Block] = []
        title, lines = "", list[str]()
        fresh = self.name == "MAINTAINERS"      # a title follows a blank line there
        for line in text.splitlines():
            if self.name == "MAINTAINERS":
                starts = fresh and bool(line.strip())
                fresh = not line.strip()
            else:
                starts = bool(KCONFIG_BLOCK.match(line))
            if starts:
                blocks.append(Block(title, tuple(lines)))
                title, lines = line, []
            lines.append(line)
        blocks.append(Block(title, tuple(lines)))
        return [b for b in blocks if b.lines]

    def extract(self, base: str, head: str) -> str:
        """Additions of head to base, as text of the top-level file; "" for nothing."""
        if base == head:
            return ""
        found = ["\n".join(block.body) for block in self._added(base, head)]
        return self.header + "\n\n".join(found) + "\n" if found else ""

    def _added(self, base: str, head: str) -> list[Block]:
        old = keyed(self.split(base))
        found = []
        for key, block in keyed(self.split(head)).items():
            before = old.get(key)
            if before is None:
                found.append(Block(block.title, block.body))
            elif before.body != block.body:
                lines = added_lines(before.body, block.body)
                if lines:
                    found.append(Block(block.title, (block.title, *lines)))
        return found

    def merge(self, base: str, head: str, ours: str) -> str:
        """head changed so that extract(base, result) is ours."""
        if ours.startswith(self.header):
            ours = ours[len(self.header):]
        want = keyed(self.split(ours))
        have = keyed(self._added(base, head))
        old = keyed(self.split(base))
        result = self.split(head)
        for key in [k for k in have if k not in want and k not in old]:
            del result[list(keyed(result)).index(key)]
        for key in [k for k in have if k not in want and k in old]:
            result = self._replace(result, key, (), have[key].body[1:])
        last = ""
        for key, block in want.items():
            if key in old:
                drop = have[key].body[1:] if key in have else ()
                result = self._replace(result, key, block.body[1:], drop)
            elif key in keyed(result):
                at = list(keyed(result)).index(key)
                tail = result[at].lines[len(result[at].body):]
                result[at] = Block(block.title, block.body + tail)
            else:
                result.insert(self._place(result, block, last), Block(
                    block.title, (*block.body, "")))
            last = key
        return "\n".join(line for block in result for line in block.lines) + "\n"

    def _replace(self, blocks: list[Block], key: str, add: Sequence[str],
                 drop: Sequence[str]) -> list[Block]:
        """blocks with the lines drop of one block replaced by the lines add."""
        at = list(keyed(blocks)).index(key)
        lines = list(blocks[at].lines)
        if list(add) == list(drop):
            return blocks
        where = {}
        for line in drop:
            where[line] = lines.index(line, 1)
        kept = [line for line in lines[1:] if line not in drop or line in add]
        lines = [lines[0], *kept]
        for index, line in enumerate(add):
            if line in where:
                continue
            lines.insert(self._line_place(lines, line, add[:index]), line)
        return [*blocks[:at], Block(blocks[at].title, tuple(lines)), *blocks[at + 1:]]

    def _line_place(self, lines: Sequence[str], line: str, before: Sequence[str]) -> int:
        """Where in a block an added line belongs."""
        if self.name == "MAINTAINERS":
            for index, other in enumerate(lines[1:], 1):
                if not other.strip() or field_key(other) > field_key(line):
                    return index
            return len(lines)
        for prior in reversed(before):
            if prior in lines:
                return lines.index(prior) + 1
        for index, other in enumerate(lines):
            if other.strip() in ("help", "") and index:
                return index
        return len(lines)

    def _place(self, blocks: Sequence[Block], block: Block, last: str) -> int:
        """Where in the file a new block belongs."""
        titles = [b.title for b in blocks]
        if self.name == "MAINTAINERS":
            start = titles.index(MAINTAINERS_LIST) + 1 if MAINTAINERS_LIST in titles else 0
            before = [i for i in range(start, len(blocks)) if is_entry(blocks[i])
                      and titles[i].upper() <= block.title.upper()]
            return max(before, key=lambda i: titles[i].upper(), default=start - 1) + 1
        for title in (last.rpartition("#")[0], "config VFIO_AP"):
            if title in titles:
                return titles.index(title) + 1
        return len(blocks)


def keyed(blocks: Sequence[Block]) -> dict[str, Block]:
    """Blocks by "title#n", n counting those of equal title."""
    count: dict[str, int] = {}
    found = {}
    for block in blocks:
        count[block.title] = count.get(block.title, 0) + 1
        found[f"{block.title}#{count[block.title]}"] = block
    return found


def added_lines(base: Sequence[str], head: Sequence[str]) -> list[str]:
    """The lines of head, but for blank ones, that are not in base."""
    found: list[str] = []
    matcher = difflib.SequenceMatcher(None, base, head, autojunk=False)
    for tag, _, _, start, end in matcher.get_opcodes():
        if tag in ("insert", "replace"):
            found += [line for line in head[start:end] if line.strip()]
    return found


def is_entry(block: Block) -> bool:
    """True for a block of MAINTAINERS that has fields."""
    return len(block.lines) > 1 and bool(re.match(r"[A-Z]:\t", block.lines[1]))


def field_key(line: str) -> tuple[int, str]:
    """The sort key of a MAINTAINERS field; only files are sorted within their field."""
    tag = FIELDS.find(line[:1])
    return tag, line if line[:1] in "FX" else ""


KINDS = (
    Kind("MAINTAINERS", "MAINTAINERS", ""),
    Kind("Kconfig", "arch/s390/Kconfig",
         "# SPDX-License-Identifier: GPL-2.0\n# Entries of the series in arch/s390/Kconfig\n\n"),
)
