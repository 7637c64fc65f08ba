#!/usr/bin/env bash
# Runs each fuzz target of the workspace for the given time, by default ten seconds. It prints one
# line for each target: package, name and executions. The last line is the figure for
# docs/reliability.md. The script finds the targets, and ends at the first that fails.
#
#   scripts/fuzz.sh [time [pattern of packages ...]]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

time=${1:-10s}
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
    if ! out=$(cd "$dir" && "$temp/fuzz.test" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$time" \
      -test.fuzzcachedir "$corpus/$package" 2>&1); then
      printf '%s\nFAIL %s %s\n' "$out" "$package" "$target" >&2
      exit 1
    fi
    # On a slow machine the time may be over while the known inputs are still being run.
    executions=$(grep -oE 'execs: [0-9]+|baseline coverage: [1-9][0-9]*/[0-9]+' <<<"$out" | tail -n 1 || true)
    [[ -n $executions ]] || { printf '%s\nFAIL %s %s was not executed\n' "$out" "$package" "$target" >&2; exit 1; }
    printf '%-62s %-22s %s\n' "$package" "$target" "$executions"
    found=$((found + 1))
  done
done <<<"$packages"
((found > 0)) || { echo "there are no fuzz targets" >&2; exit 1; }
echo "figure R16: $found fuzz targets, $time each: 0 failures"
