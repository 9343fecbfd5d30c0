# SPDX-License-Identifier: MIT OR Apache-2.0
# The interposing library, and programs under it: check-preload.

PRELOAD := $(B)/preload/librcu_notrace_preload.so
PRELOAD_SOURCES := $(addprefix preload/,actions.c signals.c masks.c images.c real.c)
.PHONY: preload check-preload-library check-preload-library-long
preload: $(PRELOAD)
all: preload

# Initial-exec: none of its thread-local variables may be allocated. -fexceptions: a wait may be cancelled, which unwinds
# the wrapper.
build_preload = $(CC) -std=gnu11 $(CFLAGS) -U_FORTIFY_SOURCE $(WARN) -Iinclude -fPIC -ftls-model=initial-exec \
	-fvisibility=hidden -fexceptions -shared $(LDFLAGS) -o $@ $(PRELOAD_SOURCES) -L$(B) -lrcu_notrace \
	-Wl,-soname,librcu_notrace_preload.so -Wl,-z,now,-z,relro,-z,defs,-z,nodelete \
	-Wl,-rpath,'$$ORIGIN/..' -pthread -ldl
$(PRELOAD): $(PRELOAD_SOURCES) $(wildcard preload/*.h) tracers/sys.h $(HEADERS) $(LIBRARIES)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(build_preload)

# Its own tests: one program must hear the same with and without it, and threads answer IPIs under it.
$(B)/preload/%: preload/%.c $(wildcard c-tests/*.h) $(HEADERS) $(LIBRARIES)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(TEST_FLAGS) -o $@ $< $(LDFLAGS) -L$(B) -lrcu_notrace -Wl,-rpath,'$(CURDIR)/$(B)' -pthread -ldl

PRELOAD_TESTS := $(B)/preload/answers $(B)/preload/alive

# Without one safeguard: preload.h numbers them.
$(B)/preload/broken_$(PRELOAD_BROKEN).so: $(PRELOAD_SOURCES) $(wildcard preload/*.h)
	$(Q)mkdir -p $(@D)
	$(Q)$(build_preload) -DBROKEN=$(PRELOAD_BROKEN)

check-preload-library: $(PRELOAD) $(PRELOAD_TESTS)
	$(Q)MAKE='$(MAKE)' preload/test.sh $(B)
# Other signals, storms at their full length, builds without a safeguard.
check-preload-library-long: $(PRELOAD) $(PRELOAD_TESTS)
	$(Q)MAKE='$(MAKE)' preload/test.sh $(B) long
check: check-preload-library
check-long: check-preload-library-long
# ---- programs ---------------------------------------------------------------------------------
# Grace periods without end, in a program that knows nothing of them.
$(B)/preload/librcu_notrace_storm.so: preload/storm.c $(HEADERS) $(LIBRARIES)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(CFLAGS) $(WARN) -Iinclude -fPIC -fvisibility=hidden -shared $(LDFLAGS) -o $@ $< \
		-L$(B) -lrcu_notrace -Wl,-soname,librcu_notrace_storm.so -Wl,-z,now,-z,relro,-z,defs,-z,nodelete \
		-Wl,-rpath,'$$ORIGIN/..' -pthread -ldl

# Real programs under it, with grace periods and tracers that come and go all the time.
.PHONY: check-preload check-preload-quick
STORMED := $(PRELOAD) $(B)/preload/librcu_notrace_storm.so tracers rcutrace
check-preload: $(STORMED)
	$(Q)preload/programs.sh $(B)
check-preload-quick: $(STORMED)
	$(Q)preload/programs.sh $(B) bash sqlite
check: check-preload-quick
check-long: check-preload
