#!/bin/sh
# Plays the walkthrough of README.md against a running example, and fails at an answer that differs
# from the README.
#
#   go run ./examples/gateway &      then      examples/gateway/walkthrough.sh
set -eu

url=${1:-http://127.0.0.1:8080}
admin=${2:-http://127.0.0.1:8081}
key=story-$$
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
	echo "walkthrough: $*" >&2
	exit 1
}

# charge NAME ARGUMENTS... sends the request, prints the answer, and keeps it under that name.
charge() {
	name=$1
	shift
	curl -sS -D "$work/$name.head" -o "$work/$name.body" -X POST "$url/charges" "$@"
	tr -d '\r' <"$work/$name.head" | grep -iE '^(HTTP|Idempotency-|Retry-After)'
	cat "$work/$name.body"
	echo
}

# want NAME STATUS checks the status of an answer.
want() {
	head -n 1 "$work/$1.head" | grep -q " $2" || fail "$1 is not answered with $2"
}

# serving waits until the gateway serves.
serving() {
	i=0
	until curl -s -o "$work/health" "$admin/livez"; do
		i=$((i + 1))
		[ "$i" -lt 300 ] || fail "nothing answers at $admin: start it first, with: go run ./examples/gateway"
		sleep 0.1
	done
}

serving

echo "== The client's request"
charge first -H "Idempotency-Key: $key" -H "X-Tenant: acme" -d cents=1200
want first 201

echo "== Its retry, after a lost answer: the same bytes, no second charge"
charge retry -H "Idempotency-Key: $key" -H "X-Tenant: acme" -d cents=1200
want retry 201
cmp "$work/first.body" "$work/retry.body" || fail "the retry got other bytes"
grep -qi '^Idempotency-Replayed: true' "$work/retry.head" || fail "the retry is not a replay"

echo "== The same key for something else"
charge other -H "Idempotency-Key: $key" -H "X-Tenant: acme" -d cents=9900
want other 422

echo "== Another tenant with the same key: another charge"
charge tenant -H "Idempotency-Key: $key" -H "X-Tenant: globex" -d cents=1200
want tenant 201
cmp -s "$work/first.body" "$work/tenant.body" && fail "another tenant got the first one's answer"

echo "== A request without a tenant"
charge unknown -H "Idempotency-Key: $key" -d cents=1200
want unknown 401

echo "== A retry while the first request is under way"
curl -sS -o "$work/slow" -X POST "$url/charges" -H "Idempotency-Key: $key-2" -H "X-Tenant: acme" -d cents=1200 &
slow=$!
sleep 0.5
charge early -H "Idempotency-Key: $key-2" -H "X-Tenant: acme" -d cents=1200
want early 409
wait "$slow"

echo "== A gateway that is killed while it waits for the shop"
curl -sS -o "$work/killed" -X POST "$url/charges" -H "Idempotency-Key: $key-3" -H "X-Tenant: acme" -d cents=1200 &
lost=$!
sleep 0.5
kill -9 "$(cat "${TMPDIR:-/tmp}/redisidem-gateway.pid")"
wait "$lost" && fail "the gateway that was killed has answered"
serving
charge locked -H "Idempotency-Key: $key-3" -H "X-Tenant: acme" -d cents=1200
want locked 409

echo "== Its retry, once the lease is over: the shop may have charged, so it is not sent again"
i=0
until charge again -H "Idempotency-Key: $key-3" -H "X-Tenant: acme" -d cents=1200 >"$work/again"; ! grep -q ' 409' "$work/again.head"; do
	i=$((i + 1))
	[ "$i" -lt 60 ] || fail "the key stays locked"
	sleep 1
done
cat "$work/again"
want again 503
grep -q "outcome-unknown" "$work/again.body" || fail "the problem has another type"

echo "All answers are as they should be."
