#!/usr/bin/env bash
# Runs each fuzz target of the workspace with the given number of inputs, by default 10,000. It
# prints one line for each target: package, name and executions. The last line is the figure for
# docs/reliability.md. The script finds the targets, and ends at the first that fails.
#
#   scripts/fuzz.sh [inputs [pattern of packages ...]]
#
# The budget is a number and not a time: Go 1.26 may report the end of a time as the failure
# "context deadline exceeded" of the target (https://go.dev/issue/75804). An interesting input is
# shortened by a number of executions, too, since that lasts up to a minute by default.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

inputs=${1:-10000}
[[ $inputs =~ ^[1-9][0-9]*$ ]] || { echo "fuzz.sh: the number of inputs must be 1 or more: $inputs" >&2; exit 2; }
shift || true
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
corpus=$(go env GOCACHE)/fuzz
# Lists are read by $(...): if a command in <(...) failed, the script would continue with half a
# list.
packages=$(go list -f '{{.ImportPath}} {{.Dir}}' "${@:-work}")
found=0
while read -r package dir; do
  grep -qs '^func Fuzz' "$dir"/*_test.go || continue
  # The binary is linked once for all targets of the package.
  if ! out=$(go test -c -fuzz . -o "$temp/fuzz.test" "$package" 2>&1); then
    printf '%s\nFAIL %s has tests that do not compile\n' "$out" "$package" >&2
    exit 1
  fi
  targets=$(cd "$dir" && "$temp/fuzz.test" -test.list '^Fuzz' | grep '^Fuzz') ||
    { echo "FAIL $package declares fuzz targets and lists none" >&2; exit 1; }
  for target in $targets; do
    if ! out=$(cd "$dir" && "$temp/fuzz.test" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "${inputs}x" \
      -test.fuzzminimizetime 100x -test.fuzzcachedir "$corpus/$package" 2>&1); then
      printf '%s\nFAIL %s %s\n' "$out" "$package" "$target" >&2
      exit 1
    fi
    # The inputs that earlier runs kept are run first, and count. A small number ends among them.
    executions=$(grep -oE 'execs: [1-9][0-9]*|baseline coverage: [1-9][0-9]*/[0-9]+' <<<"$out" | tail -n 1 || true)
    [[ -n $executions ]] || { printf '%s\nFAIL %s %s was not executed\n' "$out" "$package" "$target" >&2; exit 1; }
    printf '%-62s %-22s %s\n' "$package" "$target" "$executions"
    found=$((found + 1))
  done
done <<<"$packages"
((found > 0)) || { echo "there are no fuzz targets" >&2; exit 1; }
echo "figure R16: $found fuzz targets, $inputs inputs each: 0 failures"
