#!/usr/bin/env bash
# Builds the program twice, from two clones of the present commit in different folders, and fails
# unless both are the same bytes. The second build takes nothing from the cache of the first one
# except modules. Its argument is a platform, by default that of the machine: linux/arm64.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

platform=${1:-$(go env GOOS)/$(go env GOARCH)}
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT

# build clones the repository into a folder and builds it there.
build() {
  git clone -q . "$temp/$1"
  (cd "$temp/$1" && CGO_ENABLED=0 GOOS=${platform%/*} GOARCH=${platform#*/} \
    go build -trimpath -buildvcs=true -ldflags "-s -w -X main.release=v0.0.0" -o "$temp/program-$1" ./cmd/redisidem)
}

build one
GOCACHE=$temp/cache build two
sha256sum "$temp/program-one" "$temp/program-two"
cmp "$temp/program-one" "$temp/program-two"
