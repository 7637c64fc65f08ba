#!/usr/bin/env bash
# Builds the site of the documentation with Hugo and checks its links. Its argument is the folder of
# the site, by default build/site; the folder is replaced. Open its index.html: the site needs no
# server. $HUGO is the program, by default hugo.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

hugo=${HUGO:-hugo}
folder=$(realpath -m "${1:-build/site}")
command -v "$hugo" >/dev/null || { echo "site.sh: $hugo is missing; CONTRIBUTING.md has the command that installs it" >&2; exit 1; }
if [[ -e $folder && ! -e $folder/index.html ]]; then
  echo "site.sh: $folder is not the folder of a site" >&2
  exit 1
fi

temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
rm -rf "$folder"
HUGO_RESOURCEDIR=$temp/resources HUGO_CACHEDIR=$temp/cache \
  "$hugo" build --config docs/site/hugo.yaml --destination "$folder" --noBuildLock --panicOnWarning --quiet
go run ./test/internal/site "$folder"
