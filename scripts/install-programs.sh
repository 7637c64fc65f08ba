#!/usr/bin/env bash
# Installs the Debian packages of the programs that the checks and the proof run, as far as they are
# missing. It needs Debian, and root or sudo if something is missing.
set -euo pipefail

# program=package
programs=(redis-server=redis-server redis-cli=redis-tools spin=spin gcc=gcc chromium=chromium node=nodejs npm=npm
  curl=curl make=make promtool=prometheus valgrind=valgrind groff=groff-base zsh=zsh systemd-analyze=systemd
  pg_ctlcluster=postgresql mariadbd=mariadb-server nats-server=nats-server)

PATH=$PATH:/usr/sbin:/sbin # of servers, also for users other than root
missing=()
for pair in "${programs[@]}"; do
  command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
done
if ((${#missing[@]} == 0)); then
  exit
fi
root=()
if ((EUID != 0)); then
  root=(sudo)
fi
"${root[@]}" apt-get update -qq
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
