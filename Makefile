# rcu-notrace. Targets: all check check-long torture bench trace install uninstall installcheck abi clean;
# parts of them: tracers rcutrace preload tests check-headers check-rust check-rcutrace check-c check-usdt check-tracers
# check-record check-broken check-torture check-models check-preload-library check-preload-quick check-sanitizers; of check-long:
# check-headers-long check-c-long check-broken-long check-record-broken check-faults-long check-torture-long torture-broken
# check-sanitizers-long check-preload-library-long check-preload check-miri models;
# alone: bench-tracers fuzz fuzz-tracers.
# Variables: CC CXX CFLAGS LDFLAGS CARGO PREFIX libdir includedir DESTDIR CMD V=1.

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
SOVERSION := 0

CC ?= cc
CXX ?= c++
CARGO ?= cargo
CFLAGS ?= -O2 -g
CXXFLAGS ?= -O2 -g
PREFIX ?= /usr/local
libdir ?= $(PREFIX)/lib
includedir ?= $(PREFIX)/include
INSTALL ?= install

B := build
WARN := -Wall -Wextra -Wpedantic -Werror
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-8s%s\n' '$(1)' '$(2)')

.DELETE_ON_ERROR:
.PHONY: all check check-long check-broken check-broken-long bench trace install uninstall installcheck abi clean \
	tools
.DEFAULT_GOAL := all

# ---- tools ------------------------------------------------------------------------------------
# need COMMAND, PACKAGE, WHAT FOR
need = @command -v $(firstword $(1)) >/dev/null 2>&1 || \
	{ echo "make: $(firstword $(1)) is missing ($(3)): $(2)" >&2; exit 1; }

tools:
	$(call need,$(CARGO),install Rust 1.87 or later from https://rustup.rs,builds the library)
	$(call need,$(CC),apt-get install gcc,builds the C parts)
	$(call need,ld,apt-get install binutils,links the library)
	$(call need,objcopy,apt-get install binutils,links the library)

# ---- the library ------------------------------------------------------------------------------
# cargo decides what is out of date. Two builds: the usual one, and the portable reader for tests.
RUST := $(wildcard src/*.rs src/*/*.rs src/sys/tls.c) Cargo.toml Cargo.lock build.rs
FEATURES_one :=
FEATURES_two := --features portable-reader
TARGET ?= target
# Backtraces go through the library.
WITH_FLAGS = RUSTFLAGS="$(RUSTFLAGS) -C force-unwind-tables=yes"

# library VARIANT DIRECTORY
define library
$(2)/cargo.a: $$(RUST) | tools
	$$(call say,CARGO,$(1))
	$$(Q)mkdir -p $$(@D)
	$$(Q)$$(WITH_FLAGS) $$(CARGO) build $$(if $$(V),,--quiet) --release --locked --lib \
		--target-dir $$(TARGET)/$(1) $$(FEATURES_$(1))
	$$(Q)cp $$(TARGET)/$(1)/release/librcu_notrace.a $$@

# The exported names alone, of this variant.
$(2)/symbols: abi/symbols
	$$(Q)mkdir -p $$(@D)
	$$(Q)sed -e 's/#.*//' -e '/./!d' $$< | awk 'NF == 1 || $$$$2 == "$(1)" { print $$$$1 }' > $$@

$(2)/version-script: $(2)/symbols
	$$(Q)awk 'BEGIN { print "RCU_NOTRACE_0.1 {\n  global:" } { print "    " $$$$1 ";" } \
		END { print "  local: *;\n};" }' $$< > $$@

# One object with what the exported names need and nothing else, all other names local: two
# archives that come from Rust can then meet in one program.
$(2)/rcu_notrace.o: $(2)/cargo.a $(2)/symbols Makefile
	$$(call say,LD,$$@)
	$$(Q)ld -r --gc-sections $$$$(sed 's/^/-u /' $(2)/symbols) -o $$@.tmp \
		--whole-archive $(2)/cargo.a
	$$(Q)objcopy --keep-global-symbols=$(2)/symbols --strip-unneeded --wildcard \
		--keep-symbol='*11rcu_notrace*' \
		--remove-section=.llvmbc --remove-section=.llvmcmd \
		--remove-section='.init_array.*' --remove-section='.rela.init_array.*' $$@.tmp $$@
	$$(Q)rm $$@.tmp

$(2)/librcu_notrace.a: $(2)/rcu_notrace.o
	$$(call say,AR,$$@)
	$$(Q)rm -f $$@ && ar rcsD $$@ $$<

$(2)/librcu_notrace.so.$(VERSION): $(2)/rcu_notrace.o $(2)/version-script
	$$(call say,LINK,$$@)
	$$(Q)$$(CC) -shared $$(LDFLAGS) -o $$@ $(2)/rcu_notrace.o \
		-Wl,--gc-sections -Wl,--version-script=$(2)/version-script \
		-Wl,-soname,librcu_notrace.so.$(SOVERSION) \
		-Wl,-z,now,-z,relro,-z,defs,-z,nodelete,-z,noexecstack -Wl,-Bsymbolic
	$$(Q)ln -sf librcu_notrace.so.$(VERSION) $(2)/librcu_notrace.so.$(SOVERSION)
	$$(Q)ln -sf librcu_notrace.so.$(SOVERSION) $(2)/librcu_notrace.so
endef
$(eval $(call library,one,$(B)))
$(eval $(call library,two,$(B)/portable))

# Builds in which the environment's RCU_NOTRACE_BROKEN removes a safeguard (src/broken.rs); in target
# directories of their own, that nothing breakable is ever where a release is built.
# breakable VARIANT SYMBOLS-DIRECTORY DIRECTORY
define breakable
$(3)/librcu_notrace.so.$(SOVERSION): $$(RUST) $(2)/symbols $(2)/version-script | tools
	$$(call say,CARGO,$$@)
	$$(Q)mkdir -p $$(@D)
	$$(Q)$$(WITH_FLAGS) CARGO_PROFILE_RELEASE_LTO=off $$(CARGO) rustc $$(if $$(V),,--quiet) --release \
		--locked --lib $$(FEATURES_$(1)) --target-dir $$(TARGET)/breakable/$(1) -- --cfg breakable
	$$(Q)sed 's/global:/& rcu_notrace_set_stop_hook;/' $(2)/version-script > $(3)/version-script
	$$(Q)$$(CC) -shared -o $$@ $$$$(sed 's/^/-Wl,-u,/' $(2)/symbols) -Wl,--whole-archive \
		$$(TARGET)/breakable/$(1)/release/librcu_notrace.a -Wl,--no-whole-archive -Wl,--gc-sections \
		-Wl,--version-script=$(3)/version-script -Wl,-soname,librcu_notrace.so.$(SOVERSION) \
		-Wl,-z,now,-z,nodelete -Wl,-Bsymbolic -lgcc_s
endef
$(eval $(call breakable,one,$(B),$(B)/broken))
$(eval $(call breakable,two,$(B)/portable,$(B)/broken/portable))
BREAKABLE := $(B)/broken/librcu_notrace.so.$(SOVERSION) $(B)/broken/portable/librcu_notrace.so.$(SOVERSION)

LIBRARIES := $(B)/librcu_notrace.a $(B)/librcu_notrace.so.$(VERSION)
PORTABLE := $(B)/portable/librcu_notrace.a $(B)/portable/librcu_notrace.so.$(VERSION)
HEADERS := include/rcu_notrace.h $(wildcard include/rcu_notrace/*.h)

all: $(LIBRARIES) tracers rcutrace

# ---- the tracers ------------------------------------------------------------------------------
.PHONY: tracers
TRACED := heap locks functions fd
TRACERS := $(B)/tracers/librcutrace.so $(TRACED:%=$(B)/tracers/librcutrace_%.so)
tracers: $(TRACERS)

TRACER_HEADERS := $(wildcard tracers/*.h)
# The recorder, and what it is made of. Its thread-local variable is part of its interface. Initial-exec: a
# tracer of malloc cannot have its thread-local variables allocated.
RECORDER := $(addprefix tracers/,record.c session.c process.c maps.c tracers.c control.c stack.c)
$(B)/tracers/librcutrace.so: $(RECORDER) $(TRACER_HEADERS) $(HEADERS) $(LIBRARIES)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(CFLAGS) $(WARN) -Iinclude -fPIC -ftls-model=initial-exec \
		-fvisibility=hidden -shared $(LDFLAGS) -o $@ $(RECORDER) -L$(B) -lrcu_notrace \
		-Wl,-soname,librcutrace.so -Wl,-z,now,-z,relro,-z,defs,-z,nodelete \
		-Wl,-rpath,'$$ORIGIN/..' -pthread

# The tracers that rcutrace preloads. Initial-exec, as above; -fexceptions: a wait may be cancelled, which
# unwinds the wrapper.
TRACED_heap := tracers/heap_trace.c tracers/heap_record.c
TRACED_locks := tracers/locks_trace.c tracers/locks_real.c tracers/locks_record.c
TRACED_fd := tracers/fd_trace.c tracers/fd_real.c tracers/fd_record.c
# Called where vector registers hold arguments and results: see tracers/functions_x86_64.S.
TRACED_functions := $(addprefix tracers/,functions_trace.c functions_hook.c functions_unwind.c \
	functions_record.c functions_x86_64.S)
$(B)/tracers/librcutrace_functions.so: TRACED_FLAGS := -mgeneral-regs-only -lgcc_s
# traced NAME
define traced
$(B)/tracers/librcutrace_$(1).so: $$(TRACED_$(1)) tracers/main.c $$(TRACER_HEADERS) $$(HEADERS) $$(LIBRARIES) \
		$(B)/tracers/librcutrace.so
	$$(call say,CC,$$@)
	$$(Q)mkdir -p $$(@D)
	$$(Q)$$(CC) -std=gnu11 $$(CFLAGS) $$(WARN) -Iinclude -fPIC -ftls-model=initial-exec \
		-fvisibility=hidden -fexceptions -shared $$(LDFLAGS) -o $$@ $$(TRACED_$(1)) tracers/main.c \
		-L$(B) -L$(B)/tracers -lrcu_notrace -lrcutrace \
		-Wl,-soname,librcutrace_$(1).so -Wl,-z,now,-z,relro,-z,defs,-z,nodelete \
		-Wl,-rpath,'$$$$ORIGIN',-rpath,'$$$$ORIGIN/..' -pthread -ldl $$(TRACED_FLAGS)
endef
$(foreach t,$(TRACED),$(eval $(call traced,$t)))

# The command that starts programs under the tracers and reads what they recorded; cargo decides
# what is out of date. It stands beside the libraries, where it looks for them.
.PHONY: rcutrace
RCUTRACE := $(B)/tracers/rcutrace
RCUTRACE_SOURCES := $(wildcard rcutrace/src/*.rs rcutrace/src/*/*.rs) rcutrace/Cargo.toml Cargo.toml Cargo.lock
rcutrace: $(RCUTRACE) $(B)/man/rcutrace.1
$(RCUTRACE): $(RCUTRACE_SOURCES) | tools
	$(call say,CARGO,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CARGO) build $(if $(V),,--quiet) --profile tool --locked -p rcutrace \
		--target-dir $(TARGET)/rcutrace
	$(Q)cp $(TARGET)/rcutrace/tool/rcutrace $@

$(B)/man/rcutrace.1: $(RCUTRACE)
	$(call say,MAN,$@)
	$(Q)rm -rf $(@D) && mkdir -p $(@D)
	$(Q)$(RCUTRACE) man $(@D)

# The main job: `make trace CMD='...'` runs a command under the heap tracer.
CMD ?= find /usr/include /usr/lib /usr/share | sort --parallel=2 --buffer-size=8M | wc -l
trace: all
	$(Q)$(RCUTRACE) heap -- sh -c $(call quote,$(value CMD))
quote = '$(subst ','\'',$(1))'

# ---- tests ------------------------------------------------------------------------------------
CTESTS := sections grace_periods life corners exits bad_use callbacks flavours polled storm litmus stall urcu boost unreachable \
	events tracepoints steps forks children messages schedules waits faults hostile crowd
TEST_FLAGS = -std=gnu11 $(CFLAGS) $(WARN) -Iinclude
# Without liburcu's headers, that test says so and is skipped.
$(B)/c-tests/urcu $(B)/c-tests/urcu.static $(B)/c-tests/urcu.portable: TEST_LIBS = \
	$(shell printf '\043include <urcu/rculfhash.h>\n' | $(CC) -xc -E -o /dev/null - 2>/dev/null && \
		echo -lurcu-cds -lurcu-common)
TEST_BINARIES := $(foreach t,$(CTESTS),$(B)/c-tests/$t $(B)/c-tests/$t.static $(B)/c-tests/$t.portable) \
	$(B)/c-tests/tracepoints.fixed

# Shared objects with tracepoints, for the test of those: the library comes with the program, static or
# not. One is linked with it, one it loads.
TRACEPOINT_OBJECTS := $(foreach k,.so .portable.so,$(B)/c-tests/tracepoints_provider$k \
	$(B)/c-tests/tracepoints_module$k)
build_tracepoints = $(CC) $(TEST_FLAGS) -fPIC -fvisibility=hidden -shared -o $@ $(filter %.c,$^)
$(B)/c-tests/tracepoints_%.portable.so: c-tests/tracepoints_%.c c-tests/tracepoints.h $(HEADERS)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(build_tracepoints) -DRCU_NOTRACE_PORTABLE
$(B)/c-tests/tracepoints_%.so: c-tests/tracepoints_%.c c-tests/tracepoints.h $(HEADERS)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(build_tracepoints)
tracepoint_libs = -Wl,-rpath,'$$ORIGIN' -rdynamic -ldl $(B)/c-tests/tracepoints_provider
$(B)/c-tests/tracepoints $(B)/c-tests/tracepoints.static: TEST_LIBS = $(tracepoint_libs).so
$(B)/c-tests/tracepoints.portable: TEST_LIBS = $(tracepoint_libs).portable.so
$(B)/c-tests/tracepoints $(B)/c-tests/tracepoints.static $(B)/c-tests/tracepoints.portable \
	$(B)/c-tests/tracepoints.fixed: $(TRACEPOINT_OBJECTS)

# Shared objects whose constructors come first, or that come and go.
build_crowd = $(CC) $(TEST_FLAGS) -fPIC -fvisibility=hidden -shared -o $@ $(filter %.c,$^)
$(B)/c-tests/crowd_first%so: CROWD_FLAGS = -Wl,-z,initfirst
$(B)/c-tests/crowd_%.portable.so: c-tests/crowd_%.c c-tests/crowd.h $(HEADERS)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(build_crowd) -DRCU_NOTRACE_PORTABLE $(CROWD_FLAGS)
$(B)/c-tests/crowd_%.so: c-tests/crowd_%.c c-tests/crowd.h $(HEADERS)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(build_crowd) $(CROWD_FLAGS)
crowd_libs = -Wl,-rpath,'$$ORIGIN' -rdynamic -ldl $(B)/c-tests/crowd_first
$(B)/c-tests/crowd $(B)/c-tests/crowd.static: TEST_LIBS = $(crowd_libs).so
$(B)/c-tests/crowd.portable: TEST_LIBS = $(crowd_libs).portable.so
$(B)/c-tests/crowd $(B)/c-tests/crowd.static: $(B)/c-tests/crowd_first.so $(B)/c-tests/crowd_module.so
$(B)/c-tests/crowd.portable: $(B)/c-tests/crowd_first.portable.so $(B)/c-tests/crowd_module.portable.so

# Code that is not position-independent.
$(B)/c-tests/tracepoints.fixed: c-tests/tracepoints.c $(wildcard c-tests/*.h) $(HEADERS) $(LIBRARIES)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(TEST_FLAGS) -fno-pic -no-pie -o $@ $< $(LDFLAGS) -L$(B) -lrcu_notrace \
		-Wl,-rpath,'$(CURDIR)/$(B)' $(tracepoint_libs).so -pthread

$(B)/c-tests/%: c-tests/%.c $(wildcard c-tests/*.h) $(HEADERS) $(LIBRARIES)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(TEST_FLAGS) -o $@ $< $(LDFLAGS) -L$(B) -lrcu_notrace -Wl,-rpath,'$(CURDIR)/$(B)' \
		$(TEST_LIBS) -pthread

$(B)/c-tests/%.static: c-tests/%.c $(wildcard c-tests/*.h) $(HEADERS) $(LIBRARIES)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(TEST_FLAGS) -DRCU_NOTRACE_STATIC -o $@ $< $(LDFLAGS) $(B)/librcu_notrace.a \
		$(TEST_LIBS) -pthread

$(B)/c-tests/%.portable: c-tests/%.c $(wildcard c-tests/*.h) $(HEADERS) $(PORTABLE)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(TEST_FLAGS) -DRCU_NOTRACE_PORTABLE -o $@ $< $(LDFLAGS) -L$(B)/portable -lrcu_notrace \
		-Wl,-rpath,'$(CURDIR)/$(B)/portable' $(TEST_LIBS) -pthread

# A second archive that comes from Rust, and a program of both.
$(B)/c-tests/libother.a: c-tests/other.rs | tools
	$(call say,RUSTC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)MAKEFLAGS= rustc --edition 2021 --crate-type staticlib -O -C panic=abort -o $@ $<

$(B)/c-tests/two_archives: c-tests/two_archives.c $(B)/c-tests/libother.a $(LIBRARIES)
	$(call say,CC,$@)
	$(Q)$(CC) $(TEST_FLAGS) -o $@ $< $(LDFLAGS) $(B)/librcu_notrace.a $(B)/c-tests/libother.a -pthread -ldl -lm

# A tracer of its own on the recorder.
$(B)/c-tests/record: c-tests/record.c $(wildcard c-tests/*.h) $(TRACER_HEADERS) $(HEADERS) \
		$(B)/tracers/librcutrace.so
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(TEST_FLAGS) -o $@ $< $(LDFLAGS) -L$(B)/tracers -lrcutrace -L$(B) -lrcu_notrace \
		-Wl,-rpath,'$(CURDIR)/$(B)/tracers:$(CURDIR)/$(B)' -pthread

.PHONY: check-headers check-headers-long check-rust check-rcutrace check-c check-usdt check-tracers check-record tests
tests: $(TEST_BINARIES) $(B)/c-tests/two_archives $(B)/c-tests/record

check: check-beside check-c check-usdt check-tracers check-record check-broken installcheck
	@echo 'check: all of it passed'

# What does not mind what runs beside it, and all that is built, by all processors; the other tests then run one
# after another.
.PHONY: check-beside
check-beside: | tools
	+$(Q)$(MAKE) --no-print-directory -j "$$(nproc)" --output-sync=target check-rust check-rcutrace \
		check-headers check-models all tests $(BREAKABLE) $(TORTURE_BINARIES) $(PRELOAD_TESTS) $(STORMED)

check-headers: $(LIBRARIES) $(PORTABLE) | tools
	$(Q)MAKEFLAGS= c-tests/headers.sh

check-headers-long: $(LIBRARIES) $(PORTABLE) | tools
	$(Q)MAKEFLAGS= c-tests/headers.sh long

check-rust: $(LIBRARIES) $(PORTABLE)
	$(Q)$(CARGO) fmt --check
	$(Q)$(CARGO) clippy --quiet --locked --all-targets -- -D warnings
	$(Q)$(CARGO) clippy --quiet --locked --lib --features portable-reader -- -D warnings
	$(Q)$(CARGO) clippy --quiet --locked --lib -- -D warnings --cfg breakable
	$(Q)$(CARGO) clippy --quiet --locked --lib --features portable-reader -- -D warnings --cfg breakable
	$(Q)RCU_NOTRACE_BUILD='$(CURDIR)/$(B)' $(CARGO) test --locked
	$(Q)$(CARGO) test --locked --features portable-reader --lib

check-rcutrace: | tools
	$(Q)$(CARGO) fmt --check -p rcutrace
	$(Q)$(CARGO) clippy --quiet --profile tool --locked --all-targets -p rcutrace --target-dir $(TARGET)/rcutrace \
		-- -D warnings
	$(Q)$(CARGO) test --profile tool --locked -p rcutrace --target-dir $(TARGET)/rcutrace

check-c: tests
	$(Q)c-tests/run.sh $(B)/c-tests

check-usdt: $(B)/c-tests/usdt $(B)/c-tests/usdt.static
	$(Q)c-tests/usdt.sh $(B)

check-tracers: all
	$(Q)c-tests/tracers.sh $(B)
	$(Q)c-tests/traced_programs.sh $(B)
	$(Q)c-tests/drained.sh $(B)

check-record: $(B)/c-tests/record
	$(Q)for mode in auto signal; do \
		RCU_NOTRACE_IPI=$$mode timeout 600 $(B)/c-tests/record || exit 1; done

# The recorder without one of its safeguards, as tracers/recorder.h numbers them, and the scenario that must fail:
# one time in five at least, as with the library's.
RECORDER_LACKS := 1:low_numbers_left_alone 2:fork_with_a_cancellation_pending 3:fork_in_a_fork \
	4:childs_exit_leaves_the_socket 5:drop_newest 6:fork_without_handlers 7:fork_in_a_writer 8:overwrite \
	9:sessions_under_fire 10:storm_of_handlers 11:main_thread_exits_in_another_root 12:no_descriptor_for_a_client \
	13:sandbox_that_answers_by_a_signal 14:signals_that_the_program_waits_for 15:sandbox_that_comes_later \
	16:fork_step_by_step 17:large_thread_local_segment 18:main_thread_exits_before_a_large_handler
$(B)/broken/tracers_%/librcutrace.so: $(RECORDER) $(TRACER_HEADERS) $(HEADERS) $(LIBRARIES)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(CFLAGS) $(WARN) -DBROKEN=$* -Iinclude -fPIC -ftls-model=initial-exec \
		-fvisibility=hidden -shared $(LDFLAGS) -o $@ $(RECORDER) -L$(B) -lrcu_notrace \
		-Wl,-soname,librcutrace.so -Wl,-z,now,-z,defs,-z,nodelete -Wl,-rpath,'$(CURDIR)/$(B)' -pthread
.PHONY: check-record-broken
check-record-broken: $(B)/c-tests/record \
		$(foreach r,$(RECORDER_LACKS),$(B)/broken/tracers_$(firstword $(subst :, ,$r))/librcutrace.so)
	$(Q)for row in $(RECORDER_LACKS); do \
		for try in 1 2 3 4 5; do \
			said=$$(LD_LIBRARY_PATH=$(B)/broken/tracers_$${row%%:*} timeout 100 $(B)/c-tests/record $${row#*:}); \
			case $$said in *"not ok record "*) echo "ok check-record-broken: $$row"; continue 2 ;; esac; \
		done; \
		echo "$$said"; echo "not ok check-record-broken: $$row passes"; exit 1; \
	done

# The library without one of its safeguards at a time; the tests must notice. The long ones too: all.
check-broken: tests $(BREAKABLE)
	$(Q)c-tests/broken.sh $(B) quick
check-broken-long: tests $(BREAKABLE)
	$(Q)c-tests/broken.sh $(B) all

check-long: check check-headers-long check-c-long check-broken-long check-record-broken check-faults-long

# All tests in all ways, and the storms much longer.
.PHONY: check-c-long
check-c-long: tests
	$(Q)RCU_NOTRACE_IPI=membarrier timeout 600 $(B)/c-tests/record
	$(Q)STORM_SECONDS=20 SCENARIO_SECONDS=100 TEST_SECONDS=3000 c-tests/run.sh $(B)/c-tests $(CTESTS)

# Refused calls, hostile processes, masses: in the full numbers in modes auto and signal, a tenth elsewhere.
.PHONY: check-faults-long
check-faults-long: tests
	$(Q)FAULTS_LONG=1 SCENARIO_SECONDS=600 TEST_SECONDS=3000 c-tests/run.sh $(B)/c-tests faults hostile crowd

# The committed copy of what cbindgen generates.
abi:
	RCU_NOTRACE_BLESS=1 $(CARGO) test --locked --test abi

# ---- torture, models, preloading, audits, sanitizers: each in its folder; they add to check -------------------------------------------
include torture/rules.mk formal/rules.mk preload/rules.mk tests/audit/rules.mk c-tests/sanitize/rules.mk

# ---- benchmarks -------------------------------------------------------------------------------
build_lttng = $(CC) -std=gnu11 $(CFLAGS) -fPIC -shared benches/tracepoint_lttng.c
$(B)/bench/rcu: $(wildcard benches/*.c benches/*.h) $(HEADERS) $(LIBRARIES)
	@printf '#include <urcu/urcu-memb.h>\n#include <urcu/urcu-signal.h>\n' | \
		$(CC) -xc -c -o /dev/null - 2>/dev/null || \
		{ echo 'make: urcu/urcu-memb.h or urcu-signal.h is missing (the peer):' \
		'apt-get install liburcu-dev (the newest has no signal flavour)' >&2; exit 1; }
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)rm -f $(@D)/*.o
	$(Q)$(CC) $(TEST_FLAGS) -c benches/peer_bare.c -o $(@D)/bare.o
	$(Q)$(CC) $(TEST_FLAGS) -c benches/peer_notrace.c -o $(@D)/notrace.o
	$(Q)$(CC) $(TEST_FLAGS) -DRCU_NOTRACE_STATIC -c benches/peer_notrace.c -o $(@D)/notrace_static.o
	$(Q)for flavour in MEMB MB BP SIGNAL; do \
		$(CC) -std=gnu11 $(CFLAGS) -DPEER_$$flavour -c benches/peer_urcu.c -o $(@D)/$$flavour.o || exit 1; done
	$(Q)rm -f $(@D)/*.so
	$(Q)$(CC) $(TEST_FLAGS) -fPIC -shared -DBARE benches/tracepoint_notrace.c -o $(@D)/tracepoint_bare.so
	$(Q)for form in patched loaded; do \
		$(CC) $(TEST_FLAGS) -fPIC -shared benches/tracepoint_notrace.c -o $(@D)/tracepoint_$$form.so || exit 1; done
	$(Q)if echo '#include <lttng/tracepoint.h>' | $(CC) -xc -E -o /dev/null - 2>/dev/null; then \
		$(build_lttng) -o $(@D)/tracepoint_lttng.so -llttng-ust -llttng-ust-tracepoint -llttng-ust-common && \
		$(build_lttng) -D_LGPL_SOURCE -ftls-model=initial-exec -o $(@D)/tracepoint_lttng_inlined.so -llttng-ust -llttng-ust-tracepoint \
			-llttng-ust-common; fi
	$(Q)$(CC) $(TEST_FLAGS) -rdynamic -o $@ \
		$(filter-out benches/peer_% benches/tracepoint_%,$(filter benches/%.c,$^)) $(@D)/*.o \
		$(B)/librcu_notrace.a -ldl -lurcu-memb -lurcu-mb -lurcu-bp -lurcu-signal -lurcu-common -pthread

bench: $(B)/bench/rcu
	$(Q)$<

# What the tracers cost, beside LTTng-UST, heaptrack and uftrace.
.PHONY: bench-tracers
bench-tracers: all
	$(Q)benches/tracers.sh $(B)

# ---- installation -----------------------------------------------------------------------------
# Installs what `make` built; builds nothing, fetches nothing. The one file that names directories
# is written in place.
DEST_LIB = $(DESTDIR)$(libdir)
DEST_INCLUDE = $(DESTDIR)$(includedir)
DEST_BIN = $(DESTDIR)$(PREFIX)/bin
DEST_MAN = $(DESTDIR)$(PREFIX)/share/man/man1
install:
	@test -e $(B)/librcu_notrace.so.$(VERSION) || \
		{ echo "make: nothing is built yet: run 'make' first" >&2; exit 1; }
	$(INSTALL) -d '$(DEST_LIB)/pkgconfig' '$(DEST_INCLUDE)/rcu_notrace'
	$(INSTALL) -m 644 include/rcu_notrace.h '$(DEST_INCLUDE)'
	$(INSTALL) -m 644 include/rcu_notrace/*.h '$(DEST_INCLUDE)/rcu_notrace'
	$(INSTALL) -m 644 $(B)/librcu_notrace.a '$(DEST_LIB)'
	$(INSTALL) -m 755 $(B)/librcu_notrace.so.$(VERSION) '$(DEST_LIB)'
	ln -sf librcu_notrace.so.$(VERSION) '$(DEST_LIB)/librcu_notrace.so.$(SOVERSION)'
	ln -sf librcu_notrace.so.$(SOVERSION) '$(DEST_LIB)/librcu_notrace.so'
	printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$(libdir)' 'includedir=$(includedir)' '' \
		'Name: rcu-notrace' \
		'Description: RCU whose read side may be called from anywhere' \
		'Version: $(VERSION)' 'Libs: -L$${libdir} -lrcu_notrace' 'Libs.private: -pthread' \
		'Cflags: -I$${includedir}' > '$(DEST_LIB)/pkgconfig/rcu_notrace.pc'
	test ! -e $(RCUTRACE) || { $(INSTALL) -d '$(DEST_LIB)/rcu_notrace' '$(DEST_BIN)' '$(DEST_MAN)' && \
		$(INSTALL) -m 755 $(TRACERS) $(PRELOAD) '$(DEST_LIB)/rcu_notrace' && \
		$(INSTALL) -m 755 $(RCUTRACE) '$(DEST_BIN)' && \
		$(INSTALL) -m 644 $(B)/man/rcutrace*.1 '$(DEST_MAN)'; }

uninstall:
	rm -f '$(DEST_LIB)/librcu_notrace.so' '$(DEST_LIB)/librcu_notrace.so.$(SOVERSION)' \
		'$(DEST_LIB)/librcu_notrace.so.$(VERSION)' '$(DEST_LIB)/librcu_notrace.a' \
		'$(DEST_LIB)/pkgconfig/rcu_notrace.pc' '$(DEST_INCLUDE)/rcu_notrace.h'
	rm -rf '$(DEST_INCLUDE)/rcu_notrace' '$(DEST_LIB)/rcu_notrace'
	rm -f '$(DEST_BIN)/rcutrace' '$(DEST_MAN)'/rcutrace.1 '$(DEST_MAN)'/rcutrace-*.1

# Programs built from the installed tree by pkg-config alone.
installcheck: $(LIBRARIES)
	$(Q)MAKE='$(MAKE)' CC='$(CC)' CXX='$(CXX)' c-tests/installcheck.sh

clean:
	rm -rf $(B) $(TARGET)
