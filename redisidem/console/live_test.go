package console_test

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem/console"
)

// live opens the live stream of a console and returns a function that reads the next event.
func live(ctx context.Context, s *site, server *httptest.Server) (next func() (string, bool)) {
	s.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/live", http.NoBody)
	s.must(err)
	response, err := server.Client().Do(r)
	s.must(err)
	s.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		s.Fatalf("%d %v", response.StatusCode, response.Header)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	return func() (string, bool) {
		var event strings.Builder
		for lines.Scan() {
			if lines.Text() == "" {
				return event.String(), true
			}
			event.WriteString(lines.Text() + "\n")
		}
		return event.String(), false
	}
}

func TestLiveSendsTheOverviewAgain(t *testing.T) {
	t.Parallel()
	s := newShop(t).site(func(c *console.Config) { c.Refresh = 10 * time.Millisecond })
	server := httptest.NewServer(s.console)
	defer server.Close()
	defer s.console.Close()
	next := live(t.Context(), s, server)
	first, ok := next()
	if !ok {
		t.Fatal("there is no event")
	}
	mustHave(t, first, "event: overview\ndata: ", "Keys by state", `<td data-label="Keys" class="n">9</td>`)
	for line := range strings.Lines(first) {
		if !strings.HasPrefix(line, "event: ") && !strings.HasPrefix(line, "data: ") {
			t.Errorf("an event has the line %q", line)
		}
	}
	_, err := s.svc.Scope("new").InitializeRequest(t.Context(), "k", request)
	s.must(err)
	for end := time.Now().Add(20 * time.Second); ; {
		event, ok := next()
		if !ok || time.Now().After(end) {
			t.Fatal("the new key is in no event")
		}
		if strings.Contains(event, `<td data-label="Keys" class="n">10</td>`) {
			return
		}
	}
}

func TestCloseEndsStreams(t *testing.T) {
	t.Parallel()
	s := newShop(t).site(func(c *console.Config) { c.Refresh = time.Hour })
	server := httptest.NewServer(s.console)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	next := live(ctx, s, server)
	if _, ok := next(); !ok {
		t.Fatal("there is no event")
	}
	s.console.Close()
	s.console.Close()
	if event, ok := next(); ok || ctx.Err() != nil {
		t.Errorf("after Close there is %q, %v", event, ctx.Err())
	}
	server.Close() // it waits for its connections
}

func TestLiveHasABound(t *testing.T) {
	t.Parallel()
	s := newShop(t).site(func(c *console.Config) { c.Refresh = time.Hour })
	server := httptest.NewServer(s.console)
	defer server.Close()
	defer s.console.Close()
	ctx, leave := context.WithCancel(t.Context())
	for range 64 {
		if _, ok := live(ctx, s, server)(); !ok {
			t.Fatal("there is no event")
		}
	}
	mustHave(t, s.get("/live", http.StatusServiceUnavailable), "Too many live pages")
	leave()
	for end := time.Now().Add(20 * time.Second); ; {
		w := httptest.NewRecorder()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s.console.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/live", http.NoBody))
		if w.Code == 200 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after all have left, the status is %d", w.Code)
		}
	}
}
