package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

func TestRoutesInheritTheDefaults(t *testing.T) {
	t.Parallel()
	r, err := readRoutes(`
defaults:
  key: required
  wait: 2s
  headers: [X-Order]
  key_from: [{header: X-Key}, {query: key}]
  stream: true
  authorize: /may
routes:
  - match: POST /orders
    interrupted: ask
    ask: /orders/by-key/{key}
    fingerprint: {fields: [amount, customer.id]}
    max_body: 1000
  - match: POST /events
    key: optional
    wait: 0s
    keep: all
    without_redis: pass
    headers: []
    stream: false
    authorize: none
    key_from: [{body: /id}]
  - match: /public/
    protect: false
`)
	if err != nil {
		t.Fatal(err)
	}
	orders, events, public := r.Routes[0], r.Routes[1], r.Routes[2]
	if !*orders.Protect || orders.Key != "required" || *orders.Wait != 2*time.Second || orders.Keep[0] != "final" ||
		orders.WithoutRedis != "refuse" || orders.MaxBody != 1000 || !slices.Equal(orders.Headers, []string{"X-Order"}) ||
		len(orders.Fingerprint.Fields) != 2 || !*orders.Stream || orders.Authorize != "/may" ||
		!slices.Equal(orders.KeyFrom, []keySource{{Header: "X-Key"}, {Query: "key"}}) || !slices.Equal(events.KeyFrom, []keySource{{Body: "/id"}}) {
		t.Errorf("orders: %+v", orders)
	}
	if events.Key != "optional" || *events.Wait != 0 || events.Keep[0] != "all" || events.WithoutRedis != "pass" || len(events.Headers) != 0 ||
		*events.Stream || events.Authorize != "none" {
		t.Errorf("events: %+v", events)
	}
	if *public.Protect || r.Defaults.Interrupted != "refuse" {
		t.Errorf("public: %+v", public)
	}
	mux, err := r.matcher()
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]int{
		"POST /orders": 0, "POST /orders/": -1, "GET /public/../orders": -1, "GET /orders": -1, "POST /events": 1,
		"GET /public/a": 2, "POST /public/a//b": 2, "POST /": -1, "POST /orders?a=b": 0, "POST /%6frders": 0,
	} {
		method, path, _ := strings.Cut(target, " ")
		if got, ok := r.find(mux, httptest.NewRequest(method, path, http.NoBody)); got != want || !ok {
			t.Errorf("%s is route %d, %t, want %d", target, got, ok, want)
		}
	}
}

// TestRoutesMatchTheNamesOfAHost is about a route of one host, as it is written and as it is
// requested: in any case, and with the dot at the end that an absolute name may have. The case of a
// path counts.
func TestRoutesMatchTheNamesOfAHost(t *testing.T) {
	t.Parallel()
	if r, err := readRoutes("routes: [{match: ./Pay}]"); err != nil || r.Routes[0].Match != "./Pay" {
		t.Errorf("a dot alone is %v, %v", r, err)
	}
	for _, match := range []string{"POST API.Example/Pay", "POST api.example/Pay", "API.EXAMPLE/Pay", "POST api.example./Pay", "API.example./Pay"} {
		r, err := readRoutes("routes: [{match: " + match + "}]")
		if err != nil {
			t.Fatal(err)
		}
		mux, err := r.matcher()
		if err != nil {
			t.Fatal(err)
		}
		for target, want := range map[string]int{
			"http://api.example/Pay": 0, "http://API.example/Pay": 0, "http://Api.Example:8080/Pay": 0,
			"http://api.example./Pay": 0, "http://API.example.:8080/Pay": 0,
			"http://api.example/pay": -1, "http://other.example/Pay": -1,
			"http://api.example../Pay": -1, "http://api.example./pay": -1, "http://.:80/Pay": -1, "http://[::1]:80/Pay": -1,
		} {
			if got, _ := r.find(mux, httptest.NewRequest(http.MethodPost, target, http.NoBody)); got != want {
				t.Errorf("%s: %s is route %d, want %d", match, target, got, want)
			}
		}
	}
}

func TestRoutesProtectTheMethodOfTheirPattern(t *testing.T) {
	t.Parallel()
	r, err := readRoutes(`
defaults: {methods: [post, PATCH]}
routes:
  - {match: "PUT /orders/{id}", key: required}
  - {match: delete /orders, key: required}
  - {match: POST /orders}
  - {match: PUT /named, methods: [put, POST]}
  - {match: GET /orders}
  - {match: GET /changes, methods: [GET], key: required}
  - {match: PUT /free, methods: [POST], protect: false}
  - {match: /all}
`)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"PUT", "DELETE", "POST", "PUT POST", "POST PATCH", "GET", "POST", "POST PATCH"} {
		if got := strings.Join(r.Routes[i].Methods, " "); got != want {
			t.Errorf("%s protects %s, want %s", r.Routes[i].Match, got, want)
		}
	}
	mux, err := r.matcher()
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"DELETE", "delete"} {
		if got, _ := r.find(mux, httptest.NewRequest(method, "/orders", http.NoBody)); got != 1 {
			t.Errorf("%s is route %d", method, got)
		}
	}
}

func TestRoutesThatAreRefused(t *testing.T) {
	t.Parallel()
	for text, words := range map[string]string{
		"routes: [{match: POST /a, kee: all}]":                         "kee",
		"routes: [{match: POST /a, keep: some}]":                       `gateway.yaml:1:27: routes[0].keep: redisidem: httpidem.StatusPolicy has "some"`,
		"defaults: {keep: [2xx, 600]}":                                 `gateway.yaml:1:12: defaults.keep: redisidem: httpidem.StatusPolicy has "600"`,
		"routes: [{match: POST /a, keep: []}]":                         "names no status",
		"routes: [{match: POST /a, keep: [404]}]":                      "no 2xx status",
		"routes: [{match: POST /a, keep: [2xx, 423]}]":                 "423",
		"routes: [{match: POST /a, keep: [2xx, [404]]}]":               `"[404]"`,
		"routes: [{match: POST /a, keep: {2xx: true}}]":                "which is not a status",
		"routes: [{match: POST /a, keep: [final, 500]}]":               "stands alone",
		"defaults: {key: maybe}":                                       `defaults.key: must be required or optional, not "maybe"`,
		"routes: [{match: POST /a, wait: 3}]":                          "wait",
		"routes: [{match: POST /a, wait: -3s}]":                        "negative",
		"routes: [{match: POST /a, interrupted: ask}]":                 "{key}",
		"routes: [{match: POST /a, ask: 'orders/{key}'}]":              `routes[0].ask: must be a path at the upstream, with or without a query: "orders/{key}"`,
		"routes: [{match: POST /a, ask: '//host/{key}'}]":              "must be a path",
		"routes: [{match: POST /a, ask: '/a/{key}#b'}]":                "fragment",
		"routes: [{match: POST /a, ask: '/a%zz/{key}'}]":               `invalid URL escape "%zz"`,
		"routes: [{match: POST /a, ask: '/a/../{key}'}]":               "a . or .. segment",
		"defaults: {authorize: '/may#b'}":                              `defaults.authorize: must not have a fragment: "/may#b"`,
		"defaults: {authorize: '/may it'}":                             `defaults.authorize: must not have a space; write %20: "/may it"`,
		"routes: [{match: POST /a, ask: '/a?b c={key}'}]":              "must not have a space",
		"defaults: {authorize: '/may%2'}":                              "invalid URL escape",
		"defaults: {authorize: '/may/{key}'}":                          "before the key is read",
		"routes: [{match: POST /a, interrupted: ask, ask: /orders}]":   "{key}",
		"routes: [{match: POST /a, methods: []}]":                      "protect: false",
		"defaults: {methods: [PATCH, PSOT]}":                           `gateway.yaml:1:29: defaults.methods[1]: must be a method of the registry of HTTP methods, such as POST: "PSOT"`,
		"defaults: {methods: [POST-]}":                                 `defaults.methods[0]: must be a method`,
		"routes: [{match: /a, methods: ['']}]":                         `routes[0].methods[0]: must be a method`,
		"routes: [{match: PSOT /a}]":                                   `gateway.yaml:1:11: routes[0].match: must be a method of the registry of HTTP methods, such as POST: "PSOT"`,
		"routes: [{match: psot /a, protect: false}]":                   `routes[0].match: must be a method`,
		"routes: [{match: PUT /a, methods: [POST]}]":                   "routes[0].methods: must contain PUT",
		"routes: [{match: GET /a, key: required}]":                     "must contain GET",
		"routes: [{match: post /a}, {match: POST /a}]":                 "conflicts",
		"routes: [{match: POST H/a}, {match: POST h/a}]":               "conflicts",
		"routes: [{match: POST /a, fingerprint: {fields: [/amount]}}]": `a slash in front, instead of dots between its parts: "/amount"`,
		"routes: [{match: POST /a, fingerprint: {fields: [a, b..c]}}]": `an empty part: "b..c"`,
		"routes: [{match: POST /a, fingerprint: {except: ['']}}]":      `an empty part: ""`,
		"routes: [{match: POST a}]":                                    "gateway.yaml:1:11: routes[0].match: ",
		"routes: [{match: POST /a}, {match: POST /a}]":                 "conflicts",
		"routes: {": "gateway.yaml:1:9: ",
		"routes: [{match: POST /a, without_redis: open}]":                              "refuse or pass",
		"routes: [{match: POST /a, syntax: loose}]":                                    "lenient or strict",
		"routes: [{match: POST /a, fingerprint: {fields: [a], except: [b]}}]":          "routes[0].fingerprint.except: cannot be combined with fields",
		"routes: [{match: POST /a, fingerprint: {fields: [a], body: multipart}}]":      "routes[0].fingerprint.body: must be json",
		"routes: [{match: POST /a, fingerprint: {headers: [a b]}}]":                    "routes[0].fingerprint.headers: redisidem: httpidem.WithHeaders has a name",
		"routes: [{match: POST /a, fingerprint: {fields: []}}]":                        "routes[0].fingerprint.fields: must not be an empty list",
		"routes: [{match: POST /a, fingerprint: {body: xml}}]":                         "routes[0].fingerprint.body: must be bytes or json or multipart",
		"routes: [{match: POST /a, other_fingerprints: [{}]}]":                         "routes[0].other_fingerprints[0]: is there twice, or is that of fingerprint",
		"routes: [{match: POST /a, other_fingerprints: [{body: json}, {body: json}]}]": "routes[0].other_fingerprints[1]: is there twice",
		"defaults: {other_fingerprints: [{except: [a..b]}]}":                           "defaults.other_fingerprints[0].except: redisidem: httpidem.JSONFields has a name",
		"routes: [{match: POST /a, key_from: []}]":                                     "routes[0].key_from: must not be an empty list",
		"routes: [{match: POST /a, key_from: [{body: /id}, {header: X}]}]":             "routes[0].key_from: must have the places in the body last",
		"routes: [{match: POST /a, key_from: [{}]}]":                                   "routes[0].key_from[0]: redisidem: httpidem.KeySource must have one of",
		"defaults: {key_from: [{header: X}, {body: id}]}":                              "defaults.key_from[1]: redisidem: httpidem.KeySource.Body must be a JSON pointer",
	} {
		_, err := readRoutes(text)
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: error is %v, want one with %q", text, err, words)
		}
	}
	r, err := readRoutes("")
	if err != nil || len(r.Routes) != 0 || !*r.Defaults.Protect || r.Defaults.Key != "optional" ||
		*r.Defaults.Stream || r.Defaults.Authorize != "none" {
		t.Errorf("without a file: %+v, %v", r, err)
	}
}

func TestGatewayRoutesHaveTheirPolicies(t *testing.T) {
	t.Parallel()
	b := setUp(t, `
defaults: {key: required}
routes:
  - {match: POST /all, keep: all}
  - {match: /public/, protect: false}
  - {match: POST /fields, fingerprint: {fields: [amount]}}
  - {match: POST /small, max_body: 10, key: required}
  - {match: PUT /put, methods: [PUT]}
  - {match: POST /long, retention: 72h, publish_retention: true}
  - {match: POST /hooks, key_from: [{header: Webhook-Id}, {body: /id}], key: optional}
`, Unscoped)
	b.want(b.send("POST", "/", ""), 400, "missing", false)
	b.want(b.send("POST", "/public/x", ""), 201, "order 1", false)
	b.want(b.send("POST", "/public/x", "", "Idempotency-Key", "p"), 201, "order 2", false)
	b.want(b.send("POST", "/public/x", "", "Idempotency-Key", "p"), 201, "order 3", false)
	b.want(b.send("POST", "/fields", `{"amount": 1, "sent": 1}`, "Idempotency-Key", "f"), 201, "order 4", false)
	b.want(b.send("POST", "/fields", `{"sent": 2, "amount": 1}`, "Idempotency-Key", "f"), 201, "order 4", true)
	b.want(b.send("POST", "/fields", `{"amount": 2, "sent": 1}`, "Idempotency-Key", "f"), 422, "", false)
	b.want(b.send("POST", "/small", "0123456789x", "Idempotency-Key", "s"), 413, "", false)
	b.want(b.send("PUT", "/put", "", "Idempotency-Key", "u"), 201, "order 5", false)
	b.want(b.send("PUT", "/put", "", "Idempotency-Key", "u"), 201, "order 5", true)
	for path, want := range map[string]time.Duration{"/put": redisidem.DefaultRetention, "/long": 72 * time.Hour} {
		method := map[string]string{"/put": "PUT", "/long": "POST"}[path]
		got := b.send(method, path, "", "Idempotency-Key", "r"+path)
		info, err := redisidem.NewInspector(b.service).Find(t.Context(), b.id("r"+path))
		if err != nil {
			t.Fatal(err)
		}
		if info.Life > want+time.Minute || info.Life < want-time.Hour {
			t.Errorf("%s: the record lives for %v, want %v", path, info.Life, want)
		}
		if seconds := strconv.Itoa(int(want.Seconds())); path == "/long" && got.header.Get(idemheader.Retention) != seconds {
			t.Errorf("%s: the header is %v, want %s", path, got.header, seconds)
		}
	}
	b.runs.Store(5)
	b.want(b.send("POST", "/hooks", `{"id": "evt_1"}`), 201, "order 6", false)
	b.want(b.send("POST", "/hooks", `{"id": "evt_1"}`), 201, "order 6", true)
	b.logs(`"key":"` + b.id("evt_1") + `"`)
	b.want(b.send("POST", "/hooks", `{"id": "evt_1"}`, "Webhook-Id", "msg_1"), 201, "order 7", false)
	b.want(b.send("POST", "/hooks", `{"id": "evt_1"}`, "Webhook-Id", "msg_1"), 201, "order 7", true)
	b.want(b.send("POST", "/hooks", `{}`, "Idempotency-Key", "evt_1"), 201, "order 8", false)
	b.want(b.send("POST", "/hooks", `{}`, "Idempotency-Key", "evt_1"), 201, "order 9", false)
	b.answer(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = fmt.Fprint(w, b.runs.Load())
	})
	b.want(b.send("POST", "/all", "", "Idempotency-Key", "a"), 500, "10", false)
	b.want(b.send("POST", "/all", "", "Idempotency-Key", "a"), 500, "10", true)
	b.want(b.send("POST", "/", "", "Idempotency-Key", "a2"), 500, "11", false)
	b.want(b.send("POST", "/", "", "Idempotency-Key", "a2"), 503, "outcome of the request is unknown", false)
}
