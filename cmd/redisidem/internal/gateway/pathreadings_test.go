package gateway

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestPathReadings(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"/a/b":            "/a/b",
		"/a%62/":          "/ab/",
		"/a%2Fb":          "/a%2Fb /a/b",
		"/a%2fb":          "/a%2Fb /a/b",
		"/a%252Fb":        "/a%252Fb",
		"/a//b":           "/a/b /a/%00other/b",
		"//a":             "/a /%00other/a",
		"/a/./b":          "/a/b /a/%00other./b",
		"/a/../b":         "/b /a/%00other../b",
		"/a/%2e%2E/b":     "/b /a/%00other../b",
		"/a/.":            "/a /a/ /a/%00other.",
		"/a/..":           "/ /a/%00other..",
		"/.well-known":    "/.well-known",
		"/a;v=1/b":        "/a%3Bv=1/b /a/b",
		"/a%3Bv/b":        "/a%3Bv/b /a/b",
		"/a/..;/b":        "/a/..%3B/b /b /a/%00other../b",
		`/a%5Cb`:          `/a%5Cb /a/b`,
		"/a%2F..%2Fb":     "/a%2F..%2Fb /b /a/%00other../b",
		"/a/%2F":          "/a/%00other%2F /a/ /a/%00other/",
		"":                "/",
		"/a;x%2F..;%2Fb/": "/a%3Bx%2F..%3B%2Fb/ /a/ /a%3Bx/..%3B/b/ /b/ /a/%00other../b/",
	} {
		u := &url.URL{}
		if raw != "" {
			var err error
			if u, err = url.ParseRequestURI(raw); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for _, reading := range pathReadings(u) {
			got = append(got, reading.EscapedPath())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s is read as %q, want %s", raw, got, want)
		}
		if isPlainPath(u) && len(got) != 1 {
			t.Errorf("%s is plain and has the readings %q", raw, got)
		}
	}
}

// TestNoFormOfAPathAvoidsItsRoute sends paths that an upstream may read as that of a route, and
// others that it may not.
func TestNoFormOfAPathAvoidsItsRoute(t *testing.T) {
	t.Parallel()
	b := setUp(t, `
defaults: {interrupted: run}
routes:
  - {match: "POST /v1/{id}/capture", key: required}
  - {match: "POST /pay/{id}", key: required, interrupted: refuse, fingerprint: {fields: [amount]}}
  - {match: "POST /split%2Fpath/x", key: required}
  - {match: /public/, protect: false}
`, Unscoped)
	host := strings.TrimPrefix(b.server.URL, "http://")
	send := func(target string, header http.Header) int {
		t.Helper()
		r := &http.Request{Method: http.MethodPost, Header: header, URL: &url.URL{Scheme: "http", Host: host, Opaque: target}}
		if strings.HasPrefix(target, "//") { // Opaque would be an authority and a path
			r.URL.Opaque, r.URL.Path = "", target
		}
		res, err := http.DefaultClient.Do(r.WithContext(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	for target, want := range map[string]int{
		"/v1/x/capture":             400,
		"/v1/x%2Fy/capture":         400,
		"/v1/x%2fy/capture":         400,
		"/v1/x/capture%2F":          201, // with a slash at the end it is another path
		"/v1//x/capture":            400,
		"//v1/x/capture":            400,
		"/v1/./x/capture":           400,
		"/v1/%2e/x/capture":         400,
		"/v1/a/../x/capture":        400,
		"/v1/x;v=1/capture":         400,
		"/v1/x/capture;v=1":         400,
		"/v1%2Fx%2Fcapture":         400,
		"/v1/x%5Ccapture":           400,
		"/public/../v1/x/capture":   400,
		"/public/..%2Fv1/x/capture": 400,
		"/v1/x/capture/../public/":  201,
		"/public/a":                 201,
		"/public/a%2Fb":             201,
		"/public/a/../b;c":          201,
		"/other%2Fpath":             201,
		"/split%2Fpath/x":           400,
		"/split/path/x":             201,
		"/pay/x/%2e%2e/../pay/x":    400,
	} {
		if status := send(target, nil); status != want {
			t.Errorf("%s without a key gets %d, want %d", target, status, want)
		}
	}
	// A key does not help where the readings of a path have different rules.
	for _, target := range []string{"/pay/a%2Fb", "/pay//a", "/pay;v=1/a", "/x/../pay/a"} {
		n := b.runs.Load()
		if status := send(target, http.Header{"Idempotency-Key": {url.QueryEscape(target)}}); status != 400 || b.runs.Load() != n {
			t.Errorf("%s with a key gets %d", target, status)
		}
	}
}

// TestPoliciesThatAreAsSafe is about pairs of policies, by the fields in which they differ from the
// default.
func TestPoliciesThatAreAsSafe(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		one, other            string
		oneCovers, otherCover bool
	}{
		{"", "", true, true},
		{"key: required", "", true, false},
		{"protect: false", "", false, true},
		{"protect: false", "protect: false, key: required", true, true},
		{"methods: [PUT]", "", false, true},
		{"methods: [POST, PUT]", "", true, true},
		{"interrupted: run", "", false, true},
		{"interrupted: run, key: required", "", false, false},
		{"interrupted: ask, ask: '/{key}'", "interrupted: run", false, false},
		{"interrupted: ask, ask: '/{key}'", "", false, true},
		{"without_redis: pass", "", false, true},
		{"fingerprint: {body: json}", "", false, false},
		{"key_from: [{query: k}], key: required", "", false, false},
		{"authorize: /may", "", false, false},
	} {
		var policies []Policy
		for _, text := range []string{c.one, c.other} {
			r, err := readRoutes("defaults: {" + text + "}")
			if err != nil {
				t.Fatal(err)
			}
			policies = append(policies, r.Defaults)
		}
		got := []bool{policies[0].covers(&policies[1], "POST"), policies[1].covers(&policies[0], "POST")}
		if !slices.Equal(got, []bool{c.oneCovers, c.otherCover}) {
			t.Errorf("%q and %q: %v", c.one, c.other, got)
		}
	}
}
