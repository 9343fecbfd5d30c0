# SPDX-License-Identifier: MIT OR Apache-2.0
# rcutorture: torture, check-torture, check-torture-long, torture-broken.

TORTURE := $(wildcard torture/*.c)
TORTURE_NEEDS := $(TORTURE) torture/torture.h $(HEADERS)
TORTURE_BINARIES := $(addprefix $(B)/torture/rcutorture.,shared static portable)

$(B)/torture/rcutorture.shared: $(TORTURE_NEEDS) $(LIBRARIES)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(TEST_FLAGS) -o $@ $(TORTURE) $(LDFLAGS) -L$(B) -lrcu_notrace \
		-Wl,-rpath,'$(CURDIR)/$(B)' -pthread

$(B)/torture/rcutorture.static: $(TORTURE_NEEDS) $(LIBRARIES)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(TEST_FLAGS) -DRCU_NOTRACE_STATIC -o $@ $(TORTURE) $(LDFLAGS) $(B)/librcu_notrace.a -pthread

$(B)/torture/rcutorture.portable: $(TORTURE_NEEDS) $(PORTABLE)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(TEST_FLAGS) -DRCU_NOTRACE_PORTABLE -o $@ $(TORTURE) $(LDFLAGS) -L$(B)/portable -lrcu_notrace \
		-Wl,-rpath,'$(CURDIR)/$(B)/portable' -pthread

.PHONY: torture check-torture check-torture-long torture-broken

# `make torture SECONDS=600 OPTIONS='--mode signal'`: see docs/TORTURE.md.
SECONDS ?= 60
OPTIONS ?=
torture: $(B)/torture/rcutorture.shared
	$(Q)$< --seconds $(SECONDS) $(OPTIONS)

# Half a minute of it; and, part after part, eleven minutes.
check-torture: $(TORTURE_BINARIES)
	$(Q)torture/run.sh $(B)/torture quick

check-torture-long: $(TORTURE_BINARIES)
	$(Q)torture/run.sh $(B)/torture long

# Without one safeguard at a time: which of them torture misses, and how fast.
torture-broken: $(B)/torture/rcutorture.shared $(BREAKABLE)
	$(Q)torture/broken.sh $(B)

check: check-torture
check-long: check-torture-long torture-broken
