#!/usr/bin/env bash
# Builds the files of a release of the present commit, without signatures: archives, packages, bills
# of materials and checksums. The first argument is a new folder, which gets a clone of the
# repository, with the files below dist. The second one is a platform such as linux/arm64, by
# default all of the release.
#
# It needs goreleaser and cyclonedx-gomod; .github/workflows/release.yml has their versions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

(($# == 1 || $# == 2)) || { echo "usage: scripts/snapshot.sh FOLDER [PLATFORM]" >&2; exit 2; }
git clone -q . "$1"
cd "$1"
config=.goreleaser.yaml
if (($# == 2)); then
  config=build/goreleaser.yaml # git ignores the folder, so the program does not say that the tree was changed
  mkdir build
  sed -e "s/^    goos: .*/    goos: [${2%/*}]/" -e "s/^    goarch: .*/    goarch: [${2#*/}]/" .goreleaser.yaml >"$config"
fi
log=$(goreleaser release --snapshot --clean --skip=sign --config "$config" 2>&1) || { echo "$log" >&2; exit 1; }
