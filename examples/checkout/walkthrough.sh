#!/bin/sh
# Plays the story of README.md: a payment provider, and two shops behind one Redis. It starts all of them, prints each answer, and fails
# when one is another than it should be.
#
#   examples/checkout/walkthrough.sh      from the root of the repository; needs go, curl, and redis-server if REDIS_URL is not set
set -eu

work=$(mktemp -d)
pids=
cleanup() {
	for pid in $pids; do
		kill "$pid" 2>/dev/null || true
	done
	for pid in $pids; do
		wait "$pid" 2>/dev/null || true
	done
	rm -rf "$work"
}
trap cleanup EXIT

fail() {
	echo "walkthrough: $*" >&2
	cat "$work"/*.log >&2
	exit 1
}

# up waits until something answers on a port.
up() {
	i=0
	until curl -s -o "$work/up" "http://127.0.0.1:$1/"; do
		i=$((i + 1))
		[ "$i" -lt 200 ] || fail "nothing answers on port $1"
		sleep 0.1
	done
}

go build -o "$work/checkout" ./examples/checkout

base=$((20000 + $$ % 10000))
if [ -z "${REDIS_URL:-}" ]; then
	redis-server --port "$base" --bind 127.0.0.1 --save '' --dir "$work" >"$work/redis.log" 2>&1 &
	pids="$pids $!"
	export REDIS_URL="redis://127.0.0.1:$base"
fi
provider=http://127.0.0.1:$((base + 1))
"$work/checkout" -only-provider -listen "127.0.0.1:$((base + 1))" -data "$work" >"$work/provider.log" 2>&1 &
pids="$pids $!"

# shop NUMBER starts a shop.
shop() {
	"$work/checkout" -listen "127.0.0.1:$((base + 1 + $1))" -provider "$provider" -data "$work" >>"$work/shop$1.log" 2>&1 &
	pids="$pids $!"
}
one=http://127.0.0.1:$((base + 2))
two=http://127.0.0.1:$((base + 3))
up $((base + 1))
shop 1
up $((base + 2))
shop 2
up $((base + 3))

# fill TOKEN VARIANT makes a cart with something in it, to be paid for with that token.
fill() {
	cart=$(curl -sS -X POST "$one/store/carts" | sed 's/.*"id":"\([^"]*\)".*/\1/')
	curl -sS -o "$work/out" -X POST "$one/store/carts/$cart/line-items" -d "{\"variant_id\": \"$2\", \"quantity\": 1}"
	curl -sS -o "$work/out" -X POST "$one/store/carts/$cart/payment-sessions" -d "{\"token\": \"$1\"}"
}

# complete NAME SHOP asks a shop to complete the cart, prints the answer, and keeps it under that name.
complete() {
	curl -sS -D "$work/$1.head" -o "$work/$1.body" -X POST "$2/store/carts/$cart/complete" -H "Idempotency-Key: $key" || return 1
	tr -d '\r' <"$work/$1.head" | grep -E '^(HTTP|Idempotency-|Retry-After)'
	cat "$work/$1.body"
	echo
}

# want NAME STATUS TEXT checks an answer.
want() {
	head -n 1 "$work/$1.head" | grep -q " $2" || fail "$1 is not answered with $2"
	grep -q "$3" "$work/$1.body" || fail "$1 has no $3"
}

# charged TIMES RETURNED checks what the provider knows of the cart.
charged() {
	got=$(curl -sS "$provider/charges/$cart")
	echo "the provider: $got"
	[ "$got" = "{\"charged\":$1,\"voided\":$2}" ] || fail "charged is $got"
}

# eventually NAME SHOP STATUS asks until the answer is that, for a lease at most.
eventually() {
	i=0
	until complete "$1" "$2" >"$work/shown" && head -n 1 "$work/$1.head" | grep -q " $3"; do
		i=$((i + 1))
		[ "$i" -lt 100 ] || fail "$1 is not answered with $3"
		sleep 0.1
	done
	cat "$work/shown"
}

echo "== A cart is completed, and completed again through the other shop: the same bytes"
fill pm_ok book
key=first
complete first "$one"
want first 200 '"type":"order"'
complete again "$two"
cmp "$work/first.body" "$work/again.body" || fail "the retry got other bytes"
grep -qi '^Idempotency-Replayed: true' "$work/again.head" || fail "the retry is no replay"
charged 1 0

echo "== A shop dies (kill -9) after the charge: the other one completes the cart without a second charge"
fill pm_crash_after_charge book
key=crash
complete crash "$one" || echo "no answer: the shop has died"
eventually resumed "$two" 200
want resumed 200 '"type":"order"'
charged 1 0
shop 1
up $((base + 2))

echo "== The same, and the client never comes back: the completer of the other shop does it"
fill pm_crash_after_charge lamp
key=abandoned
complete abandoned "$one" || echo "no answer: the shop has died"
i=0
until curl -sS "$two/store/carts/$cart/counts" | grep -q '"orders":1'; do
	i=$((i + 1))
	[ "$i" -lt 200 ] || fail "nobody completes the cart"
	sleep 0.1
done
echo "completed after the client had gone"
charged 1 0
shop 1
up $((base + 2))

echo "== 3-D Secure: the customer has to confirm, and then the same key goes on"
fill pm_3ds book
key=secure
complete asked "$one"
want asked 200 requires_more
complete asked_again "$two"
want asked_again 200 requires_more
payment=$(sed 's/.*"payment_id":"\([^"]*\)".*/\1/' "$work/asked.body")
curl -sS -o "$work/out" -X POST "$provider/payments/$payment/confirm"
complete confirmed "$two"
want confirmed 200 '"type":"order"'
charged 1 0

echo "== The provider charges and does not answer: it is asked what became of it"
fill pm_timeout_after_charge book
key=silent
complete silent "$one"
want silent 200 '"type":"order"'
charged 1 0

echo "== The card is declined: the tax lines are taken back, and the answer stays"
fill pm_decline book
key=declined
complete declined "$one"
want declined 402 payment_declined
complete declined_again "$two"
cmp "$work/declined.body" "$work/declined_again.body" || fail "the retry got other bytes"
charged 0 0
curl -sS "$one/store/carts/$cart/counts" | grep -q '"tax_lines":0' || fail "the tax lines are still there"

echo "== Sold out after the payment: the payment is voided, too"
fill pm_ok unicorn
key=soldout
complete soldout "$one"
want soldout 409 insufficient_inventory
charged 1 1

echo "All answers are as they should be."
