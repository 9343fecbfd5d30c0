# SPDX-License-Identifier: MIT OR Apache-2.0
# The interposing library, and programs under it: check-preload.
