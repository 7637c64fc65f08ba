package gateway

import (
	"strings"
	"testing"
)

// TestChangedKeysComparesThePoliciesOfEachRequest has pairs of configurations, whose defaults have
// no key_prefix. want are the fields that a change from the first to the second reports, and back
// the fields of the opposite change.
func TestChangedKeysComparesThePoliciesOfEachRequest(t *testing.T) {
	t.Parallel()
	const wide = "{match: 'POST /orders/{id}', key_prefix: o-}"
	for _, c := range []struct{ name, first, second, want, back string }{
		{
			"a more specific route of another place", wide, wide + ", {match: POST /orders/special, wait: 2s}",
			"routes[POST /orders/special].key_prefix", "routes[POST /orders/{id}].key_prefix",
		},
		{"a more specific route of the same place", wide, wide + ", {match: POST /orders/special, key_prefix: o-}", "", ""},
		{"a route beside it", wide, wide + ", {match: POST /orders/special/a, wait: 2s}", "", ""},
		{"a route with a place of its own", wide, wide + ", {match: POST /bills, key_prefix: b-}", "routes[POST /bills].key_prefix", "routes[POST /bills].key_prefix"},
		{"a renamed wildcard", wide, "{match: 'POST /orders/{number}', key_prefix: o-}", "", ""},
		{"a renamed wildcard of another place", wide, "{match: 'POST /orders/{number}', key_prefix: n-}", "routes[POST /orders/{number}].key_prefix", "routes[POST /orders/{id}].key_prefix"},
		{"no route", wide, "", "routes[POST /orders/{id}].key_prefix", "routes[POST /orders/{id}].key_prefix"},
		{"a route of all methods", wide, wide + ", {match: /orders/, wait: 2s}", "", ""},
		{
			"a method of a route of all methods", "{match: /orders/, key_prefix: o-}", "{match: /orders/, key_prefix: o-}, {match: PATCH /orders/, wait: 2s}",
			"routes[PATCH /orders/].key_prefix", "routes[/orders/].key_prefix",
		},
		{
			"a method that neither protects", "{match: /orders/, key_prefix: o-}", "{match: /orders/, key_prefix: o-}, {match: GET /orders/}", "", "",
		},
		{
			// It may protect again, in another place.
			"a route that the first protects and the second does not", wide, wide + ", {match: POST /orders/special, protect: false}",
			"routes[POST /orders/special].key_prefix", "routes[POST /orders/{id}].key_prefix",
		},
		{
			"a route that protects no more and keeps its place", wide, wide + ", {match: POST /orders/special, protect: false, key_prefix: o-}", "", "",
		},
		{
			"GET has HEAD", "{match: GET /orders/, methods: [GET, HEAD], key_prefix: o-}",
			"{match: GET /orders/, methods: [GET, HEAD], key_prefix: o-}, {match: HEAD /orders/, methods: [HEAD]}",
			"routes[HEAD /orders/].key_prefix", "routes[GET /orders/].key_prefix",
		},
		{
			"a host", "{match: POST /orders/, key_prefix: o-}", "{match: POST /orders/, key_prefix: o-}, {match: POST shop.example/, wait: 2s}",
			"routes[POST shop.example/].key_prefix", "routes[POST /orders/].key_prefix",
		},
		{
			"another host", "{match: POST shop.example/orders/, key_prefix: o-}", "{match: POST shop.example/orders/, key_prefix: o-}, {match: POST other.example/orders/a}", "", "",
		},
		{
			"the end of a subtree", "{match: POST /a/, key_prefix: a-}", "{match: POST /a/, key_prefix: a-}, {match: 'POST /a/{$}'}",
			"routes[POST /a/{$}].key_prefix", "routes[POST /a/].key_prefix",
		},
		{
			"the path of a subtree without its slash", "{match: POST /a/, key_prefix: a-}", "{match: POST /a/, key_prefix: a-}, {match: POST /a}",
			"routes[POST /a].key_prefix", "routes[POST /a/].key_prefix",
		},
		{
			"the rest of a subtree", "{match: 'POST /a/{rest...}', key_prefix: a-}", "{match: 'POST /a/{rest...}', key_prefix: a-}, {match: 'POST /a/{b}/{c}/'}",
			"routes[POST /a/{b}/{c}/].key_prefix", "routes[POST /a/{rest...}].key_prefix",
		},
		{
			"two routes that share requests", "{match: 'POST /{a}/b', key_prefix: x-}", "{match: 'POST /b/{a}', key_prefix: x-}",
			"routes[POST /b/{a}].key_prefix routes[POST /{a}/b].key_prefix", "routes[POST /b/{a}].key_prefix routes[POST /{a}/b].key_prefix",
		},
		{
			"routes that leave no request to a wider one", "{match: POST /a/, key_prefix: a-}, {match: 'POST /a/{id}'}", "{match: POST /a/, key_prefix: a-}, {match: 'POST /a/{id}'}, {match: POST /a/b}", "", "",
		},
		{
			"an escaped literal", "{match: POST /orders/, key_prefix: o-}", "{match: POST /orders/, key_prefix: o-}, {match: POST /%6frders/x}",
			"routes[POST /%6frders/x].key_prefix", "routes[POST /orders/].key_prefix",
		},
		{
			"the place of a key", "{match: POST /a/, key_from: [{body: /id}]}", "{match: POST /a/, key_from: [{body: /id}]}, {match: POST /a/b}",
			"routes[POST /a/b].key_from", "routes[POST /a/].key_from",
		},
	} {
		first, err := readRoutes("routes: [" + c.first + "]")
		if err != nil {
			t.Fatal(c.name, ": ", err)
		}
		second, err := readRoutes("routes: [" + c.second + "]")
		if err != nil {
			t.Fatal(c.name, ": ", err)
		}
		if got := strings.Join(first.ChangedKeys(*second), " "); got != c.want {
			t.Errorf("%s: %q have changed, want %q", c.name, got, c.want)
		}
		if got := strings.Join(second.ChangedKeys(*first), " "); got != c.back {
			t.Errorf("%s, taken away: %q have changed, want %q", c.name, got, c.back)
		}
		if got := first.ChangedKeys(*first); got != nil {
			t.Errorf("%s: without a change %q have changed", c.name, got)
		}
	}
}
