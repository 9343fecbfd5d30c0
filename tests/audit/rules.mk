# The parts of the audits that take long. `make check-rust` runs the rest of them.
.PHONY: check-miri fuzz
check-miri:
	$(Q)TARGET='$(TARGET)' tests/audit/miri.sh
	$(Q)TARGET='$(TARGET)' tests/audit/miri.sh --features portable-reader

# `make fuzz CASES=100000`: the hostile inputs of the parsers in Rust, of the library and of rcutrace, many times over.
CASES ?= 20000
fuzz:
	$(Q)PROPTEST_CASES=$(CASES) $(CARGO) test --locked --lib hostile
	$(Q)PROPTEST_CASES=$(CASES) $(CARGO) test --profile tool --locked -p rcutrace --target-dir $(TARGET)/rcutrace \
		--test robustness

check-long: check-miri
