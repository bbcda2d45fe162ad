# SPDX-License-Identifier: GPL-2.0
"""out/series/SET/: each set as mails for git am, b4 and git-send-email."""

from __future__ import annotations

import datetime
import pathlib
import re
import shutil
import tempfile
import textwrap
from collections.abc import Callable
from email.utils import parseaddr

from lab.series import patches
from lab.series.chains import Chains
from lab.series.difference import patch_difference
from lab.series.git import MAIL, Identity, KernelTree, SeriesError, identity_env
from lab.series.layout import Layout, say
from lab.series.sets import Set, with_needs

# git send-email refuses a mail with this subject; the cover letter keeps it without FROM.
STOP = "*** SUBJECT HERE ***"
BLURB = "*** BLURB HERE ***"
NO_LAB = "ask the sender for its repository"     # without LAB_URL=
UNSET = ("*** Not to be sent: made without FROM=. Run\n"
         "*** make series FROM=\"Name <mail>\" [ASSISTED_BY=\"LLM [TOOLS]\"]\n\n")


def identity(sender: str) -> Identity:
    """The person that FROM= names; the placeholder when it is empty."""
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
          say: Callable[[str], None] = say, lab: str = "", only: str = "",
          chains: Chains | None = None) -> list[pathlib.Path]:
    """Write out/series/SET/ for each set, and prove that git am of the mails gives
    the tree of the set; return the directories.

    lab: where this repository can be had, for the cover letters. only: one set."""
    tree = KernelTree(layout.tree)
    who = identity(sender)
    with tree.locked():
        found = patch_difference(tree, layout, tree.head())
        found += [f"uncommitted: {line}" for line in tree.dirty()]
        if found:
            raise SeriesError("tree and patches/ disagree (`make save`?):\n  "
                              + "\n  ".join(found))
        every = patches.load(layout)
        names = [one.name for one in layout.sets
                 if any(patch.set == one.name for patch in every)]
        if not names or only and only not in names:
            raise SeriesError(f"SET={only}: sets with patches to mail are {' '.join(names)}"
                              if only else f"{layout.patches}: no set has patches to mail")
        chains = chains or Chains(layout, every)
        written = [write_set(layout, chains, one, who, trailers(who, assisted_by), lab)
                   for one in layout.sets if one.name in ([only] if only else names)]
    for target in written:
        say(f"{target}: cover letter and {len([*target.iterdir()]) - 1} patches; git am of them "
            "gives the tested tree")
    if not sender:
        say("made without FROM=\"Name <mail>\": git send-email will refuse to send it")
    return written


def write_set(layout: Layout, chains: Chains, one: Set, who: Identity, add: list[str],
              lab: str) -> pathlib.Path:
    """Write out/series/SET/ of one set; return it."""
    tree = KernelTree(layout.tree)

    def with_trailers(message: str) -> str:
        args = [arg for text in add for arg in ("--trailer", text)]
        if not args:
            return message
        return tree.out("interpret-trailers", "--if-exists", "addIfDifferent", "--no-divider",
                        *args, stdin=(message + "\n").encode())

    base, tip = chains.base(one.name), chains.tip(one.name)
    ours = patches.rewrite(tree, tip, with_trailers, who, base)
    target = layout.out / "series" / one.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".series-", dir=layout.out) as tmp:
        where = pathlib.Path(tmp) / one.name
        tree.run(*patches.FORMAT, "--numbered", "--cover-letter", *(f"--to={to}" for to in one.to),
                 "-o", str(where), f"{base}..{ours}", env=identity_env(who))
        text = cover(layout, tree, one, lab)
        fill_cover(next(where.glob("0000-*")), text, who.mail != MAIL)
        check_mails(tree, where, base, tip, who)
        shutil.rmtree(target, ignore_errors=True)
        where.rename(target)
    return target


def cover(layout: Layout, tree: KernelTree, one: Set, lab: str) -> str:
    """The text of a set's cover letter: its subject, the text, the prerequisites by name."""
    file = layout.patches / one.name / "cover"
    if not file.exists():
        raise SeriesError(f"{file}: missing")
    text = file.read_text(encoding="utf-8").strip().replace("@LAB@", lab or NO_LAB)
    release = patches.release_of(tree)
    needs = with_needs(layout.sets, one.name)[:-1]
    present = [name for name in needs if (layout.patches / name / "series").exists()]
    text += "\n\n" + textwrap.fill(
        f"Base: {release} as Debian packages it. "
        + ("Prerequisites, in this order:" if present else "No prerequisites."), 75)
    for name in present:
        line = (layout.patches / name / "cover").read_text(encoding="utf-8").splitlines()[0]
        text += f"\n  {name}: \"{line}\""
    return text


def fill_cover(file: pathlib.Path, text: str, final: bool) -> None:
    """Put a text (first line: the subject) into git's cover letter."""
    subject, _, text = text.partition("\n")
    letter = re.sub(r"^ create mode .*\n", "", file.read_text(encoding="utf-8"), flags=re.M)
    if final:
        letter = letter.replace(STOP, subject, 1)
    else:
        text = f"{UNSET}Subject: {subject}\n\n{text.strip()}"
    file.write_text(letter.replace(BLURB, text.strip(), 1), encoding="utf-8")


def check_mails(tree: KernelTree, where: pathlib.Path, base: str, tip: str, who: Identity) -> None:
    """Raise unless git am of the mails on the commit base gives the tree of tip."""
    mails = [patches.Patch(f.name, where.name, f.read_bytes())
             for f in sorted(where.glob("*.patch")) if not f.name.startswith("0000-")]
    made = patches.git_am(tree, mails, who, base)
    if tree.tree_of(made) != tree.tree_of(tip):
        raise SeriesError(f"git am of the mails of {where.name} gives another tree")
