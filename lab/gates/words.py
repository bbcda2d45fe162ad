# SPDX-License-Identifier: GPL-2.0
"""The words of comments, messages and documents: patterns to avoid, and a counter.

`python3 -m lab.gates.words` prints the figures of each part of the repository. The literal patterns
stand in lab/gates/patterns, one per line.
"""

from __future__ import annotations

import ast
import io
import os
import pathlib
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

from lab.common import config
from lab.series.git import KernelTree

README_LINES = 150
SUBJECT_LENGTH = 75
PATTERNS = "lab/gates/patterns"

# Clauses without a noun as their subject or object.
HEADLESS = re.compile(r"\b(?:what|whatever|whoever|nobody)\b(?!:)"
                      r"|(?:^|[.,;:(]\s+|\b(?:and|but|by|for|of|or|that|to)\s+)who\b",
                      re.IGNORECASE | re.MULTILINE)
WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
C_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


@dataclass(frozen=True)
class Text:
    """Words of a file: its path, the line of the first one, and the text itself."""

    path: str
    line: int
    text: str


@dataclass(frozen=True)
class Part:
    """A part of the repository, its files, and its limits.

    headless: clauses per 1,000 words. avoided: matches of the patterns. Both only ever decrease.
    """

    name: str
    files: tuple[str, ...]
    headless: float
    avoided: int


PARTS = (
    Part("driver", ("drivers/*", "include/*"), 1, 0),
    Part("messages", ("patches/linux/*/*.patch",), 1, 0),
    Part("qemu", ("patches/qemu/*",), 2, 3),
    Part("documentation", ("*.md", "docs/*.md", "Documentation/*", "patches/linux/*/cover"), 2, 0),
    Part("selftests", ("tools/*",), 1, 0),
    Part("lab", ("lab/*", "Makefile", ".ci/*"), 1, 0),
)


def of_c(path: str, text: str) -> Iterator[Text]:
    """The comments of a C file."""
    for found in C_COMMENT.finditer(text):
        words = re.sub(r"^\s*(?:/?\*+/?|//)", "", found.group(), flags=re.MULTILINE)
        yield Text(path, text.count("\n", 0, found.start()) + 1, words)


def of_python(path: str, text: str) -> Iterator[Text]:
    """The docstrings and comments of a Python file."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            words = ast.get_docstring(node, clean=False)
            if words:
                yield Text(path, node.body[0].lineno, words)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield Text(path, token.start[0], token.string[1:])


def of_hashes(path: str, text: str) -> Iterator[Text]:
    """The comments of a script, a Makefile or a list."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#"):
            yield Text(path, number, line.lstrip("# \t"))


def of_patch(path: str, text: str) -> Iterator[Text]:
    """The message of a patch, and the comments that it adds to files that exist."""
    lines = text.splitlines()
    end = next((i for i, line in enumerate(lines) if line == "---"), len(lines))
    message = [line.removeprefix("Subject: ") for line in lines[:end]
               if not re.match(r"(From|Date|[A-Z][a-z]+-by|MIME|Content-[A-Za-z-]+):? ", line)]
    yield Text(path, 1, "\n".join(message))
    new = False
    for number, line in enumerate(lines[end:], end + 1):
        if line.startswith("diff --git"):
            new = False
        new = new or line.startswith("new file mode")
        if not new and re.match(r"\+\s*(?:/?\*|//)", line):
            yield Text(path, number, re.sub(r"^\+\s*(?:/?\*+/?|//)", "", line))


def of_file(path: str, text: str) -> Iterator[Text]:
    """The words of a file."""
    suffix = pathlib.PurePath(path).suffix
    if suffix in (".c", ".h", ".S"):
        return of_c(path, text)
    if suffix == ".py":
        return of_python(path, text)
    if suffix == ".patch":
        return of_patch(path, text)
    if suffix in (".md", ".rst") or path.startswith("Documentation/") or path.endswith("/cover"):
        return iter([Text(path, 1, text)])
    return of_hashes(path, text)


def tracked(root: pathlib.Path, *globs: str) -> list[str]:
    """The files of the repository that the globs select, new ones included."""
    return KernelTree(root).paths("ls-files", "-z", "--cached", "--others", "--exclude-standard",
                                  "--", *globs)


def read(root: pathlib.Path, part: Part) -> list[Text]:
    """All words of a part."""
    found: list[Text] = []
    for path in tracked(root, *part.files):
        if path == PATTERNS or path.endswith((".bin", ".svg", ".json")):
            continue
        found += of_file(path, (root / path).read_text(encoding="utf-8", errors="replace"))
    return found


def rate(texts: list[Text]) -> tuple[int, int]:
    """The headless clauses and the words."""
    return (sum(len(HEADLESS.findall(one.text)) for one in texts),
            sum(len(WORD.findall(one.text)) for one in texts))


def patterns(root: pathlib.Path) -> re.Pattern[str]:
    """One expression for the patterns to avoid; a blank in a pattern is any white space."""
    lines = (root / PATTERNS).read_text(encoding="utf-8").splitlines()
    words = [r"\s+".join(map(re.escape, line.split())) for line in lines
             if line and not line.startswith("#")]
    return re.compile(rf"(?<![\w'-])(?:{'|'.join(words)})(?![\w'-])", re.IGNORECASE)


def matches(root: pathlib.Path, texts: list[Text]) -> list[str]:
    """A line for each match of a pattern."""
    avoid = patterns(root)
    return [f"{one.path}:{one.line + one.text.count(chr(10), 0, found.start())}: "
            f"\"{' '.join(found.group().split())}\""
            for one in texts for found in avoid.finditer(one.text)]


def limits(root: pathlib.Path) -> list[str]:
    """Parts that exceed a limit."""
    found = []
    for part in PARTS:
        texts = read(root, part)
        count, total = rate(texts)
        each = 1000 * count / max(total, 1)
        if each > part.headless:
            found.append(f"{part.name}: {each:.1f} headless clauses per 1,000 words,"
                         f" at most {part.headless:g} (python3 -m lab.gates.words)")
        avoided = matches(root, texts)
        if len(avoided) > part.avoided:
            found += [f"{part.name}: {len(avoided)} patterns, at most {part.avoided}", *avoided]
    return found


def links(root: pathlib.Path) -> list[str]:
    """Links of the documents to files that do not exist."""
    found = []
    for path in tracked(root, "*.md"):
        for link in LINK.findall((root / path).read_text(encoding="utf-8")):
            target = os.path.normpath(root / pathlib.PurePath(path).parent / link)
            if not link.startswith("http") and not os.path.exists(target):
                found.append(f"{path}: {link} does not exist")
    return found


def readme(root: pathlib.Path) -> list[str]:
    """The README is read to its end only if it is short."""
    lines = len((root / "README.md").read_text(encoding="utf-8").splitlines())
    return [f"README.md: {lines} lines, at most {README_LINES}"] if lines > README_LINES else []


def subject(path: str, text: str) -> list[str]:
    """The subject of a patch, without its prefix in brackets, is one short line."""
    found = re.search(r"^Subject: (.*(?:\n[ \t].*)*)", text, re.MULTILINE)
    line = re.sub(r"^\[[^]]*\]\s*", "", " ".join(found.group(1).split())) if found else ""
    if not line:
        return [f"{path}: no subject"]
    if len(line) > SUBJECT_LENGTH:
        return [f"{path}: subject of {len(line)} characters, at most {SUBJECT_LENGTH}"]
    return []


def subjects(root: pathlib.Path) -> list[str]:
    """The subjects of the patches for QEMU; the gate size.SET reads those for the kernel."""
    return [line for path in tracked(root, "patches/qemu/*.patch")
            for line in subject(path, (root / path).read_text(encoding="utf-8", errors="replace"))]


def documents(root: pathlib.Path) -> list[str]:
    """Findings about whole documents: lengths and links."""
    return [*readme(root), *links(root), *subjects(root)]


def main(root: pathlib.Path) -> None:
    """Print the figures of each part, and with an argument each match of a pattern in that part."""
    for part in PARTS:
        if sys.argv[1:] and part.name not in sys.argv[1:]:
            continue
        texts = read(root, part)
        count, total = rate(texts)
        found = matches(root, texts)
        print(f"{part.name:14} {1000 * count / max(total, 1):5.1f} headless clauses per 1,000 words"
              f" (limit {part.headless:g}), {len(found)} patterns (limit {part.avoided}),"
              f" {total:,} words")
        if sys.argv[1:]:
            print("\n".join(found))
            print("\n".join(f"{one.path}:{one.line + one.text.count(chr(10), 0, hit.start())}: "
                            f"{one.text[max(0, hit.start() - 25):hit.end() + 25]!r}"
                            for one in texts for hit in HEADLESS.finditer(one.text)))


if __name__ == "__main__":
    main(config.REPO)
