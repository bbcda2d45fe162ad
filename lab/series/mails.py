# SPDX-License-Identifier: GPL-2.0
"""out/series/: the series as mails for git am, b4 and git-send-email."""

from __future__ import annotations

import datetime
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable
from email.utils import parseaddr

from lab.series import patches
from lab.series.difference import patch_difference
from lab.series.git import MAIL, PRISTINE, Identity, KernelTree, SeriesError, identity_env
from lab.series.layout import Layout, say

COVER = pathlib.Path(__file__).with_name("cover.txt")

# git send-email refuses a mail with this subject; the cover letter keeps it without FROM.
STOP = "*** SUBJECT HERE ***"
BLURB = "*** BLURB HERE ***"
FIGURE = "FIGURE:"      # stands where lab/series/cover.txt wants a result
NO_LAB = "ask the sender for its repository"     # without LAB_URL=
UNSET = ("*** Not to be sent: made without FROM=. Run\n"
         "*** make series FROM=\"Name <mail>\" [ASSISTED_BY=\"LLM [TOOLS]\"]\n\n")


def identity(sender: str) -> Identity:
    """Who FROM= names; the placeholder when it is empty."""
    if not sender:
        return Identity()
    name, mail = parseaddr(sender)
    if not name or not re.fullmatch(r"[^@\s<>]+@[^@\s<>]+", mail):
        raise SeriesError(f"FROM={sender}: wanted \"Name <mail>\"")
    now = datetime.datetime.now(datetime.timezone.utc)
    return Identity(name, mail, now.isoformat(timespec="seconds"))


def trailers(who: Identity, assisted_by: str) -> list[str]:
    """The trailers that are added to each patch."""
    found = []
    if assisted_by:
        found.append(f"Assisted-by: {assisted_by}")
    if who.mail != MAIL:
        found.append(f"Signed-off-by: {who.name} <{who.mail}>")
    return found


def write(layout: Layout, sender: str = "", assisted_by: str = "",
          say: Callable[[str], None] = say, lab: str = "") -> pathlib.Path:
    """Write out/series/ and prove that git am of it gives the tree; return the directory.
    lab: where this repository can be had, for the cover letter."""
    tree = KernelTree(layout.tree)
    who = identity(sender)
    add = trailers(who, assisted_by)
    with tree.locked():
        tip = tree.head()
        found = patch_difference(tree, layout, tip)
        found += [f"uncommitted: {line}" for line in tree.dirty()]
        if found:
            raise SeriesError("tree and patches/ disagree (`make save`?):\n  "
                              + "\n  ".join(found))
        count = len(patches.load(layout.patches))
        if not count:
            raise SeriesError("patches/ is empty")

        def with_trailers(message: str) -> str:
            args = [arg for text in add for arg in ("--trailer", text)]
            if not args:
                return message
            return tree.out("interpret-trailers", "--if-exists", "addIfDifferent", "--no-divider",
                            *args, stdin=(message + "\n").encode())

        ours = patches.rewrite(tree, tip, with_trailers, who)
        target = layout.out / "series"
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".series-", dir=target.parent) as tmp:
            where = pathlib.Path(tmp) / "series"
            tree.run(*patches.FORMAT, "--numbered", "--cover-letter", "-o", str(where),
                     f"{PRISTINE}..{ours}", env=identity_env(who))
            fill_cover(next(where.glob("0000-*")), tree, bool(sender), lab)
            prove(tree, where, tip, who)
            shutil.rmtree(target, ignore_errors=True)
            where.rename(target)
    say(f"{target}: cover letter and {count} patches; git am gives the tested tree")
    missing = COVER.read_text(encoding="utf-8").count(FIGURE)
    if missing:
        say(f"{COVER.name}: {missing} figures are still to be filled in ({FIGURE})")
    if not sender:
        say("made without FROM=\"Name <mail>\": git send-email will refuse to send it")
    return target


def fill_cover(file: pathlib.Path, tree: KernelTree, final: bool, lab: str) -> None:
    """Put lab/series/cover.txt (first line: the subject) into git's cover letter."""
    subject, _, text = COVER.read_text(encoding="utf-8").partition("\n")
    text = text.strip().replace("@RELEASE@", patches.kernel_release(tree))
    text = text.replace("@LAB@", lab or NO_LAB)
    letter = file.read_text(encoding="utf-8")
    if final:
        letter = letter.replace(STOP, subject, 1)
        letter = letter.replace(BLURB, text, 1)
    else:
        letter = letter.replace(BLURB, f"{UNSET}Subject: {subject}\n\n{text}", 1)
    file.write_text(letter, encoding="utf-8")


def prove(tree: KernelTree, where: pathlib.Path, tip: str, who: Identity) -> None:
    """Raise unless git am of the mails on pristine source gives the tree of tip."""
    mails = [patches.Patch(f.name, "", f.read_bytes())
             for f in sorted(where.glob("*.patch")) if not f.name.startswith("0000-")]
    made = patches.git_am(tree, mails, who)
    if tree.tree_of(made) != tree.tree_of(tip):
        raise SeriesError("git am of out/series gives another tree")
