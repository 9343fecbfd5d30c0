#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Removes each safeguard of c-tests/broken.table in its turn, and runs the scenario that must notice: first
# with nothing removed, but with the same delay if there is one, which must pass. A safeguard that nobody
# misses is a hole in the tests, and fails this.
#   broken.sh BUILD-DIRECTORY [quick|all|SAFEGUARD...]
# How long each took to be noticed is left in BUILD-DIRECTORY/broken/times; `broken.sh BUILD-DIRECTORY doc`
# prints the table of docs/BROKEN.md with it.
set -u
cd "$(dirname "$0")/.." || exit 1
build=$1
shift
table=c-tests/broken.table
library=$build/broken
output=$(mktemp)
trap 'rm -f "$output"' EXIT
rows() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' $table; }

if [ "${1-}" = doc ]; then
    echo '| safeguard | in its place | label, invariant | noticed by | after |'
    echo '|---|---|---|---|---|'
    rows | while IFS='|' read -r name tier test mode scenario label what; do
        took=$(awk -v n="${name// /}" '$1 == n { t = $2 } END { print t }' "$library/times" 2>/dev/null)
        echo "| \`$name\` |$what |$label| \`${test// /}\`, $mode: $scenario | ${took:+$took ms} |"
    done | sed "s/  */ /g; s/ \` |/\` |/"
    exit
fi

status=0
say() { # verdict, text
    echo "$1 broken: $2"
    [ "$1" = ok ] || status=1
}

# The table has what the source has.
in_source=$(grep -rhoE 'broken!\("[a-z0-9-]+"\)' src | grep -oE '"[^"]+"' | tr -d '"' | sort -u)
in_table=$(rows | cut -d'|' -f1 | tr -d ' ' | sort)
differ=$(comm -3 <(echo "$in_source") <(echo "$in_table"))
if [ -z "$differ" ]; then
    say ok "each safeguard of the source has a row, and each row a safeguard: $(echo "$in_table" | wc -l)"
else
    say "not ok" "in the source or in $table alone, or twice there: ${differ//[$'\n\t']/ }"
fi
# And no delay stands alone.
alone=$(grep -rhoE 'widen!\("[a-z0-9-]+"' src | grep -oE '"[^"]+"' | tr -d '"' | sort -u |
    comm -23 - <(echo "$in_source"))
[ -z "$alone" ] || say "not ok" "delays without a safeguard: $alone"
# A release has nothing of it; the libraries that are tested here do.
for file in "$build"/librcu_notrace.{a,so} "$build"/portable/librcu_notrace.{a,so}; do
    if grep -q RCU_NOTRACE_BROKEN "$file"; then say "not ok" "$file is no release"; fi
done
for file in "$library" "$library/portable"; do
    grep -q RCU_NOTRACE_BROKEN "$file/librcu_notrace.so.0" || say "not ok" "nothing can be removed from $file"
done

# Runs a scenario with the breakable library, and what else is to be in its environment.
run() { # limit, test, mode, scenario, assignment
    local directory=$library mode=${3%-*}
    [ "${2%.portable}" = "$2" ] || directory+=/portable
    env LD_LIBRARY_PATH="$directory" RCU_NOTRACE_IPI="$mode" SCENARIO_SECONDS="$1" "${@:5}" \
        timeout $(($1 + 10)) "$build/c-tests/$2" "$4" >"$output" 2>&1
}

missed() { # name, limit, test, mode, scenario
    local try
    for try in 1 2 3 4 5; do
        run "$2" "$3" "$4" "$5" RCU_NOTRACE_BROKEN="$1${second:+,$second}" || return 0
    done
    return 1
}

wanted=${*:-all}
touch "$library/times"
caught=0 survived=0 skipped=0
while IFS='|' read -r name tier test mode scenario _; do
    read -r name tier test mode scenario <<<"$name $tier $test $mode $scenario"
    case " $wanted " in
    *" $name "*) ;;
    " all ") [ "$tier" != model ] || continue ;;
    " $tier ") ;;
    *) continue ;;
    esac
    # MODE-SAFEGUARD: what hides the loss of this one is removed both times.
    second=
    case $mode in *-*) second=${mode#*-} ;; esac
    begin=$(date +%s)
    if ! run 60 "$test" "$mode" "$scenario" RCU_NOTRACE_WIDEN="$name" RCU_NOTRACE_BROKEN="$second"; then
        say "not ok" "with nothing removed, $test $scenario fails in mode $mode ($name)"
        tail -n 4 "$output"
        survived=$((survived + 1))
        continue
    fi
    # Three times as long as it took, and a little: what hangs need not be waited for.
    limit=$((3 * ($(date +%s) - begin) + 4))
    if ! grep -q '^ok' "$output"; then
        say "not ok" "$test has no scenario $scenario"
        survived=$((survived + 1))
        continue
    fi
    if grep -q '# SKIP$' "$output"; then
        say ok "SKIP $name, $test $scenario does not run here:$(grep -m 1 SKIP: "$output")"
        skipped=$((skipped + 1))
        continue
    fi
    begin=$(date +%s%N)
    if missed "$name" "$limit" "$test" "$mode" "$scenario"; then
        took=$((($(date +%s%N) - begin) / 1000000))
        say ok "without $name, $test $scenario fails in mode $mode ($took ms)"
        echo "$name $took" >>"$library/times"
        caught=$((caught + 1))
    else
        say "not ok" "nobody misses $name: not $test $scenario in mode $mode"
        tail -n 4 "$output"
        survived=$((survived + 1))
    fi
done < <(rows)
echo "broken: $caught passed, $survived failed, $skipped skipped"
exit $status
