# SPDX-License-Identifier: GPL-2.0
"""The commands on the patch series (lab/series) on a small kernel tree."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import tempfile
from collections.abc import Callable

from lab.series import mails, shared_files
from lab.series.git import KernelTree
from lab.tests.series_bench import (FIXES, KCONFIG, KUNIT, MAINTAINERS, MIGRATION, OPS, STREAM,
                                    TEST, TESTS, Bench, bench, refused)


def test_saved_series() -> None:
    with bench() as b:
        assert {path: (b.root / path / "series").read_text() for path in (FIXES, MIGRATION, TESTS)
                } == {FIXES: "0001-s390-vfio-ap-fix-a-line.patch\n",
                      MIGRATION: "0001-s390-vfio-ap-add-the-stream.patch\n",
                      TESTS: "0001-selftests-test-it.patch\n"}
        assert (b.root / STREAM).read_text() == "one\ntwo\nthree\n"
        assert not (b.root / OPS).exists(), "no whole kernel file"
        assert os.access(b.root / TEST, os.X_OK)
        assert (b.root / "MAINTAINERS").read_text() == (
            "S390 VFIO-AP DRIVER\nF:\tinclude/uapi/linux/vfio_ap.h\n")
        assert (b.root / "Kconfig").read_text() == shared_files.KINDS[1].header + KUNIT
        text = (b.root / f"{FIXES}/0001-s390-vfio-ap-fix-a-line.patch").read_text()
        assert text.startswith("From 0000000000000000000000000000000000000000 ")
        assert b.subjects(tip="set/fixes") == ["s390/vfio-ap: fix a line"]


def test_apply_on_fresh_source_gives_the_same_commits() -> None:
    with bench() as b:
        tip = b.git("rev-parse", "HEAD")
        b.fresh_tree()
        assert "3 patches" in b.apply()
        assert b.git("rev-parse", "HEAD") == tip
        b.check_agreement()
        assert b.apply() == "", "the second time nothing is to do"


def test_apply_changes_only_different_files() -> None:
    with bench() as b:
        before = {p: (b.linux / p).stat().st_mtime_ns for p in (OPS, "MAINTAINERS", TEST)}
        patch = b.root / f"{MIGRATION}/0001-s390-vfio-ap-add-the-stream.patch"
        patch.write_text(patch.read_text().replace("+three", "+four"))
        b.apply()
        assert (b.linux / STREAM).read_text() == "one\ntwo\nfour\n"
        assert before == {p: (b.linux / p).stat().st_mtime_ns for p in before}
        assert not list(b.linux.parent.glob(".series-*")), "scratch work tree left"
        assert b.git("worktree", "list").count("\n") == 1


def test_apply_loses_no_work() -> None:
    with bench() as b:
        b.put("drivers/new.c", "new\n")
        assert "drivers/new.c" in b.apply()
        patch = b.root / f"{TESTS}/0001-selftests-test-it.patch"
        patch.write_text(patch.read_text().replace("For proof.", "For good."))
        refused(b.apply, "drivers/new.c", "make save")
        b.commit("a new file")
        refused(b.apply, "not in patches/", "a new file", "make save")
        refused(b.save, "patches/ changed")
        b.git("reset", "-q", "--hard", "refs/lab/saved")
        assert "3 patches" in b.apply()


def test_patch_that_does_not_apply_is_named() -> None:
    with bench() as b:
        tip = b.git("rev-parse", "HEAD")
        patch = b.root / f"{FIXES}/0001-s390-vfio-ap-fix-a-line.patch"
        patch.write_text(patch.read_text().replace("-line 3\n", "-line x\n"))
        refused(b.apply, "0001-s390-vfio-ap-fix-a-line.patch", "does not apply to Linux 7.3.4",
                OPS)
        assert b.git("rev-parse", "HEAD") == tip
        assert not b.git("status", "--porcelain")


def test_missing_or_unlisted_patch_is_named() -> None:
    with bench() as b:
        patch = b.root / f"{TESTS}/0001-selftests-test-it.patch"
        patch.rename(b.root / f"{TESTS}/0004-x.patch")
        refused(b.apply, "0001-selftests-test-it.patch")
        (b.root / TESTS / "series").unlink()
        refused(b.apply, "0004-x.patch")


def test_save_folds_fixups() -> None:
    with bench() as b:
        b.edit(STREAM, "two", "TWO")
        b.commit("fixup! s390/vfio-ap: add the stream")
        b.edit(OPS, "line 40\n", "line forty\n")
        b.commit("fixup! s390/vfio-ap: fix a line")
        b.save()
        b.check_agreement()
        assert len(b.subjects()) == 3
        assert (b.root / STREAM).read_text() == "one\nTWO\nthree\n"
        assert "+line forty" in (b.root / f"{FIXES}/0001-s390-vfio-ap-fix-a-line.patch").read_text()


def test_fixup_that_conflicts_changes_nothing() -> None:
    with bench() as b:
        b.edit(STREAM, "two", "zwei")
        b.commit("s390/vfio-ap: speak German\n\nWhy not.")
        b.save()
        b.edit(STREAM, "zwei", "due")
        b.commit("fixup! s390/vfio-ap: add the stream")
        tip = b.git("rev-parse", "HEAD")
        refused(b.save, STREAM, "conflicts", "rebase -i")
        assert b.git("rev-parse", "HEAD") == tip
        assert not b.git("status", "--porcelain")
        assert (b.root / STREAM).read_text() == "one\nzwei\nthree\n"


def test_fixup_without_its_commit_is_refused() -> None:
    with bench() as b:
        b.edit(STREAM, "two", "TWO")
        b.commit("fixup! no such commit")
        refused(b.save, "fixup! no such commit")


def test_save_refuses_a_dirty_tree() -> None:
    with bench() as b:
        b.edit(STREAM, "two", "TWO")
        refused(b.save, STREAM, "commit")
        b.git("checkout", "-q", ".")
        b.put("drivers/s390/forgotten.c", "x\n")
        refused(b.save, "drivers/s390/forgotten.c")


def test_save_refuses_another_branch() -> None:
    with bench() as b:
        b.git("checkout", "-q", "set/migration")
        refused(b.save, "set/migration", "series")
        b.git("checkout", "-q", "series")
        b.check_agreement()


def test_save_keeps_sets_and_their_order() -> None:
    with bench() as b:
        b.edit(OPS, "line 20\n", "line twenty\n")
        b.commit("s390/vfio-ap: fix another line\n\nAlso wrong.")
        b.save("fixes")
        assert b.subjects(tip="set/fixes") == ["s390/vfio-ap: fix a line",
                                               "s390/vfio-ap: fix another line"]
        b.git("commit", "-q", "--amend", "-m", "selftests: try it\n\nFor proof.")
        b.save()
        assert b.subjects("set/migration", "set/selftests-migration") == ["selftests: try it"]
        assert [p.name for p in (b.root / TESTS).glob("0*")] == ["0001-selftests-try-it.patch"]
        b.check_agreement()
        refused(lambda: b.save("nonsense"), "nonsense")


def test_save_removes_dropped_files() -> None:
    with bench() as b:
        b.put("tools/testing/selftests/x/mine.c", "not in any patch yet\n", b.root)
        b.git("rm", "-q", TEST)
        b.put("tools/testing/other", "x\n")
        b.commit("fixup! selftests: test it")
        b.save()
        assert not (b.root / TEST).exists()
        assert (b.root / "tools/testing/other").exists()
        assert (b.root / "tools/testing/selftests/x/mine.c").exists(), "work was removed"


def test_save_overwrites_no_top_level_edit() -> None:
    with bench() as b:
        b.edit(STREAM, "two", "TWO", b.root)
        b.edit(OPS, "line 40\n", "line forty\n")
        b.commit("s390/vfio-ap: more\n\nMore.")
        assert f"{STREAM} is edited at the top level" in b.save()
        assert "TWO" in (b.root / STREAM).read_text()
        assert b.difference() == [f"{STREAM}: top level and series differ"]
        b.edit(STREAM, "one", "ONE")
        b.commit("fixup! s390/vfio-ap: add the stream")
        refused(b.save, STREAM, "make take")
        b.save(force=True)
        assert (b.root / STREAM).read_text() == "ONE\ntwo\nthree\n"
        b.check_agreement()


def test_save_settles_odd_messages() -> None:
    with bench() as b:
        b.put("drivers/odd.c", "x\n")
        b.commit("[odd] subject with brackets   \n\n\nText \u00e9.  \n\n\n")
        b.save()
        b.check_agreement()
        assert b.subjects()[-1] == "[odd] subject with brackets"
        b.git("commit", "-q", "--amend", "-m", "odd\n\ntext\n---\nlost below the line")
        assert "lost below" in b.save()
        assert b.git("log", "-1", "--format=%B").strip() == "odd\n\ntext"
        b.check_agreement()


def test_take_goes_to_the_last_patch_of_the_file() -> None:
    with bench() as b:
        b.edit(STREAM, "two", "TWO", b.root)
        b.edit(TEST, "sh", "bash", b.root)
        b.take()
        b.check_agreement()
        assert b.subjects() == ["s390/vfio-ap: fix a line", "s390/vfio-ap: add the stream",
                                "selftests: test it"]
        assert (b.linux / STREAM).read_text() == "one\nTWO\nthree\n"
        assert b.git("diff", "--name-only", "set/migration", "HEAD").split() == [TEST]


def test_take_into_a_chosen_patch() -> None:
    with bench() as b:
        for step, text in (("migration/1", "by number"), ("ADD THE", "by subject"),
                           ("drivers/*/vfio_ap_stream.c", "by file")):
            b.put(f"drivers/{text}.h", f"{text}\n", b.root)
            refused(b.take, f"drivers/{text}.h", "STEP=")
            b.take(step=step)
            b.check_agreement()
            names = b.git("show", "--format=", "--name-only", "set/migration")
            assert f"drivers/{text}.h" in names, names
        b.put("drivers/x.h", "x\n", b.root)
        refused(lambda: b.take(step="migration/9"), "STEP=migration/9")
        refused(lambda: b.take(step="vfio-ap"), "several", "fix a line", "add the stream")
        refused(lambda: b.take(step="nowhere"), "STEP=nowhere")


def test_take_new_patch() -> None:
    with bench() as b:
        b.put("Documentation/a.rst", "text\n", b.root)
        b.put("Documentation/b.rst", "text\n", b.root)
        refused(lambda: b.take(step="new"), "SUBJECT")
        b.take(subject="docs: say it", into="migration", message="So that it is said.\n",
               files="*/a.rst")
        assert b.subjects("set/fixes", "set/migration") == ["s390/vfio-ap: add the stream",
                                                            "docs: say it"]
        assert b.difference() == ["Documentation/b.rst: at the top level, but in no patch"]
        assert "So that it is said." in (b.root / f"{MIGRATION}/0002-docs-say-it.patch").read_text()


def test_take_entries() -> None:
    with bench() as b:
        b.edit("MAINTAINERS", "F:\tinclude", "F:\tdrivers/new/\nF:\tinclude", b.root)
        b.edit("Kconfig", "say N", "say M", b.root)
        with open(b.root / "MAINTAINERS", "a", encoding="utf-8") as file:
            file.write("\nSIMULATOR\nM:\tC <c@example.com>\nS:\tSupported\nF:\ttools/s/\n")
        with open(b.root / "Kconfig", "a", encoding="utf-8") as file:
            file.write("\nconfig VFIO_AP_MORE\n\tbool\n")
        b.take()
        b.check_agreement()
        assert (b.linux / "MAINTAINERS").read_text() == MAINTAINERS.replace(
            "F:\tdrivers/s390/crypto/vfio_ap*\n",
            "F:\tdrivers/new/\nF:\tdrivers/s390/crypto/vfio_ap*\n"
            "F:\tinclude/uapi/linux/vfio_ap.h\n\n"
            "SIMULATOR\nM:\tC <c@example.com>\nS:\tSupported\nF:\ttools/s/\n")
        assert (b.linux / "arch/s390/Kconfig").read_text() == KCONFIG.replace(
            "access.\n", "access.\n\n" + KUNIT.replace("say N", "say M")
            + "\nconfig VFIO_AP_MORE\n\tbool\n")
        (b.root / "Kconfig").unlink()
        b.take(step="migration/1")
        b.check_agreement()
        assert (b.linux / "arch/s390/Kconfig").read_text() == KCONFIG


def test_take_beside_unsaved_commits() -> None:
    with bench() as b:
        b.edit(STREAM, "one\n", "one\nmore\n")
        b.commit("fixup! s390/vfio-ap: add the stream")
        b.edit(STREAM, "three", "THREE", b.root)
        b.take()
        assert (b.root / STREAM).read_text() == "one\nmore\ntwo\nTHREE\n"
        b.check_agreement()
        b.edit(STREAM, "more", "mehr")
        b.commit("fixup! s390/vfio-ap: add the stream")
        b.edit(STREAM, "more", "plus", b.root)
        refused(b.take, STREAM, "conflict")


def test_take_a_removal() -> None:
    with bench() as b:
        (b.root / TEST).unlink()
        b.put("tools/testing/other.sh", "x\n", b.root)
        b.take(step="test it")
        b.check_agreement()
        assert not (b.linux / TEST).exists()


def test_difference_finds_each_planted_one() -> None:
    patch = f"{MIGRATION}/0001-s390-vfio-ap-add-the-stream.patch"
    planted: list[tuple[Callable[[Bench], object], str]] = [
        (lambda b: b.edit(STREAM, "two", "TWO", b.root), f"{STREAM}: top level and series differ"),
        (lambda b: b.put("include/x.h", "x", b.root), "include/x.h: at the top level"),
        (lambda b: (b.root / STREAM).unlink(), f"{STREAM}: missing"),
        (lambda b: (b.root / TEST).chmod(0o644), f"{TEST}: mode"),
        (lambda b: b.edit("MAINTAINERS", "vfio", "", b.root), "MAINTAINERS: top level"),
        (lambda b: (b.root / "Kconfig").unlink(), "Kconfig: missing"),
        (lambda b: b.edit(patch, "+two", "+TWO", b.root), f"{patch}: not what"),
        (lambda b: b.edit(patch, "carries", "moves", b.root), f"{patch}: not what"),
        (lambda b: (b.root / patch).unlink(), "0001-s390-vfio-ap-add-the-stream.patch"),
        (lambda b: b.put(f"{FIXES}/0009-x.patch", "x", b.root), "0009-x.patch"),
        (lambda b: b.put("patches/linux/other/series", "", b.root),
         "patches/linux: other: sets are type1 "),
        (lambda b: b.put(f"{TESTS}/series", "", b.root), "0001-"),
        (lambda b: b.edit(f"{TESTS}/series", "\n", "\n\n", b.root), f"{TESTS}/series"),
        (lambda b: b.edit(OPS, "line 9\n", "line nine\n"), f"uncommitted: M {OPS}"),
        (lambda b: b.put("drivers/f.c", "x"), "uncommitted: ? drivers/f.c"),
        (lambda b: b.commit_edit(OPS, "line 9\n", "more"),
         "selftests-migration/0002-more.patch: missing"),
    ]
    with bench() as b:
        keep = {p: (p.read_bytes(), p.stat().st_mode) for p in b.root.rglob("*")
                if p.is_file() and ".git" not in p.parts}
        tip = b.git("rev-parse", "HEAD").strip()
        for plant, words in planted:
            plant(b)
            found = b.difference()
            assert any(words in line for line in found), (words, found)
            b.git("reset", "-q", "--hard", tip)
            b.git("clean", "-qfdx")
            for path in b.root.rglob("*"):
                if path.is_file() and ".git" not in path.parts:
                    path.unlink()
            for path, (data, mode) in keep.items():
                path.write_bytes(data)
                path.chmod(mode)
            b.check_agreement()


def test_each_set_gets_mails_and_a_cover_letter() -> None:
    with bench() as b, contextlib.redirect_stderr(io.StringIO()):
        written = mails.write(b.layout, "Ann Author <ann@example.com>", "LLM sparse",
                              lab="git://lab.example.com")
        assert {where.name: sorted(p.name for p in where.iterdir()) for where in written} == {
            "fixes": ["0000-cover-letter.patch", "0001-s390-vfio-ap-fix-a-line.patch"],
            "migration": ["0000-cover-letter.patch", "0001-s390-vfio-ap-add-the-stream.patch"],
            "selftests-migration": ["0000-cover-letter.patch", "0001-selftests-test-it.patch"]}
        for where in written:
            text = next(where.glob("0001-*")).read_text()
            assert "\nFrom: Ann Author <ann@example.com>\n" in text
            assert ("\n\nAssisted-by: LLM sparse\n"
                    "Signed-off-by: Ann Author <ann@example.com>\n---\n") in text
        cover = (written[1] / "0000-cover-letter.patch").read_text()
        assert "\nSubject: [PATCH 0/1] The set patches/linux/migration\n" in cover, cover
        assert "\nTo: linux-s390@vger.kernel.org" in cover, cover
        assert " 3 files changed, 11 insertions(+)" in cover, cover
        assert "Ann Author (1):" in cover and "***" not in cover and "create mode" not in cover
        assert "The lab: git://lab.example.com.\n" in cover, cover
        # type1 has no patches here.
        assert ("Base: Linux 7.3.4 as Debian packages it. Prerequisites, in this order:\n"
                "  fixes: \"The set patches/linux/fixes\"\n\nAnn") in cover, cover
        b.git("checkout", "-q", "-B", "proof", "pristine")
        for where in written:
            b.git("am", "-q", str(next(where.glob("0001-*"))))
        assert not b.git("diff", "proof", "series")
        assert "Ann" not in "".join(p.read_text() for p in (b.root / MIGRATION).iterdir())


def test_one_set_is_written() -> None:
    with bench() as b, contextlib.redirect_stderr(io.StringIO()):
        written = mails.write(b.layout, only="fixes")
        assert [where.name for where in written] == ["fixes"]
        refused(lambda: mails.write(b.layout, only="type1"), "SET=type1", "fixes migration")
        (b.root / MIGRATION / "cover").unlink()
        refused(lambda: mails.write(b.layout, only="migration"), "migration/cover: missing")


def test_series_without_from_is_stopped() -> None:
    with bench() as b, contextlib.redirect_stderr(io.StringIO()):
        where = mails.write(b.layout)[-1]
        assert "Subject: [PATCH 0/1] *** SUBJECT HERE ***" in (
            where / "0000-cover-letter.patch").read_text()
        assert "Signed-off-by" not in (where / "0001-selftests-test-it.patch").read_text()
        assert "ask the sender" in (where / "0000-cover-letter.patch").read_text()
        refused(lambda: mails.write(b.layout, "no mail"), "FROM=")
        b.put("drivers/f.c", "x")
        refused(lambda: mails.write(b.layout), "drivers/f.c")


def test_trailers_join_those_that_stand() -> None:
    with bench() as b, contextlib.redirect_stderr(io.StringIO()):
        b.git("commit", "-q", "--amend", "-m", "selftests: test it\n\nFor proof.\n\n"
              "Fixes: 0123456789ab (\"x\")")
        b.save()
        where = mails.write(b.layout, "Ann Author <ann@example.com>")[-1]
        assert ("\n\nFixes: 0123456789ab (\"x\")\nSigned-off-by: Ann Author <ann@example.com>\n---"
                ) in (where / "0001-selftests-test-it.patch").read_text()


def test_scratch_tree_holds_only_touched_files() -> None:
    with bench() as b:
        tree = KernelTree(b.linux)
        with tree.scratch("pristine", [OPS]) as work:
            files = [p for p in work.path.rglob("*") if p.is_file() and p.name != ".git"]
            assert [str(p.relative_to(work.path)) for p in files] == [OPS]
            assert not work.git_dir().samefile(tree.git_dir())
        assert not work.path.exists()


def test_another_tree_has_its_own_sets() -> None:
    """patches/qemu and build/qemu: the same commands, without files at the top level."""
    with tempfile.TemporaryDirectory() as top:
        b = Bench(pathlib.Path(top), "qemu")
        for where in (b.root, b.linux):
            where.mkdir(parents=True)
            b.git("init", "-q", "-b", "main", ".", where=where)
        b.put("VERSION", "10.0.13\n")
        b.commit("pristine source")
        b.git("tag", "pristine")
        b.put("hw/vfio/ap.c", "one\n")
        b.commit("vfio/ap: Migrate\n\nFor a test.")
        b.save("client")
        b.put("target/s390x/sie.c", "one\n")
        b.commit("target/s390x: Add SIE\n\nFor a test.")
        b.save("machine")
        b.check_agreement()
        assert b.subjects() == ["target/s390x: Add SIE", "vfio/ap: Migrate"]
        assert (b.root / "patches/qemu/client/series").read_text() == "0001-vfio-ap-Migrate.patch\n"
        assert not (b.root / "hw").exists()
        tip = b.git("rev-parse", "HEAD")
        b.fresh_tree()
        b.apply()
        assert b.git("rev-parse", "HEAD") == tip
        refused(lambda: b.save("migration"), "SET=migration", "machine client")
        b.put("patches/qemu/machine/cover", "A machine\n\nText.\n", b.root)
        with contextlib.redirect_stderr(io.StringIO()):
            where = mails.write(b.layout, only="machine")[0]
        assert "Base: QEMU 10.0.13 " in (where / "0000-cover-letter.patch").read_text()
