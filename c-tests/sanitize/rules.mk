# SPDX-License-Identifier: MIT OR Apache-2.0
# Sanitizers and valgrind on C: check-sanitizers (quick), check-sanitizers-long.
.PHONY: check-sanitizers check-sanitizers-long
check-sanitizers: $(LIBRARIES)
	$(Q)c-tests/sanitize/tsan.sh $(B)
	$(Q)c-tests/sanitize/asan.sh $(B)
	$(Q)c-tests/sanitize/valgrind.sh $(B)

check-sanitizers-long: $(LIBRARIES) $(PORTABLE) tracers rcutrace $(TRACEPOINT_OBJECTS)
	$(Q)c-tests/sanitize/tsan.sh $(B) long
	$(Q)c-tests/sanitize/asan.sh $(B) long
	$(Q)c-tests/sanitize/valgrind.sh $(B)

check: check-sanitizers
check-long: check-sanitizers-long
