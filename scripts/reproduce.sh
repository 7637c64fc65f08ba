#!/usr/bin/env bash
# Builds the files of a release twice, from two clones of the present commit in different folders,
# and fails unless both are the same bytes: archives with their programs, packages and bills of
# materials. The second build takes nothing from the cache of the first one except modules, and is
# in another time zone. The argument is a platform such as linux/arm64, by default all of the
# release. scripts/snapshot.sh says which programs it needs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT

scripts/snapshot.sh "$temp/one" "$@"
GOCACHE=$temp/cache TZ=Asia/Tokyo scripts/snapshot.sh "$temp/another/folder" "$@"
cat "$temp/one/dist/checksums.txt"
diff "$temp/one/dist/checksums.txt" "$temp/another/folder/dist/checksums.txt"
echo "both builds are equal"
