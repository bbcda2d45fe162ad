# SPDX-License-Identifier: GPL-2.0
# Commands on the patch series; included by the Makefile.

SERIES_PYTHON ?= /usr/bin/python3

.PHONY: save take series difference check-fast

save:
	@$(SERIES_PYTHON) -m lab.series save --group "$(GROUP)" $(if $(FORCE),--force)

take:
	@$(SERIES_PYTHON) -m lab.series take --step "$(STEP)" --subject "$(SUBJECT)" \
		--group "$(GROUP)" --message "$(MESSAGE)" --files "$(FILES)"

# FROM and ASSISTED_BY may hold <, > and quotes: they go through the environment.
export FROM ASSISTED_BY
series:
	@$(SERIES_PYTHON) -m lab.series series --from "$$FROM" --assisted-by "$$ASSISTED_BY"

difference:
	@$(SERIES_PYTHON) -m lab.series difference

check-fast:
	@$(SERIES_PYTHON) -m lab.check
