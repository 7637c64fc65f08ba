#!/bin/sh
# Fetches Redis 8.0 and Valkey 8.1 to run the tests on, without installing anything: the packages of
# Debian 13 (trixie) are unpacked into one folder, with the libraries they need and the loader for
# those, so they run on an older Debian.
#
#   scripts/fetch-servers.sh [folder]      default folder: .servers
#
# Prints one line for each server. Put it before a test command, and the tests use that server. A
# server that was fetched before is not fetched again. It needs Debian: the packages come from the
# machine's own source.
set -eu

suite=trixie
packages="redis-server redis-tools valkey-server valkey-tools
	libc6 libssl3t64 libsystemd0 libjemalloc2 liblua5.1-0 liblzf1 libhiredis1.1.0 libatomic1 libstdc++6 libgcc-s1 libcap2
	libzstd1 zlib1g"

fail() {
	echo "fetch-servers: $*" >&2
	exit 1
}

# works reports whether a server can be run.
works() {
	[ -x "$1" ] && "$1" --version >/dev/null 2>&1
}

# report prints how to use the servers.
report() {
	for server in redis8 valkey8; do
		works "$folder/$server" || fail "$folder/$server does not run"
		echo "REDISIDEM_SERVER=$folder/$server"
	done
}

# sources writes this machine's own Debian source, for the other suite. Apt has two formats for
# sources. Both are searched for the entry of exactly this machine's release, which leaves out
# updates, backports and other vendors.
sources() {
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ -f "$file" ] || continue
		awk -v old="$codename" -v new="$suite" '
			$1 == "deb" { for (i = 2; i <= NF; i++) if ($i == old) { $i = new; print; next } }' "$file" >>"$work/apt/debian.list"
	done
	for file in /etc/apt/sources.list.d/*.sources; do
		[ -f "$file" ] || continue
		awk -v old="$codename" -v new="$suite" '
			function flush() { if (ours) printf "%s\n", stanza; stanza = ""; ours = 0 }
			/^[ \t]*$/ { flush(); next }
			/^#/ { next }
			tolower($1) == "suites:" {
				for (i = 2; i <= NF; i++) if ($i == old) ours = 1
				$0 = "Suites: " new
			}
			{ stanza = stanza $0 "\n" }
			END { flush() }' "$file" >>"$work/apt/parts/debian.sources"
	done
}

# private_apt runs apt-get with its own state, so that the machine's state is neither used nor
# changed.
private_apt() {
	DEBIAN_FRONTEND=noninteractive apt-get -q \
		-o Dir::Etc::sourcelist="$work/apt/debian.list" -o Dir::Etc::sourceparts="$work/apt/parts" \
		-o Dir::State::lists="$work/apt/lists" -o Dir::State::status=/dev/null -o Dir::Cache="$work/apt/cache" \
		-o APT::Sandbox::User="$(id -un)" "$@"
}

folder=${1:-.servers}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if works "$folder/redis8" && works "$folder/valkey8"; then
	report
	exit
fi

for tool in apt-get dpkg awk; do
	command -v "$tool" >/dev/null || fail "$tool not found; this needs a Debian machine"
done
codename=$(. /etc/os-release && [ "$ID" = debian ] && echo "${VERSION_CODENAME:-}") || codename=
[ -n "$codename" ] || fail "this needs a Debian machine"

work=$(mktemp -d "$folder/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/apt/parts" "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$work/packages" "$work/root"
: >"$work/apt/debian.list"
sources
cat "$work"/apt/debian.list "$work"/apt/parts/* 2>/dev/null | grep -q "$suite" || fail "no apt source for $codename on this machine"

private_apt update >&2
# shellcheck disable=SC2086 # a list of words
(cd "$work/packages" && private_apt download $packages >&2)
for package in "$work"/packages/*.deb; do
	dpkg -x "$package" "$work/root"
done

rm -rf "$folder/root"
mv "$work/root" "$folder/root"
loader=$(ls "$folder"/root/usr/lib/*/ld-linux-*.so.* | head -n 1)
for server in redis8:redis-server valkey8:valkey-server; do
	program=${server#*:}
	# exec: a test pauses and kills the process that it started, which must be the server itself.
	cat >"$folder/${server%:*}" <<-END
		#!/bin/sh
		exec '$loader' --library-path '${loader%/*}' --argv0 $program '$folder/root/usr/bin/$program' "\$@"
	END
	chmod +x "$folder/${server%:*}"
done
report
