# SPDX-License-Identifier: MIT OR Apache-2.0
# The interposing library, and programs under it: check-preload.

# ---- programs ---------------------------------------------------------------------------------
# Grace periods without end, in a program that knows nothing of them.
$(B)/preload/librcu_notrace_storm.so: preload/storm.c $(HEADERS) $(LIBRARIES)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(CFLAGS) $(WARN) -Iinclude -fPIC -fvisibility=hidden -shared $(LDFLAGS) -o $@ $< \
		-L$(B) -lrcu_notrace -Wl,-soname,librcu_notrace_storm.so -Wl,-z,now,-z,relro,-z,defs,-z,nodelete \
		-Wl,-rpath,'$$ORIGIN/..' -pthread -ldl
