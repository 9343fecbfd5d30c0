#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs rcutorture in parts and prints what each did, as a table.
#   run.sh DIRECTORY quick|long
set -u
directory=$1
# name | build | seconds | options
everything="--type both"
full_speed="--plain --readers 0 --idle 0 --fakewriters 0 --bulk 1 --writers 0 --updaters 1 --type notrace"
many_sections="--plain --readers 0 --idle 2 --fakewriters 0 --bulk 2 --writers 1 --type both"
idle_readers="--plain --readers 0 --idle 4 --fakewriters 0 --bulk 0 --writers 0 --updaters 1 --type both"
quick="
all modes               |shared  |10|--mode random $everything
all modes               |portable|7 |--mode random $everything
all modes               |static  |5 |--mode random --type notrace --no-stalls
full speed, auto        |shared  |2 |--mode auto $full_speed
full speed, membarrier  |portable|2 |--mode membarrier $full_speed
full speed, signal      |shared  |2 |--mode signal $full_speed
idle readers, random    |static  |2 |--mode random $idle_readers
"
long="
auto                    |shared  |90|--mode auto $everything
signal                  |shared  |90|--mode signal $everything
membarrier              |shared  |90|--mode membarrier $everything
all modes               |shared  |90|--mode random $everything
all modes               |portable|60|--mode random $everything
all modes               |static  |40|--mode random $everything
notrace alone           |shared  |30|--mode random --type notrace
trace alone             |shared  |30|--mode random --type trace
many sections, auto     |shared  |20|--mode auto $many_sections
many sections, random   |static  |20|--mode random $many_sections
full speed, auto        |shared  |15|--mode auto $full_speed
full speed, signal      |shared  |15|--mode signal $full_speed
full speed, membarrier  |shared  |15|--mode membarrier $full_speed
full speed, random      |portable|15|--mode random $full_speed
idle readers, auto      |shared  |10|--mode auto $idle_readers
idle readers, signal    |shared  |10|--mode signal $idle_readers
idle readers, membarrier|shared  |10|--mode membarrier $idle_readers
"
case ${2-} in
quick) parts=$quick need_sections=0 need_grace_periods=0 ;;
long) parts=$long need_sections=10000000000 need_grace_periods=10000000 ;;
*)
    echo "usage: run.sh DIRECTORY quick|long" >&2
    exit 2
    ;;
esac

output=$(mktemp)
trap 'rm -f "$output"' EXIT
columns="sections grace-periods holdouts ipis rescues callbacks forks threads signals"
table=""
failed=0
declare -A sum
for column in $columns; do sum[$column]=0; done

while IFS='|' read -r name build seconds options; do
    [ -n "$name" ] || continue
    seconds=$((seconds))
    # shellcheck disable=SC2086
    timeout -k 10 $((seconds + 240)) "$directory/rcutorture.${build// /}" --seconds $seconds --stats 100000 \
        $options >"$output" 2>&1
    status=$?
    grep -a 'SKIP:' "$output"
    verdict=ok
    if [ $status -ne 0 ]; then
        cat "$output"
        verdict="not ok"
        failed=$((failed + 1))
    fi
    total=$(grep -a '^rcu-torture: total:' "$output" | tail -n 1)
    row="$verdict|${name%"${name##*[! ]}"}, ${build// /}"
    for column in $columns; do
        value=$(sed -n "s/.* $column \([0-9]*\).*/\1/p" <<<"$total")
        value=${value:-0}
        sum[$column]=$((${sum[$column]} + value))
        row+="|$value"
    done
    echo "$verdict torture: ${name%"${name##*[! ]}"}, ${build// /}, $seconds s:${total#rcu-torture: total:}"
    table+="$row"$'\n'
done <<<"$parts"

row=" |total"
for column in $columns; do row+="|${sum[$column]}"; done
echo " |part|${columns// /|}"$'\n'"$table$row" | awk -F '|' 'NF {
    printf "%-6s %-32s", $1, $2
    for (i = 3; i <= NF; i++) printf " %*s", i == 3 ? 12 : i == 4 ? 13 : 9, $i
    print ""
}'
if [ "${sum[sections]}" -lt $need_sections ] || [ "${sum[grace-periods]}" -lt $need_grace_periods ]; then
    echo "not ok torture: less than $need_sections sections or $need_grace_periods grace periods"
    failed=$((failed + 1))
fi
echo "torture: $failed failed"
[ $failed = 0 ]
