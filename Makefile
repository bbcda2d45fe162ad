# SPDX-License-Identifier: GPL-2.0
# Every command of the lab. `make help` explains them.

.DEFAULT_GOAL := help
LAB := /usr/bin/python3 -m lab
.PHONY: help demo bench bench-emulator coverage list test test-fuzz test-mutants test-long fuzz model shell docs pin linux clean

export KERNEL T M G REPEAT FLAVOUR MINUTES SECONDS SEED
# In the environment only: the kernel's Makefile would take M= of our command line for its own.
MAKEOVERRIDES :=

help:
	@echo 'Live migration for vfio-ap, and a lab of emulated s390 hosts that proves it.'
	@echo 'On Debian 12 (amd64), as root; the first run fetches and builds for a quarter of an hour'
	@echo 'or more (8 GB of disk).'
	@echo
	@echo '  make demo          migrate a guest with AP queues between two emulated hosts'
	@echo '  make list          the names of all tests'
	@echo '  make test          all automated tests; T="globs" selects (T="pair.*"), REPEAT=n repeats,'
	@echo '                     FLAVOUR=fast takes the fast kernel for a quick look, FLAVOUR=kcsan'
	@echo '                     one that finds accesses that race'
	@echo '  make test-long     slow tests, under the whole instrumented kernel: 50 migrations to and fro, 100,000 changed streams,'
	@echo '                     1,000 faulted migrations (MINUTES=n: each for so long),'
	@echo '                     test-fuzz and test-mutants; T=glob selects, without the latter;'
	@echo '                     SEED=n; streams and faults go on where they ended (out/soak)'
	@echo '  make test-mutants  plant faults in the driver, one by one, and see the tests fail that'
	@echo '                     find them (lab/faults/mutants); M=glob selects. make test tries'
	@echo '                     three, other ones each day; SEED=n selects them'
	@echo '  make fuzz          the stream code of build/linux against made-up streams, on this machine;'
	@echo '                     SECONDS=60, SEED=n repeats a run'
	@echo '  make test-fuzz     plant faults in the stream code and see the fuzzer find them'
	@echo '  make model         every interleaving of models of locks, states and pins'
	@echo '  make bench         what migration costs, by number of queues: bytes, instructions,'
	@echo '                     memory, each beside its floor and a baseline; out/bench'
	@echo '  make bench-emulator  the CPU time of the emulator beside that of Debian'"'"'s QEMU'
	@echo '  make coverage      which lines of the driver the tests in one host reach (gcov);'
	@echo '                     what they do not reach, and why: lab/commands/unreached'
	@echo '  make shell         a prompt in an emulated host with simulated AP adapters;'
	@echo '                     HOST=a|b|c (lab/host/profiles), FLAVOUR=fast|debug'
	@echo '  make check-fast    gates on the patches and on our scripts, as CI runs them: each set'
	@echo '                     applies on its prerequisites and keeps its limits, checkpatch, each'
	@echo '                     patch builds without a warning, sparse, ...'
	@echo '  make check         these, and those that take long: built in, as module and without'
	@echo '                     the driver, clang, coccinelle, sphinx, and each set booted and tested'
	@echo '                     on its prerequisites; installs what it needs.'
	@echo '                     G=glob selects (G=sparse, G="build.*", G="tests.fixes")'
	@echo '  make check-proof   plant a fault for each gate that builds or calls a tool of the'
	@echo '                     kernel, and see the gate fail; G=glob selects'
	@echo '  make docs          the documentation as HTML in out/docs/arch/s390/vfio-ap.html'
	@echo
	@echo '  make save          commits in build/linux -> patches/ and the top level; SET=set of'
	@echo '                     new commits (lab/series/sets.py);'
	@echo '                     FORCE=1 overwrites edits that were not taken'
	@echo '  make save-qemu     commits in build/qemu -> patches/qemu; SET= as above'
	@echo '  make take          an edit at the top level -> its patch; STEP=set/number or part of'
	@echo '                     a subject, or'
	@echo '                     SUBJECT=... SET=... MESSAGE=... FILES=... for a new one'
	@echo '  make series        the sets as mails in out/series/; SET=one of them (SET=qemu-client, too), FROM="Name <mail>",'
	@echo '                     ASSISTED_BY="LLM [TOOLS]", LAB_URL=where to get this repository'
	@echo '  make difference    where patches/, build/linux and the top level disagree'
	@echo
	@echo '  make linux         build/linux and build/qemu only: pristine sources with the patches on'
	@echo '                     them'
	@echo '  make pin           record the newest package versions in lab/image/pins.json; if the'
	@echo '                     mirror lacks a recorded one, another is taken with a warning'
	@echo '  make clean         remove build/ and out/, the cache of downloads excepted'
	@echo
	@echo 'demo, test, bench, shell, linux: KERNEL=/path takes another Linux source (a copy of it).'

demo bench bench-emulator coverage list test test-fuzz test-mutants test-long fuzz model docs pin:
	@$(LAB) $@

shell:
	@$(LAB) shell --host "$(if $(filter command line,$(origin HOST)),$(HOST),a)"

linux:
	@$(LAB) source

include lab/series/series.mk

series difference: linux

clean:
	@$(LAB) clean
