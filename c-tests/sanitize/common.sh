# SPDX-License-Identifier: MIT OR Apache-2.0
# What the scripts here share: verdicts, and where things are. Sourced with the build directory as $1.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
build=$(realpath -- "${1:-build}")
suite=$(basename "$0" .sh)
work=$build/sanitize/$suite
mkdir -p "$work"
unset LD_PRELOAD ${!RCU_NOTRACE_*} ${!RCUTRACE_*}
passed=0 failed=0 skipped=0
flags="-std=gnu11 -O1 -g -fno-omit-frame-pointer -Wall -Wextra -Wpedantic -Werror"
shared="-L$build -lrcu_notrace -Wl,-rpath,$build"

# verdict NAME STATUS [FILE] - 0 is well; of the file, the end is shown if it is not
verdict() {
    if [ "$2" = 0 ]; then
        echo "ok $suite: $1"
        passed=$((passed + 1))
    else
        echo "not ok $suite: $1 (status $2)"
        [ $# -lt 3 ] || { grep -A 12 "^not ok" "$3"; tail -n 20 "$3"; }
        failed=$((failed + 1))
    fi
}

skip() { # NAME WHY
    echo "ok $suite: $1 # SKIP"
    echo "    SKIP: $2"
    skipped=$((skipped + 1))
}

# sanitizes COMPILER SANITIZERS PACKAGE - whether programs can be built with them, and run; if not, a line that says so
sanitizes() {
    if ! command -v "$1" >/dev/null; then
        skip "$2 by $1" "$1 is missing (apt-get install $1)"
        return 1
    fi
    if ! echo 'int main(void) { return 0; }' |
        "$1" -x c "-fsanitize=$2" -o "$work/probe" - 2>/dev/null || ! "$work/probe" 2>/dev/null; then
        skip "$2 by $1" "$1 -fsanitize=$2 does not build programs that run here (apt-get install $3)"
        return 1
    fi
}

finish() {
    echo "$suite: $passed passed, $failed failed, $skipped skipped"
    [ $failed = 0 ]
    exit
}
