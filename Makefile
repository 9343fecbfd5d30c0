# rcu-notrace. Targets: all check check-long check-broken bench trace install uninstall
# installcheck abi clean. Variables: CC CXX CFLAGS LDFLAGS CARGO PREFIX libdir includedir DESTDIR V=1.

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
.PHONY: all check check-long check-broken bench trace install uninstall installcheck abi clean \
	tools tools-check
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
RUST := $(wildcard src/*.rs src/*/*.rs src/sys/tls.c) Cargo.toml Cargo.lock build.rs cbindgen.toml
FEATURES_one :=
FEATURES_two := --features portable-reader
TARGET ?= target

# library VARIANT DIRECTORY
define library
$(2)/cargo.a: $$(RUST) | tools
	$$(call say,CARGO,$(1))
	$$(Q)mkdir -p $$(@D)
	$$(Q)RUSTFLAGS="$$(RUSTFLAGS) -C force-unwind-tables=yes" $$(CARGO) build $$(if $$(V),,--quiet) --release --locked --lib \
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
	$$(Q)objcopy --keep-global-symbols=$(2)/symbols --strip-debug \
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

LIBRARIES := $(B)/librcu_notrace.a $(B)/librcu_notrace.so.$(VERSION)
all: $(LIBRARIES)

clean:
	rm -rf $(B) $(TARGET)
