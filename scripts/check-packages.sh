#!/usr/bin/env bash
# Checks that the packages in a folder install the scripts for shells, the manual page and the unit
# where programs look for them, and nothing else but the files below. It needs dpkg-deb.
set -euo pipefail

(($# == 1)) || { echo "usage: scripts/check-packages.sh FOLDER" >&2; exit 2; }
wanted="/etc/redisidem/environment
/etc/redisidem/gateway.yaml
/usr/bin/redisidem
/usr/lib/systemd/system/redisidem-gateway.service
/usr/share/bash-completion/completions/redisidem
/usr/share/doc/redisidem/copyright
/usr/share/fish/vendor_completions.d/redisidem.fish
/usr/share/man/man1/redisidem.1.gz
/usr/share/redisidem/redis.conf
/usr/share/redisidem/users.acl
/usr/share/zsh/vendor-completions/_redisidem"
shopt -s nullglob
debs=("$1"/*.deb)
rpms=("$1"/*.rpm)
((${#debs[@]} > 0 && ${#rpms[@]} > 0)) || { echo "$1 has no packages of both kinds" >&2; exit 1; }
for deb in "${debs[@]}"; do
  diff <(echo "$wanted") <(dpkg-deb --contents "$deb" | awk '$1 !~ /^d/ { print substr($6, 2) }' | sort) ||
    { echo "$deb does not install what it should (<)" >&2; exit 1; }
  folder=$(mktemp -d)
  dpkg-deb --extract "$deb" "$folder"
  script=$(head -n 1 "$folder/usr/share/zsh/vendor-completions/_redisidem")
  rm -rf "$folder"
  [[ $script == "#compdef redisidem" ]] || { echo "$deb: zsh does not see what _redisidem is for: $script" >&2; exit 1; }
done
for rpm in "${rpms[@]}"; do
  for name in _redisidem /usr/share/zsh/site-functions/; do # in the header, which is not compressed
    grep -aq "$name" "$rpm" || { echo "$rpm does not have $name" >&2; exit 1; }
  done
done
