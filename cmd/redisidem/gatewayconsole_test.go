package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/redisidem"
)

// TestConsoleActsWithTheServiceOfTheLastReload has two services of one Redis, each with a key.
func TestConsoleActsWithTheServiceOfTheLastReload(t *testing.T) {
	t.Parallel()
	addr := miniredis.RunT(t).Addr()
	open := func(namespace string) *redisidem.Service {
		s, err := redisidem.OpenUnchecked("redis://"+addr, &redisidem.Config{Namespace: namespace, Timeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close(context.Background()) })
		_, err = s.Scope("shop-of-"+namespace).Do(t.Context(), "k", redisidem.Request{}, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Finish(redisidem.Response{Code: 200}), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	settings := gatewayConsole{Enabled: true}
	pages, err := settings.open("127.0.0.1:0", open("first"), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	keys := func() string {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1/keys?state=finished", http.NoBody)
		r.RemoteAddr = "127.0.0.1:1"
		pages.ServeHTTP(w, r)
		return w.Body.String()
	}
	if page := keys(); !strings.Contains(page, "shop-of-first") {
		t.Errorf("before the reload: %s", page)
	}
	replace := func(namespace string) {
		next, err := pages.prepare(open(namespace))
		if err != nil {
			t.Fatal(err)
		}
		pages.replace(next)
	}
	replace("second")
	if page := keys(); !strings.Contains(page, "shop-of-second") || strings.Contains(page, "shop-of-first") {
		t.Errorf("after the reload: %s", page)
	}
	pages.Close()
	replace("third")
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1/live", http.NoBody)
	r.RemoteAddr = "127.0.0.1:1"
	pages.ServeHTTP(w, r) // it would not return
	var none *consolePages
	if next, err := none.prepare(nil); next != nil || err != nil {
		t.Errorf("without a console: %v, %v", next, err)
	}
	none.replace(nil) // it does not panic
}

// TestOperatorsKeepRecordsForTheLongestRetention has a configuration that a reload replaces.
func TestOperatorsKeepRecordsForTheLongestRetention(t *testing.T) {
	t.Parallel()
	service, err := redisidem.OpenUnchecked("redis://127.0.0.1:1", &redisidem.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Close(context.Background()) })
	for text, want := range map[string]time.Duration{
		"{}": 24 * time.Hour, "routes: [{match: POST /a, retention: 72h}]": 72 * time.Hour, "routes: [{match: POST /a, retention: 1h}]": 24 * time.Hour,
	} {
		c, err := configured(t, text+"\n", "--config", "CONFIG")
		if err != nil {
			t.Fatal(err)
		}
		view, err := c.operatorService(service)
		if err != nil || view.Config().Retention != want {
			t.Errorf("%s: %v, %v", text, view, err)
		}
	}
}

// TestReloadReplacesTheConsole has a live page open, which a replaced console ends.
func TestReloadReplacesTheConsole(t *testing.T) {
	t.Parallel()
	p := start(t, "", "--upstream", newUpstream(t, nil).URL, "--scope", "unscoped", "--console")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.admin+"/console/live", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	live, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = live.Body.Close() }()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, live.Body)
	}()
	if err := p.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a reload", func() bool { return strings.Contains(p.text(), "the configuration was reloaded") })
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("the live page goes on")
	}
	if status, page := fetch(t, http.MethodGet, p.admin+"/console/", "", nil); status != http.StatusOK {
		t.Errorf("%d %s", status, page)
	}
}
