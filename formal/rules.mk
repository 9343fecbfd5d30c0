# SPDX-License-Identifier: MIT OR Apache-2.0
# The models: models (all), check-models (the quick ones, part of check).
.PHONY: models check-models
check-models:
	$(Q)formal/check.sh quick $(B)/models

models:
	$(Q)formal/check.sh long $(B)/models
check-long: models
