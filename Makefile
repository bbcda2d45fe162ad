# SPDX-License-Identifier: GPL-2.0
# Every command of the lab. `make help` explains them.

.DEFAULT_GOAL := help
LAB := /usr/bin/python3 -m lab
.PHONY: help demo bench bench-emulator coverage list test test-fuzz test-mutants test-long fuzz model shell docs pin linux clean

export KERNEL T M G REPEAT FLAVOUR MINUTES SECONDS SEED
# In the environment only: the kernel's Makefile would take M= of our command line for its own.
MAKEOVERRIDES :=

help:
	@echo 'Live migration for vfio-ap, and a lab of emulated s390 hosts that shows it.'
	@echo 'On Debian 12 (amd64), as root. Times are for an idle machine with two cores. The first command'
	@echo 'also downloads and builds: a quarter of an hour, 8 GB of disk.'
	@echo
	@echo 'See and test'
	@echo '  make demo          migrate a Linux guest with AP queues between two emulated hosts (1 min)'
	@echo '  make test          all automated tests (45 min to 1 h); T="globs" selects (T="pair.*"),'
	@echo '                     T="!glob" leaves out, REPEAT=n repeats, FLAVOUR=fast takes the fast'
	@echo '                     kernel, FLAVOUR=kcsan one that finds accesses that race'
	@echo '  make list          the names of all tests'
	@echo '  make test-long     slow tests, under the whole instrumented kernel (hours): 50 migrations of'
	@echo '                     one guest, 100,000 changed streams, 1,000 faulted migrations, test-fuzz,'
	@echo '                     test-mutants; T=glob selects, MINUTES=n limits each, SEED=n;'
	@echo '                     streams and faults continue where they ended (out/soak)'
	@echo '  make shell         a prompt in an emulated host with AP adapters;'
	@echo '                     HOST=a|b|c (lab/host/profiles), FLAVOUR=fast|debug'
	@echo
	@echo 'Measure'
	@echo '  make bench         the cost of migration, by number of queues: bytes, instructions, memory,'
	@echo '                     each beside its floor and a baseline; out/bench (5 min)'
	@echo '  make bench-emulator  the CPU time of the emulator beside that of Debian'"'"'s QEMU (8 min)'
	@echo '  make coverage      the lines of the driver that the tests in one host reach (gcov);'
	@echo '                     lab/commands/unreached has the reason for each other line'
	@echo
	@echo 'Check the patches'
	@echo '  make check-fast    as CI does (5 min): each set applies on its prerequisites and keeps its'
	@echo '                     limits, each patch builds without a warning, checkpatch, sparse, ...'
	@echo '  make check         also built in, as module and without the driver, clang, coccinelle,'
	@echo '                     sphinx, each set booted and tested, KVM selftests (1 to 2 h); installs'
	@echo '                     its tools. G=glob selects (G=sparse, G="build.*", G="tests.fixes")'
	@echo '  make check-proof   plant a fault for each gate that builds or calls a tool of the kernel;'
	@echo '                     the gate must fail; G=glob selects'
	@echo '  make test-mutants  plant faults in the driver, one by one; a test must find each (more than'
	@echo '                     1 h); M=glob selects (lab/faults/mutants), SEED=n. make test plants three'
	@echo '  make fuzz          attack the stream code of build/linux on this machine;'
	@echo '                     SECONDS=60, SEED=n repeats a run'
	@echo '  make test-fuzz     plant faults in the stream code; the fuzzer must find each'
	@echo '  make model         every interleaving of models of locks, states and pins'
	@echo '  make docs          the documentation as HTML: out/docs/arch/s390/vfio-ap.html'
	@echo
	@echo 'Change and send the patches'
	@echo '  make linux         only unpack the sources and apply the patches: build/linux, build/qemu'
	@echo '  make save          commits in build/linux -> patches/ and the top level; SET=set of new'
	@echo '                     commits (lab/series/sets.py); FORCE=1 overwrites edits that were not taken'
	@echo '  make save-qemu     commits in build/qemu -> patches/qemu; SET= as above'
	@echo '  make take          an edit at the top level -> its patch; STEP=set/number or part of a'
	@echo '                     subject; SUBJECT=... SET=... MESSAGE=... FILES=... for a new patch'
	@echo '  make difference    where patches/, build/linux and the top level disagree'
	@echo '  make series        the sets as mails in out/series/; SET=one of them (SET=qemu-client),'
	@echo '                     FROM="Name <mail>", ASSISTED_BY="LLM [TOOLS]", LAB_URL=this repository'
	@echo '  make pin           record the newest package versions in lab/image/pins.json; if the mirror'
	@echo '                     lacks a recorded one, another is taken with a warning'
	@echo '  make clean         remove build/ and out/, but not the cache of downloads'
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
