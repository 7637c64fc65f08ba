package idemclient_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemclient"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

func TestDraft_2_2_KeysThatTheLibraryMakesAreUUIDs(t *testing.T) {
	t.Parallel()
	for version, key := range map[uuid.Version]string{4: idemclient.NewKey(), 7: idemclient.NewTimeKey()} {
		id, err := uuid.Parse(key)
		if err != nil || id.Version() != version || httpidem.UUIDKeys(key) != nil {
			t.Errorf("%s: version %d, %v", key, id.Version(), err)
		}
	}
	if one, two := idemclient.NewKey(), idemclient.NewKey(); one == two {
		t.Error("the same key twice")
	}
}

func TestDraft_2_5_1_FreshKeyForEachRequestAndTheSameForItsRetries(t *testing.T) {
	t.Parallel()
	w := &wire{script: []any{errors.New("reset"), 503, 200, 200}}
	tr := newTransport(t, w, &idemclient.TransportConfig{MinBackoff: time.Nanosecond})
	for range 2 {
		r := order(t.Context())
		resp, err := tr.RoundTrip(r)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		if r.Header.Get("Idempotency-Key") != "" {
			t.Error("the caller's request was changed")
		}
	}
	if len(w.keys) != 4 || w.keys[0] != w.keys[1] || w.keys[1] != w.keys[2] || w.keys[3] == w.keys[0] {
		t.Errorf("keys %q", w.keys)
	}
	for _, k := range w.keys {
		key, err := idemheader.Parse([]string{k}, true)
		if err != nil || httpidem.UUIDKeys(key) != nil {
			t.Errorf("key %s: %v", k, err)
		}
	}
	for _, body := range w.bodies {
		if body != "the body" {
			t.Errorf("bodies %q", w.bodies)
		}
	}
}

func TestClientKeepsKeysThatItIsGiven(t *testing.T) {
	t.Parallel()
	w := &wire{script: []any{200}}
	tr := newTransport(t, w, nil)
	own := order(t.Context())
	own.Header.Set("Idempotency-Key", "mine")
	get := order(t.Context())
	get.Method = ""
	for _, r := range []*http.Request{own, order(idemclient.WithKey(t.Context(), `from "the" program`)), get} {
		if _, err := tr.RoundTrip(r); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(w.keys, []string{"mine", `"from \"the\" program"`, ""}) {
		t.Errorf("keys %q", w.keys)
	}
	var syntax *idemheader.SyntaxError
	if _, err := tr.RoundTrip(order(idemclient.WithKey(t.Context(), "no\nkey"))); !errors.As(err, &syntax) {
		t.Error(err)
	}
}

func TestClientKeepsTheKeyOverRedirects(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var keys []string
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		keys = append(keys, fmt.Sprint(r.Method, " ", r.Header.Get("Idempotency-Key"), " ", string(body)))
		switch r.URL.Path {
		case "/orders":
			http.Redirect(w, r, "/v2/orders", http.StatusTemporaryRedirect)
		case "/v2/orders":
			http.Redirect(w, r, "/orders/1", http.StatusSeeOther)
		}
	}))
	client := &http.Client{Transport: newTransport(t, nil, nil)}
	defer client.CloseIdleConnections()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/orders", strings.NewReader("b"))
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if len(keys) != 3 || keys[0] != keys[1] || !strings.HasSuffix(keys[0], " b") || keys[2] != "GET  " {
		t.Errorf("requests %q", keys)
	}
}
