#!/usr/bin/env bash
# Makes the files of a release that the program prints about itself: the manual page and the
# scripts for shells. The argument is the folder for them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

(($# == 1)) || { echo "usage: scripts/release-files.sh FOLDER" >&2; exit 2; }
mkdir -p "$1"
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
CGO_ENABLED=0 go build -trimpath -o "$temp/redisidem" ./cmd/redisidem
"$temp/redisidem" man | gzip -9n >"$1/redisidem.1.gz"
for shell in bash zsh fish; do
  "$temp/redisidem" completion "$shell" >"$1/redisidem.$shell"
done
