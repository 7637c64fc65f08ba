#!/bin/sh
# Plays the walkthrough of README.md: a payment provider, and two shops behind one Redis. It starts
# all of them, prints each command and its answer, and fails at a wrong answer. It ends every
# process that it has started.
#
#   examples/checkout/walkthrough.sh
#
# It needs go and curl, and a Redis that both shops can reach: that of REDIS_URL, or else its own
# redis-server on a free port of the loopback interface. For the second, redis-server and redis-cli
# must be installed. The shops' tables are in the PostgreSQL of DATABASE_URL, or else in SQLite.
set -eu
cd "$(dirname "$0")"

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
trap 'exit 1' INT TERM HUP

fail() {
	echo "walkthrough: $*" >&2
	find "$work" -name '*.log' -exec cat {} + >&2
	exit 1
}

# start_redis starts a server on a free port, and sets REDIS_URL. Another process may have the port:
# only the answer of this server counts.
start_redis() {
	command -v redis-server >"$work/path" && command -v redis-cli >"$work/path" || fail "install redis-server, or set REDIS_URL"
	try=0
	while [ "$try" -lt 20 ]; do
		port=$((20000 + ($$ + 617 * try) % 12000))
		redis-server --port "$port" --bind 127.0.0.1 --save '' --dir "$work" >"$work/redis.log" 2>&1 &
		redis=$!
		i=0
		while [ "$i" -lt 50 ] && kill -0 "$redis" 2>/dev/null; do
			if redis-cli -p "$port" info server 2>/dev/null | tr -d '\r' | grep -qx "process_id:$redis"; then
				pids="$pids $redis"
				export REDIS_URL="redis://127.0.0.1:$port"
				return
			fi
			i=$((i + 1))
			sleep 0.1
		done
		kill "$redis" 2>/dev/null || true
		wait "$redis" 2>/dev/null || true
		try=$((try + 1))
	done
	fail "no redis-server could be started"
}

# start NAME ARGUMENTS... starts the program on a port that is free, waits until it serves, and sets
# pid and url.
start() {
	name=$1
	shift
	: >"$work/$name.log"
	"$work/checkout" -listen 127.0.0.1:0 -data "$work" "$@" >>"$work/$name.log" 2>&1 &
	pid=$!
	pids="$pids $pid"
	i=0
	until url=$(sed -n 's/^Serving the .* on //p' "$work/$name.log") && [ -n "$url" ]; do
		kill -0 "$pid" 2>/dev/null && [ "$i" -lt 300 ] || fail "the $name does not serve"
		i=$((i + 1))
		sleep 0.1
	done
}

# without PID takes a process that has ended from the list.
without() {
	left=
	for pid in $pids; do
		[ "$pid" = "$1" ] || left="$left $pid"
	done
	pids=$left
}

# start_one starts the first shop, which dies more than once.
start_one() {
	start "first shop" -provider "$provider"
	one=$url one_pid=$pid
}

# post NAME ARGUMENTS prints a curl command, runs it, prints the answer's first line, the header
# fields that matter here and its body, and keeps it all under that name. The arguments are shell
# text, so that what is printed is what one would type.
post() {
	echo "\$ curl -i -X POST $2"
	status=0
	answer "$@" >"$work/shown" 2>&1 || status=1
	cat "$work/shown"
	return "$status"
}

# settled is post for a key that a completer may be about to finish: it asks again until it has.
settled() {
	echo "\$ curl -i -X POST $2"
	final "$1" 410 "$2"
}

# final NAME STATUS ARGUMENTS repeats a request until it has that answer, and prints it.
final() {
	i=0
	until answer "$1" "$3" >"$work/shown" 2>&1 && head -n 1 "$work/$1.head" | grep -q " $2"; do
		i=$((i + 1))
		[ "$i" -lt 300 ] || fail "$1 is not answered with $2"
		sleep 0.1
	done
	cat "$work/shown"
}

answer() {
	eval "curl -sS -D \"\$work/$1.head\" -o \"\$work/$1.body\" -X POST $2" || return 1
	tr -d '\r' <"$work/$1.head" | grep -E '^(HTTP|Idempotency-|Retry-After)'
	cat "$work/$1.body"
	echo
}

# want NAME STATUS TEXT checks an answer.
want() {
	head -n 1 "$work/$1.head" | grep -q " $2" || fail "$1 is not answered with $2"
	grep -q "$3" "$work/$1.body" || fail "$1 has no $3"
}

# same NAME NAME checks that the second answer replays the first.
same() {
	cmp "$work/$1.body" "$work/$2.body" || fail "the retry got other bytes"
	grep -qi '^Idempotency-Replayed: true' "$work/$2.head" || fail "the retry is not a replay"
}

# fill TOKEN VARIANT makes a cart with something in it, to be paid for with that token.
fill() {
	cart=$(curl -sS -X POST "$two/store/carts" | sed 's/.*"id":"\([^"]*\)".*/\1/')
	curl -sS -o "$work/out" -X POST "$two/store/carts/$cart/line-items" -d "{\"variant_id\": \"$2\", \"quantity\": 1}"
	curl -sS -o "$work/out" -X POST "$two/store/carts/$cart/payment-sessions" -d "{\"token\": \"$1\"}"
}

# charged TIMES VOIDED checks what the provider knows of the cart.
charged() {
	got=$(curl -sS "$provider/charges/$cart")
	echo "\$ curl \$provider/charges/\$cart"
	echo "$got"
	[ "$got" = "{\"charged\":$1,\"voided\":$2}" ] || fail "charged is $got"
}

# counted NAME NUMBER waits until the shop has so many of something for the cart.
counted() {
	i=0
	until curl -sS -o "$work/counts" "$two/store/carts/$cart/counts" && grep -q "\"$1\":$2[,}]" "$work/counts"; do
		i=$((i + 1))
		[ "$i" -lt 300 ] || fail "there are not $2 $1"
		sleep 0.1
	done
	echo "\$ curl \$two/store/carts/\$cart/counts"
	cat "$work/counts"
	echo
}

# died checks that the first shop has ended as by kill -9.
died() {
	status=0
	wait "$one_pid" || status=$?
	[ "$status" = 137 ] || fail "the shop ended with $status, not 137"
	echo "The first shop is dead: exit status $status."
	without "$one_pid"
}

go build -o "$work/checkout" .
if [ -z "${REDIS_URL:-}" ]; then
	start_redis
fi
start "payment provider" -only-provider
provider=$url
start_one
start "second shop" -provider "$provider"
two=$url two_pid=$pid

if [ -n "${DATABASE_URL:-}" ]; then
	[ ! -e "$work/shop.db" ] || fail "the shops use SQLite in spite of DATABASE_URL"
	echo "The shops' tables are in PostgreSQL."
else
	echo "The shops' tables are in SQLite; set DATABASE_URL for PostgreSQL."
fi

echo "== 1. A cart is completed, and completed again through the other shop: the same bytes, one charge, one e-mail"
echo "\$ curl -X POST \$one/store/carts"
curl -sS -o "$work/cart" -X POST "$one/store/carts"
cat "$work/cart"
echo
cart=$(sed 's/.*"id":"\([^"]*\)".*/\1/' "$work/cart")
post item '$one/store/carts/$cart/line-items -d '\''{"variant_id": "book", "quantity": 1}'\'
post session '$one/store/carts/$cart/payment-sessions -d '\''{"token": "pm_ok"}'\'
post first '$one/store/carts/$cart/complete -H "Idempotency-Key: first"'
want first 200 '"type":"order"'
post again '$two/store/carts/$cart/complete -H "Idempotency-Key: first"'
same first again
post other '$two/store/carts/$cart/complete -H "Idempotency-Key: first" -d "something else"'
want other 422 'already used'
charged 1 0
counted mails 1

echo "== 2. A client that makes up a new key, or has none, gets the order that there is"
post second '$one/store/carts/$cart/complete -H "Idempotency-Key: second"'
want second 200 '"type":"order"'
cmp "$work/first.body" "$work/second.body" || fail "it is another order"
post none '$one/store/carts/$cart/complete'
cmp "$work/first.body" "$work/none.body" || fail "it is another order"
charged 1 0

echo "== 3. A shop dies (kill -9) after the charge: the other one completes the cart without a second charge"
fill pm_crash_after_charge book
post crash '$one/store/carts/$cart/complete -H "Idempotency-Key: crash"' && fail "the shop has answered"
died
charged 1 0
post early '$two/store/carts/$cart/complete -H "Idempotency-Key: crash"'
if grep -q ' 200' "$work/early.head"; then
	echo "This machine is slow: the lease of the dead shop was over already."
else
	want early 409 outstanding
	grep -qi '^Retry-After: ' "$work/early.head" || fail "the answer has no Retry-After"
	echo "... and when the lease of the dead shop is over:"
fi
final resumed 200 '$two/store/carts/$cart/complete -H "Idempotency-Key: crash"'
want resumed 200 '"type":"order"'
post resumed_again '$two/store/carts/$cart/complete -H "Idempotency-Key: crash"'
same resumed resumed_again
charged 1 0
counted mails 1
start_one

echo "== 4. The same, and the client never comes back: the completer of the other shop does it"
fill pm_crash_after_charge lamp
post abandoned '$one/store/carts/$cart/complete -H "Idempotency-Key: abandoned"' && fail "the shop has answered"
died
counted orders 1
echo "There is an order, although no client has asked again."
charged 1 0
counted mails 1
start_one

echo "== 5. 3-D Secure: the customer has to confirm, and then the same key goes on"
fill pm_3ds book
post asked '$one/store/carts/$cart/complete -H "Idempotency-Key: secure"'
want asked 202 requires_more
charged 0 0
confirm_at=$(sed 's/.*"confirm_at":"\([^"]*\)".*/\1/' "$work/asked.body")
post confirm '$confirm_at'
post confirmed '$two/store/carts/$cart/complete -H "Idempotency-Key: secure"'
want confirmed 200 '"type":"order"'
post confirmed_again '$one/store/carts/$cart/complete -H "Idempotency-Key: secure"'
same confirmed confirmed_again
charged 1 0

echo "== 6. The provider charges and does not answer: it is asked what became of it"
fill pm_timeout_after_charge book
post silent '$one/store/carts/$cart/complete -H "Idempotency-Key: silent"'
want silent 200 '"type":"order"'
charged 1 0

echo "== 7. The card is declined: the tax lines are taken back, and the answer stays. Another card needs a new key"
fill pm_decline book
post declined '$one/store/carts/$cart/complete -H "Idempotency-Key: declined"'
want declined 402 payment_declined
post declined_again '$two/store/carts/$cart/complete -H "Idempotency-Key: declined"'
same declined declined_again
counted tax_lines 0
charged 0 0
post card '$one/store/carts/$cart/payment-sessions -d '\''{"token": "pm_ok"}'\'
post another '$one/store/carts/$cart/complete -H "Idempotency-Key: another-card"'
want another 200 '"type":"order"'
charged 1 0

echo "== 8. Sold out after the payment: the payment is voided, too"
fill pm_ok unicorn
post soldout '$one/store/carts/$cart/complete -H "Idempotency-Key: soldout"'
want soldout 409 insufficient_inventory
counted tax_lines 0
charged 1 1

echo "== 9. The customer withdraws instead of confirming: the payment is canceled, and the cart is free again"
fill pm_3ds book
post wanted '$one/store/carts/$cart/complete -H "Idempotency-Key: withdrawn"'
want wanted 202 requires_more
post withdraw '$two/store/carts/$cart/withdraw'
want withdraw 200 'called off'
counted tax_lines 0
settled withdrawn '$two/store/carts/$cart/complete -H "Idempotency-Key: withdrawn"'
want withdrawn 410 '"withdrawn"'
grep -qi '^Idempotency-Replayed: true' "$work/withdrawn.head" || fail "the completer has waited for its client"
charged 0 0
post cash '$one/store/carts/$cart/payment-sessions -d '\''{"token": "pm_ok"}'\'
post bought '$one/store/carts/$cart/complete -H "Idempotency-Key: anew"'
want bought 200 '"type":"order"'
post late '$one/store/carts/$cart/withdraw'
want late 409 'too late'
charged 1 0

echo "== 10. The customer neither confirms nor comes back: a shop that waits for three seconds undoes the order"
for pid in "$one_pid" "$two_pid"; do
	kill "$pid"
	wait "$pid" || fail "a shop ended with an error"
	without "$pid"
done
start "impatient shop" -provider "$provider" -confirm-within 3s -ask-every 1s
two=$url
fill pm_3ds book
post forgotten '$two/store/carts/$cart/complete -H "Idempotency-Key: forgotten"'
want forgotten 202 requires_more
counted tax_lines 0
settled expired '$two/store/carts/$cart/complete -H "Idempotency-Key: forgotten"'
want expired 410 '"expired"'
grep -qi '^Idempotency-Replayed: true' "$work/expired.head" || fail "the completer has waited for its client"
charged 0 0

echo "All answers are as they should be."
