package httpidem_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// newSpool returns a spool in a folder of the test.
func newSpool(t testing.TB, cfg *httpidem.SpoolConfig) *httpidem.Spool {
	t.Helper()
	var c httpidem.SpoolConfig
	if cfg != nil {
		c = *cfg
	}
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	s, err := httpidem.NewSpool(&c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// largeBody is a body that does not stay in memory.
var largeBody = strings.Repeat("0123456789", 10<<10)

func TestSpoolConfigIsChecked(t *testing.T) {
	t.Parallel()
	for field, cfg := range map[string]httpidem.SpoolConfig{
		"httpidem.SpoolConfig.Above":    {Above: 64<<10 - 1},
		"httpidem.SpoolConfig.MaxBytes": {MaxBytes: 64<<10 - 1},
	} {
		_, err := httpidem.NewSpool(&cfg)
		if invalid, ok := errors.AsType[*redisidem.InvalidError](err); !ok || invalid.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := httpidem.NewSpool(&httpidem.SpoolConfig{Dir: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that does not exist: %v", err)
	}
	s, err := httpidem.NewSpool(nil)
	if err != nil || s.Bytes() != 0 {
		t.Errorf("all defaults: %v", err)
	}
}

// TestFullSpoolRefuses sends two bodies to a spool with room for one.
func TestFullSpoolRefuses(t *testing.T) {
	t.Parallel()
	s, seen := newStore(t), &results{}
	spool := newSpool(t, &httpidem.SpoolConfig{MaxBytes: int64(len(largeBody)) * 3 / 2})
	running, end := make(chan struct{}), make(chan struct{})
	h := counting(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Idempotency-Key") == "first" {
			close(running)
			<-end
		}
		created("done")(w, r)
	})
	m := s.middleware(&httpidem.Config{Spool: spool, MaxBodyBytes: spool.MaxBytes(), Observer: seen.observe})
	server := serve(t, m.Handler(h))
	first := make(chan answer, 1)
	go func() {
		a, err := try(t.Context(), server.URL, "first", largeBody)
		if err != nil {
			t.Error(err)
		}
		first <- a
	}()
	<-running
	before := len(s.redis.Keys())
	for _, length := range []int64{-1, int64(len(largeBody))} {
		a := post(t, server.URL, "second", largeBody, func(r *http.Request) { r.ContentLength = length })
		wantStatus(t, a, http.StatusServiceUnavailable)
		if a.Header.Get("Retry-After") == "" || a.Header.Get("Idempotency-Problem") != "spool-unavailable" {
			t.Errorf("%v %s", a.Header, a.body)
		}
		if e := seen.last(t); e.Result != httpidem.ResultSpoolUnavailable || !errors.Is(e.Err, httpidem.ErrSpoolFull) {
			t.Errorf("%+v", e)
		}
	}
	h.ran(t, 1)
	if n := len(s.redis.Keys()); n != before {
		t.Errorf("%d keys, and %d before", n, before)
	}
	wantStatus(t, post(t, server.URL, "small", "body"), http.StatusCreated) // it stays in memory
	close(end)
	<-first
	awaitEmpty(t, spool)
	wantStatus(t, post(t, server.URL, "second", largeBody), http.StatusCreated)
}

// TestBodiesMustFitIntoTheSpool is about a limit under which a body could never be accepted.
func TestBodiesMustFitIntoTheSpool(t *testing.T) {
	t.Parallel()
	cfg := &httpidem.Config{Spool: newSpool(t, &httpidem.SpoolConfig{MaxBytes: 1 << 20}), MaxBodyBytes: 1<<20 + 1}
	_, err := httpidem.New(newStore(t).service(redisidem.Config{}), caller, cfg)
	if invalid, ok := errors.AsType[*redisidem.InvalidError](err); !ok || invalid.Field != "httpidem.Config.MaxBodyBytes" ||
		!strings.Contains(invalid.Reason, "Config.Spool (1048576)") {
		t.Error(err)
	}
}
