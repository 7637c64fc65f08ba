#!/usr/bin/env bash
# Installs what scripts/pack.sh has packed as a user does who has no clone of this repository:
#
#   scripts/try-install.sh VERSION FOLDER
#
# The cache of modules is empty at the beginning, and there is no workspace. The program is
# installed with go install and prints its version. The library and each adapter are added with go
# get to a new module, which then has the example of that package and nothing else: go test
# compiles it, runs it and compares its output. An adapter is a module below contrib; each needs an
# example_test.go.
set -euo pipefail

(($# == 2)) || { echo "usage: scripts/try-install.sh VERSION FOLDER" >&2; exit 2; }
version=$1
folder=$(cd "$2" && pwd)
tree=$folder/tree
root=$(cd "$tree" && GOWORK=off go list -m)
third=file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)

fail() { printf 'try-install.sh: %s\n' "$*" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
# The path of the cache does not matter to the compiler with -trimpath, so packages that were
# compiled in an earlier run are not compiled again.
export GOWORK=off GOPATH=$work/go GOMODCACHE=$work/go/pkg/mod GOBIN=$work/bin GOFLAGS="-modcacherw -trimpath"
export GOPROXY=file://$folder/proxy,$third GONOSUMDB=$root,$root/*

go install "$root/cmd/redisidem@$version" >"$work/log" 2>&1 || fail "go install: $(tail -n 30 "$work/log")"
bin/redisidem version >version
grep -qE "^redisidem +$version$" version || fail "the installed program prints: $(<version)"
echo "go install $root/cmd/redisidem@$version"

# try adds a package to a new module and runs its example.
try() {
  local module=$1 package=$2 example=$3
  [[ -e $tree/$example ]] || fail "$package has no example: $example"
  mkdir "$work/program"
  cd "$work/program"
  cp "$tree/$example" .
  {
    go mod init example.com/program && go get "$module@$version" && go mod tidy
    go test -count=1 -v .
  } >"$work/log" 2>&1 || fail "the example of $package: $(tail -n 30 "$work/log")"
  grep -q '^--- PASS: Example' "$work/log" || fail "$example has no example that runs"
  cd "$work"
  rm -r "$work/program"
  echo "go get $module@$version"
}

try "$root" "$root/redisidem" redisidem/example_test.go
for dir in "$tree"/contrib/*/; do
  dir=${dir#"$tree/"}
  [[ -e $tree/${dir}go.mod ]] || fail "$dir is not a module"
  try "$root/${dir%/}" "$root/${dir%/}" "${dir}example_test.go"
done
