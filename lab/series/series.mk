# SPDX-License-Identifier: GPL-2.0
# Commands on the patch series; included by the Makefile.

SERIES_PYTHON ?= /usr/bin/python3
# TREE=qemu: patches/qemu and build/qemu
SERIES := $(SERIES_PYTHON) -m lab.series --tree "$${TREE:-linux}"

.PHONY: save save-qemu take series difference check-fast check check-proof

# Variables of make's command line reach a recipe by the environment, with any characters.
save:
	@$(SERIES) save --set "$$SET" $(if $(FORCE),--force)

save-qemu:
	@$(SERIES_PYTHON) -m lab.series --tree qemu save --set "$$SET" $(if $(FORCE),--force)

take:
	@$(SERIES) take --step "$$STEP" --subject "$$SUBJECT" \
		--set "$$SET" --message "$$MESSAGE" --files "$$FILES"

# SET=qemu-client, SET=qemu-machine: sets of patches/qemu
series:
	@case "$$SET" in qemu-*) TREE=qemu SET="$${SET#qemu-}" ;; esac; \
	$(SERIES) series --set "$$SET" --from "$$FROM" \
		--assisted-by "$$ASSISTED_BY" --lab "$$LAB_URL"

difference:
	@$(SERIES) difference

# A glob that fits no gate ends the command before the kernel source is made.
GATES := $(SERIES_PYTHON) -m lab.gates.gates
SELF_TEST := $(SERIES_PYTHON) -m lab.gates.self_test

check-fast:
	@$(GATES) --known $(if $(G),"check.$$G")
	@$(LAB) source
	@$(GATES) $(if $(G),"check.$$G")

check:
	@$(GATES) --all --known $(if $(G),"check.$$G")
	@$(LAB) source
	@$(GATES) --all $(if $(G),"check.$$G")

check-proof:
	@$(SELF_TEST) --known $(if $(G),"check.$$G")
	@$(LAB) source
	@$(SELF_TEST) $(if $(G),"check.$$G")
