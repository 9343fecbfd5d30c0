# SPDX-License-Identifier: MIT OR Apache-2.0
# Sanitizers and valgrind on C: check-sanitizers (quick), check-sanitizers-long.
.PHONY: check-sanitizers check-sanitizers-long
check-sanitizers: $(LIBRARIES)
	$(Q)c-tests/sanitize/tsan.sh $(B)

check-sanitizers-long: $(LIBRARIES) $(PORTABLE)
	$(Q)c-tests/sanitize/tsan.sh $(B) long
