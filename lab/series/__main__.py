# SPDX-License-Identifier: GPL-2.0
"""The commands on the patch sets: patches/ <-> build/linux <-> the new files at the top level.

    apply       build/linux = pristine source + all sets              (demo and test do it)
    save        the commits of build/linux -> patches/, top level     make save [SET=]
    take        an edit at the top level -> its patch                 make take [STEP=]
    series      mails for git am, b4, git-send-email in out/series/   make series [SET=] [FROM=]
    difference  where the three disagree                              make test

lab/series/sets.py describes the sets; lab/series/membership.py gives a new commit its set.
--tree qemu takes patches/qemu and build/qemu, which have no files at the top level.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from lab.series import mails
from lab.series.apply import apply_patches
from lab.series.difference import difference
from lab.series.git import SeriesError
from lab.series.layout import Layout
from lab.series.save import save
from lab.series.sets import SETS
from lab.series.take import take


def main(argv: Sequence[str]) -> int:
    """The commands behind make apply, save, take, series."""
    parser = argparse.ArgumentParser(prog="lab.series", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", choices=SETS, default="linux", help="the tree (default: linux)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("apply", help="pristine source + patches/ in build/linux")
    cmd = commands.add_parser("save", help="write patches/ and the top level from build/linux")
    cmd.add_argument("--set", default="", help="set of new commits")
    cmd.add_argument("--force", action="store_true", help="overwrite patches/ and the top level")
    cmd = commands.add_parser("take", help="bring top-level edits into their patches, and save")
    cmd.add_argument("--step", default="", help="SET/NUMBER, part of a subject, glob, or new")
    cmd.add_argument("--subject", default="", help="with --step new: the subject")
    cmd.add_argument("--set", default="", help="with --step new: the set")
    cmd.add_argument("--message", default="", help="with --step new: file with the message's text")
    cmd.add_argument("--files", default="", help="take only files that this glob matches")
    cmd = commands.add_parser("series", help="cover letter and patches of sets in out/series/")
    cmd.add_argument("--set", default="", help="only this set")
    cmd.add_argument("--from", dest="sender", default="", help="\"Name <mail>\"")
    cmd.add_argument("--assisted-by", default="", help="text of an Assisted-by trailer")
    cmd.add_argument("--lab", default="", help="where this repository can be had")
    commands.add_parser("difference", help="print where tree, patches/ and top level disagree")
    args = parser.parse_args(argv)
    layout = Layout.default(args.tree)
    try:
        if args.command == "apply":
            apply_patches(layout)
        elif args.command == "save":
            save(layout, args.set, args.force)
        elif args.command == "take":
            text = pathlib.Path(args.message).read_text(encoding="utf-8") if args.message else ""
            take(layout, args.step, args.subject, args.set, args.files, text)
        elif args.command == "series":
            mails.write(layout, args.sender, args.assisted_by, lab=args.lab, only=args.set)
        else:
            found = difference(layout)
            print("\n".join(found) or "top level, patches/ and tree agree")
            return 1 if found else 0
    except (SeriesError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
