#!/usr/bin/env bash
# Packs every module of the workspace as one version, and prints nothing if all is well:
#
#   scripts/pack.sh VERSION FOLDER
#
# Afterwards FOLDER has:
#   tree   a clone of this repository with the files of the working tree. In it each module
#          requires VERSION of its siblings, with their checksums, and one commit has the tags of
#          all modules;
#   proxy  a GOPROXY with the modules as the go command made them from those tags.
#
# It fails if a go.mod has a replace directive, or if go.mod or go.sum of a module is not tidy.
# Other modules come from the cache of the go command, and from GOPROXY if they are missing there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

(($# == 2)) || { echo "usage: scripts/pack.sh VERSION FOLDER" >&2; exit 2; }
version=$1
[[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] || { echo "pack.sh: $version is not a version such as v0.1.0" >&2; exit 2; }
mkdir -p "$2"
folder=$(cd "$2" && pwd)
tree=$folder/tree proxy=$folder/proxy
[[ ! -e $tree && ! -e $proxy ]] || { echo "pack.sh: $folder has been used before" >&2; exit 2; }

fail() { printf 'pack.sh: %s\n' "$*" >&2; exit 1; }

root=$(GOWORK=off go list -m)
declare -A folders # by module path, relative to the root; empty for the root module
while read -r path dir; do
  dir=${dir#"$PWD"}
  folders[$path]=${dir#/}
done < <(go list -m -f '{{.Path}} {{.Dir}}')

# The files of the working tree, and nothing that git ignores.
git clone -q --no-tags . "$tree"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
  [[ ! -e $file ]] || printf '%s\0' "$file"
done >"$folder/files"
git -C "$tree" rm -rq --ignore-unmatch .
tar -c --null -T "$folder/files" | tar -x -C "$tree"
export GIT_AUTHOR_NAME=redisidem GIT_AUTHOR_EMAIL=redisidem@example.invalid GIT_COMMITTER_NAME=redisidem GIT_COMMITTER_EMAIL=redisidem@example.invalid
third=file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)

cd "$tree"
base=$(git rev-parse HEAD)

# siblings prints the modules of this repository that the go.mod of a module requires.
siblings() { go mod edit -print "$1" | grep -oE "$root(/[a-z/]+)? v" | cut -d ' ' -f 1 || true; }

for path in "${!folders[@]}"; do
  file=./${folders[$path]:+${folders[$path]}/}go.mod
  ! go mod edit -print "$file" | grep -q '^replace' || fail "$file has a replace directive, so go install refuses the module"
  for sibling in $(siblings "$file"); do
    [[ -n ${folders[$sibling]+set} ]] || fail "$file requires $sibling, which is not in go.work"
    go mod edit -require="$sibling@$version" "$file"
    echo "$sibling $path"
  done
  echo "$path $path"
done >"$folder/edges"
for line in $(awk '$1 == "replace" { print $2 "@" $3 }' go.work) $(awk '/^replace \($/,/^\)$/ { if (NF > 2) print $1 "@" $2 }' go.work); do
  go work edit -dropreplace="$line"
done
for path in $(awk '$1 != $2 { print $1 }' "$folder/edges" | sort -u); do
  go work edit -replace="$path@$version=./${folders[$path]}"
done
git add -A
git commit -q --allow-empty -m "Requirements of $version"

# From here on the go command works as one outside of the workspace. Modules of this repository must
# not reach the user's cache, since no such version has been published.
export GOWORK=off GOMODCACHE=$folder/cache GOFLAGS=-modcacherw GONOSUMDB=$root,$root/*
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=url.file://$tree.insteadOf GIT_CONFIG_VALUE_0=https://$root
for path in $(tsort "$folder/edges"); do
  dir=${folders[$path]}
  (cd "./$dir" && GOPROXY=file://$proxy,$third go mod tidy) >"$folder/tidy" 2>&1 || fail "go mod tidy in $path: $(<"$folder/tidy")"
  git diff --unified=0 -- "./${dir:+$dir/}go.mod" "./${dir:+$dir/}go.sum" >"$folder/diff"
  if grep -E '^[-+][^-+]' "$folder/diff" | grep -vE "^\+$root(/[a-z/]+)? $version(/go\.mod)? h1:"; then
    fail "go.mod or go.sum of $path is not tidy"
  fi
  git add -A
  git commit -q --allow-empty -m "Checksums of $path"
  git tag "${dir:+$dir/}$version"
  GOPROXY=direct go mod download "$path@$version" >"$folder/download" 2>&1 || fail "$path cannot be packed: $(<"$folder/download")"
  mkdir -p "$proxy/$path/@v"
  cp "$GOMODCACHE/cache/download/$path/@v/$version".{info,mod,zip} "$proxy/$path/@v/"
  echo "$version" >"$proxy/$path/@v/list"
done

git reset -q --soft "$base"
git commit -q --allow-empty -m "Release $version"
for path in "${!folders[@]}"; do
  dir=${folders[$path]}
  git tag -f "${dir:+$dir/}$version" >/dev/null
done
