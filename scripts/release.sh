#!/usr/bin/env bash
# Releases all modules of the workspace under one version:
#
#   scripts/release.sh [--dry-run] VERSION
#
# It packs the modules, which sets the requirements of each on its siblings, and installs them as a
# user does. Then it makes the branch release-VERSION with one commit, and the tags of all modules
# on that commit: VERSION for the root module, and FOLDER/VERSION for each other one. It pushes
# nothing. With --dry-run it makes neither branch nor tags.
#
# Uncommitted changes are errors, and so is a CHANGELOG.md without a section for the version.
# Without --dry-run, the section needs the day of the release.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dry=
if [[ ${1-} == --dry-run ]]; then
  dry=1
  shift
fi
(($# == 1)) || { echo "usage: scripts/release.sh [--dry-run] VERSION" >&2; exit 2; }
version=$1

fail() { printf 'release.sh: %s\n' "$*" >&2; exit 1; }

[[ -z $(git status --porcelain) ]] || fail "there are uncommitted changes"
section=$(grep -F "## [${version#v}]" CHANGELOG.md) || fail "CHANGELOG.md has no section [${version#v}]"
[[ -n $dry || $section =~ ^'## ['[^]]+'] - '[0-9]{4}-[0-9]{2}-[0-9]{2}$ ]] || fail "the section of CHANGELOG.md has no date: $section"
[[ -z $(git tag -l "$version" "*/$version") ]] || fail "$version has tags already: $(git tag -l "$version" "*/$version" | paste -sd ' ')"

temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
scripts/pack.sh "$version" "$temp"
scripts/try-install.sh "$version" "$temp"
git -C "$temp/tree" log -1 --format='%s' --stat
git -C "$temp/tree" tag

if [[ -n $dry ]]; then
  echo "dry run: no branch and no tags were made"
  exit
fi
git fetch -q "$temp/tree" "HEAD:refs/heads/release-$version" "refs/tags/$version:refs/tags/$version" "refs/tags/*/$version:refs/tags/*/$version"
cat <<END
Made the branch release-$version and its tags. Publish the branch and the modules in folders:
  git push --atomic origin release-$version $(git tag -l "*/$version" | paste -sd ' ')
When the workflow "test" is green on the branch, publish the tag that starts the workflow "release". It
must be alone: GitHub starts nothing for more than three tags in one push.
  git push origin $version
END
