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

# `make fuzz-tracers SECONDS=600`: the same doors, by libFuzzer.
.PHONY: fuzz-tracers
FUZZED := c-tests/sanitize/hostile_tracers.c $(addprefix tracers/,record.c session.c maps.c tracers.c stack.c)
$(B)/sanitize/fuzz-tracers: $(FUZZED) tracers/control.c tracers/process.c $(TRACER_HEADERS) $(HEADERS) $(LIBRARIES)
	$(call need,clang,apt-get install clang libclang-rt-14-dev,has libFuzzer)
	$(Q)mkdir -p $(@D)
	$(Q)clang -std=gnu11 -O1 -g $(WARN) -DFUZZER -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Iinclude \
		-o $@ $(FUZZED) -L$(B) -lrcu_notrace -Wl,-rpath,'$(CURDIR)/$(B)' -pthread

fuzz-tracers: $(B)/sanitize/fuzz-tracers
	$(Q)mkdir -p $<.corpus
	$(Q)RCUTRACE_CONTROL=0 $< -max_total_time=$(or $(SECONDS),60) -max_len=8704 -close_fd_mask=2 -artifact_prefix=$<. $<.corpus

check: check-sanitizers
check-long: check-sanitizers-long
