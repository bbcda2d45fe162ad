# SPDX-License-Identifier: GPL-2.0
"""The top level of the repository: new kernel files and our entries, in their final state."""

from __future__ import annotations

import os
import pathlib

from lab.series import shared_files
from lab.series.git import PRISTINE, Blob, KernelTree
from lab.series.layout import Layout


def read_file(path: pathlib.Path) -> Blob | None:
    """A file as git would store it, None when there is none."""
    if path.is_symlink():
        return Blob(os.fsencode(os.readlink(path)), "120000")
    if not path.is_file():
        return None
    return Blob(path.read_bytes(), "100755" if os.access(path, os.X_OK) else "100644")


def write_file(path: pathlib.Path, blob: Blob) -> bool:
    """Write a file if it differs (its time stays if not); return whether it did."""
    if read_file(path) == blob:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f".{path.name}.new")
    temp.unlink(missing_ok=True)
    if blob.mode == "120000":
        temp.symlink_to(os.fsdecode(blob.data))
    else:
        temp.write_bytes(blob.data)
        temp.chmod(0o755 if blob.mode == "100755" else 0o644)
    temp.replace(path)
    return True


def remove_file(path: pathlib.Path, root: pathlib.Path) -> None:
    """Remove a file and the directories that it leaves empty, up to root."""
    path.unlink(missing_ok=True)
    for parent in path.parents:
        if parent == root:
            break
        try:
            parent.rmdir()
        except OSError:
            break


def wanted(layout: Layout, tree: KernelTree, tip: str) -> dict[str, Blob]:
    """Content of the top level for the series that ends in tip."""
    if not layout.mirrored:
        return {}
    files = tree.added(tip)
    for kind in shared_files.KINDS:
        base, head = tree.blob(PRISTINE, kind.kernel_path), tree.blob(tip, kind.kernel_path)
        ours = kind.extract(text_of(base), text_of(head))
        if ours:
            files[kind.name] = Blob(ours.encode())
    return files


def text_of(blob: Blob | None) -> str:
    """A text file's content, "" for none."""
    return blob.data.decode() if blob else ""


def present(layout: Layout, tree: KernelTree) -> dict[str, Blob]:
    """The top-level files that mirror the kernel tree, without those in .gitignore."""
    if not layout.mirrored:
        return {}
    root = layout.root
    mirrored = [f"{name}/" for name in
                tree.paths("ls-tree", "-z", "-d", "--name-only", PRISTINE)]
    repo = KernelTree(root)
    found: dict[str, Blob] = {}
    names = repo.paths("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in [*names, *(kind.name for kind in shared_files.KINDS)]:
        if name in {k.name for k in shared_files.KINDS} or name.startswith(tuple(mirrored)):
            blob = read_file(root / name)
            if blob is not None:
                found[name] = blob
    return found
