#!/usr/bin/env bash
# Runs every fuzz target for a short while, one after the other:
#
#   tools/fuzz.sh [time each, such as 10s]
set -euo pipefail
cd "$(dirname "$0")/.."

each=${1:-10s}
count=0
failed=()
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# fuzz PACKAGE TARGET: an input that fails is printed with the file that keeps
# it. The go command also fails, without an input, where its time runs out while
# it is still making an interesting input smaller: nothing was
# found then, so that, and only that, is no failure of the target. Minimising is
# kept short for the same reason.
fuzz() {
	go test -run '^$' -fuzz "^$2\$" -fuzztime "$each" -fuzzminimizetime 5x "$1" 2>&1 | tee "$log" && return
	grep -q 'Failing input written to\|panic:\|_test.go:[0-9]' "$log" && return 1
	grep -q '^    context deadline exceeded$' "$log"
}

while IFS=: read -r file line; do
	target=${line#func }
	target=${target%%(*}
	printf '%s %s\n' "$(dirname "$file")" "$target"
	fuzz "$(dirname "$file")" "$target" || failed+=("$file $target")
	count=$((count + 1))
done < <(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*\(' . | sort)

if [ "$count" = 0 ]; then
	echo "no fuzz target found: the decoders have some, so the search is broken" >&2
	exit 1
fi
if [ ${#failed[@]} -gt 0 ]; then
	printf 'fuzzing found a failing input: %s\n' "${failed[@]}" >&2
	exit 1
fi
echo "$count fuzz targets, $each each: ok"
