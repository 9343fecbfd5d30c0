#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Removes each safeguard of c-tests/broken.table in its turn, and runs the scenario that must notice: first
# with nothing removed, but with the same delay if there is one, which must pass. A safeguard that nobody
# misses is a hole in the tests, and fails this. What took several tries to notice must pass as often with nothing
# removed. Running out of time alone is no proof on a machine that others
# load: it counts if the same scenario with nothing removed then ends within the same time.
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
        took=$(awk -v row="${name// /} ${test// /} ${scenario// /}" '$1 " " $2 " " $3 == row { t = $4 } END { print t }' \
            "$library/times" 2>/dev/null)
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
in_table=$(rows | cut -d'|' -f1 | tr -d ' ' | sort -u)
differ=$(comm -3 <(echo "$in_source") <(echo "$in_table"))
twice=$(rows | cut -d'|' -f1,3-5 | tr -d ' ' | sort | uniq -d)
if [ -z "$differ$twice" ]; then
    say ok "each safeguard of the source has a row, and each row a safeguard: $(echo "$in_table" | wc -l) in $(rows | wc -l) rows"
else
    say "not ok" "in the source or in $table alone: ${differ//[$'\n\t']/ }; twice there: ${twice//$'\n'/ }"
fi
# The page counts as the table does.
tier() { rows | cut -d'|' -f2 | grep -cw "$1"; }
counts="$(wc -l <<<"$in_table") safeguards in $(rows | wc -l) rows: $(tier quick) quick, $(tier long) long, $(tier model) model"
grep -qF "$counts" docs/BROKEN.md || say "not ok" "docs/BROKEN.md does not say: $counts"
# And no delay stands alone.
alone=$(grep -rhoE 'widen!\("[a-z0-9-]+"' src | grep -oE '"[^"]+"' | tr -d '"' | sort -u |
    comm -23 - <(echo "$in_source"))
[ -z "$alone" ] || say "not ok" "delays without a safeguard: $alone"
# A release has nothing of it; the libraries that are tested here do. What code compares with is a name's number
# (id() of src/broken.rs), as the processor's code has it: its lowest byte first.
numbers() {
    local name hash i byte hex
    for name in $in_source; do
        hash=$((0xcbf29ce484222325))
        for ((i = 0; i < ${#name}; i++)); do
            printf -v byte %d "'${name:i:1}"
            hash=$(((hash ^ byte) * 0x100000001b3))
        done
        printf -v hex %016x $((hash | 2))
        for ((i = 14; i >= 0; i -= 2)); do printf %s "${hex:i:2}"; done
        echo
    done
}
all_numbers=$(numbers)
numbers_in() { # shared library
    objcopy -O binary --only-section=.text "$1" "$output" && od -An -v -tx1 "$output" | tr -d ' \n' |
        grep -oF "$all_numbers" | sort -u
}
for file in "$build"/librcu_notrace.{a,so} "$build"/portable/librcu_notrace.{a,so}; do
    if grep -q RCU_NOTRACE_BROKEN "$file" || { [[ $file = *.so ]] && [ -n "$(numbers_in "$file")" ]; }; then
        say "not ok" "$file is no release"
    fi
done
# Each reader has safeguards that the other has not.
for file in "$library" "$library/portable"; do
    grep -q RCU_NOTRACE_BROKEN "$file/librcu_notrace.so.0" || say "not ok" "nothing can be removed from $file"
done
found=$(for file in "$library" "$library/portable"; do numbers_in "$file/librcu_notrace.so.0"; done | sort -u | wc -l)
if [ "$found" = "$(wc -l <<<"$in_source")" ]; then
    say ok "the breakable libraries' code asks for each of the $found, a release's for none"
else
    say "not ok" "the breakable libraries' code asks for $found safeguards"
fi

# Runs a scenario with the breakable library, and what else is to be in its environment.
run() { # limit, test, mode, scenario, assignment
    local directory=$library mode=${3%-*}
    [ "${2%.portable}" = "$2" ] || directory+=/portable
    env LD_LIBRARY_PATH="$directory" RCU_NOTRACE_IPI="$mode" SCENARIO_SECONDS="$1" "${@:5}" \
        timeout $(($1 + 10)) "$build/c-tests/$2" "$4" >"$output" 2>&1
    ended=$?
    return $ended
}

# Nothing removed, but for what hides the loss, and the same delay.
control() { # name, limit, test, mode, scenario
    run "$2" "$3" "$4" "$5" RCU_NOTRACE_WIDEN="$1" RCU_NOTRACE_BROKEN="$second"
}

# The scenario's time was over, its process's or that of one of its own: by SIGALRM, or killed a little later.
is_out_of_time() {
    [ $ended = 124 ] || grep -qE 'ended by signal (14|9)\b|status 0x0*[e9]\b' "$output"
}

missed() { # name, limit, test, mode, scenario
    local try begin
    begin=$(date +%s%N)
    for try in 1 2 3 4 5; do
        if run "$2" "$3" "$4" "$5" RCU_NOTRACE_BROKEN="$1${second:+,$second}"; then continue; fi
        took=$((($(date +%s%N) - begin) / 1000000))
        if is_out_of_time && ! control "$@"; then continue; fi
        # What fails one time in some without anything removed has noticed nothing: as many must pass.
        while ((--try)); do control "$@" || return 1; done
        return 0
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
    if ! control "$name" 60 "$test" "$mode" "$scenario"; then
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
    # Where one of several runs here, that must notice.
    if ! grep '^ok' "$output" | grep -qv '# SKIP$'; then
        say ok "SKIP $name, $test $scenario does not run here:$(grep -m 1 SKIP: "$output")"
        skipped=$((skipped + 1))
        continue
    fi
    if missed "$name" "$limit" "$test" "$mode" "$scenario"; then
        say ok "without $name, $test $scenario fails in mode $mode ($took ms)"
        echo "$name $test $scenario $took" >>"$library/times"
        caught=$((caught + 1))
    else
        say "not ok" "nobody misses $name: not $test $scenario in mode $mode"
        tail -n 4 "$output"
        survived=$((survived + 1))
    fi
done < <(rows)
echo "broken: $caught passed, $survived failed, $skipped skipped"
exit $status
