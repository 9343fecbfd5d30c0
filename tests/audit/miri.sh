#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs under Miri what it can run: the parts that make no system call and have no assembly in them.
set -u
cd "$(dirname "$0")/../.." || exit 1
if ! cargo +nightly miri --version >/dev/null 2>&1; then
	echo "ok miri # SKIP"
	echo "    SKIP: Miri is missing: rustup toolchain install nightly --component miri,rust-src"
	exit 0
fi
parts="bug:: chain:: ipi::signal::tests::a_signal ipi::signal::tests::what proc::tests::signals seq:: stall::line
	stall::rows::tests::numbers transient:: word::"
# So many of them there are, at least: a module that was renamed is not passed over.
least=16
output=$(mktemp)
trap 'rm -f "$output"' EXIT
# Many schedules of what has threads; weak memory and provenance are Miri's defaults.
for seed in 1 2 3; do
	# shellcheck disable=SC2086
	MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-seed=$seed" \
		timeout 900 cargo +nightly miri test --quiet --locked --lib --target-dir "${TARGET:-target}/miri" \
		"$@" -- $parts >"$output" 2>&1
	status=$?
	passed=$(sed -n 's/^test result: ok\. \([0-9]*\) passed.*/\1/p' "$output")
	if [ $status -ne 0 ] || [ "${passed:-0}" -lt $least ]; then
		cat "$output"
		echo "not ok miri: seed $seed: status $status, ${passed:-0} tests passed of $least"
		exit 1
	fi
	echo "ok miri: seed $seed, $passed tests"
done
