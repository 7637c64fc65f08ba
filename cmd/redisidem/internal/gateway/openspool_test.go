package gateway

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// TestLargeBodiesReachTheUpstreamFromTheSpool sends a body of 3 MiB, and its retry.
func TestLargeBodiesReachTheUpstreamFromTheSpool(t *testing.T) {
	t.Parallel()
	b := setUp(t, "defaults: {max_body: 4000000}", Unscoped)
	if err := b.gateway.openSpool(&httpidem.SpoolConfig{Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	b.reload()
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		if seen := b.gateway.spool.Bytes(); seen != n || err != nil {
			t.Errorf("%d bytes of %d are in the spool, %v", seen, n, err)
		}
		fmt.Fprintf(w, "%d %x", r.ContentLength, sum.Sum(nil)) // the length goes on, too
	})
	body := strings.Repeat("0123456789abcde\n", 3<<16)
	want := fmt.Sprintf("%d %x", len(body), sha256.Sum256([]byte(body)))
	b.want(b.send("POST", "/", body, "Idempotency-Key", "k"), 200, want, false)
	b.want(b.send("POST", "/", body, "Idempotency-Key", "k"), 200, want, true)
	b.want(b.send("POST", "/", body[1:], "Idempotency-Key", "k"), 422, "", false)
	if metrics := b.scrape(); !strings.Contains(metrics, "redisidem_spool_bytes 0\n") {
		t.Errorf("metrics: %s", metrics)
	}
}

// TestTooLargeBodiesPassWhereKeysAreOptional is about keys that browsers and libraries add by
// themselves.
func TestTooLargeBodiesPassWhereKeysAreOptional(t *testing.T) {
	t.Parallel()
	b := setUp(t, "defaults: {max_body: 10}\nroutes: [{match: POST /must, key: required}]", Unscoped)
	b.want(b.send("POST", "/may", "0123456789x", "Idempotency-Key", "k"), 201, "order 1", false)
	b.want(b.send("POST", "/may", "0123456789x", "Idempotency-Key", "k"), 201, "order 2", false)
	b.want(b.send("POST", "/must", "0123456789x", "Idempotency-Key", "k"), 413, "", false)
	if metrics := b.scrape(); !strings.Contains(metrics, `redisidem_http_results_total{late="false",result="oversize",route="default"} 2`) {
		t.Errorf("metrics: %s", metrics)
	}
}

// TestTooLargeBodiesDoNotLookProtected has an upstream that does not answer, and one that cannot be
// reached.
func TestTooLargeBodiesDoNotLookProtected(t *testing.T) {
	t.Parallel()
	b := setUp(t, "defaults: {max_body: 10, publish_retention: true}", Unscoped)
	b.answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	sent := b.send("POST", "/", "0123456789x", "Idempotency-Key", "k")
	b.want(sent, 502, "may have executed the request", false)
	connections, _ := b.gateway.current.Load().transport.(*upstreamTransport)
	for _, c := range []*http.Transport{connections.leased, connections.limited} {
		c.CloseIdleConnections()
		c.DialContext = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
	}
	notSent := b.send("POST", "/", "0123456789x", "Idempotency-Key", "k")
	b.want(notSent, 503, "was not sent", false)
	for _, a := range []answered{sent, notSent} {
		if strings.Contains(a.body, "Idempotency-Key") || a.header.Get("Idempotency-Key") != "" || a.header.Get("Idempotency-Retention") != "" {
			t.Errorf("%v %s", a.header, a.body)
		}
	}
}

// TestRetriesUnderASmallerLimitAreRefused lowers max_body after a request ran.
func TestRetriesUnderASmallerLimitAreRefused(t *testing.T) {
	t.Parallel()
	b := setUp(t, "defaults: {max_body: 11}", Unscoped)
	b.want(b.send("POST", "/", "0123456789x", "Idempotency-Key", "k"), 201, "order 1", false)
	var err error
	if b.config.Policies, err = readRoutes("defaults: {max_body: 10}"); err != nil {
		t.Fatal(err)
	}
	b.reload()
	b.want(b.send("POST", "/", "0123456789x", "Idempotency-Key", "k"), 413, "", false)
	b.redis.Close()
	b.want(b.send("POST", "/", "0123456789x", "Idempotency-Key", "k"), 503, "#unavailable", false)
	if n := b.runs.Load(); n != 1 {
		t.Errorf("the upstream got %d requests", n)
	}
}

// TestBodiesMustFitIntoTheSpool is about a limit under which a body could never be accepted.
func TestBodiesMustFitIntoTheSpool(t *testing.T) {
	t.Parallel()
	b := setUp(t, "", Unscoped)
	if err := b.gateway.openSpool(&httpidem.SpoolConfig{Dir: t.TempDir(), MaxBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	b.reload()
	for routes, field := range map[string]string{
		"defaults: {max_body: 1048577}":                "defaults.max_body",
		"routes: [{match: POST /, max_body: 1048577}]": "routes[0].max_body",
	} {
		var err error
		if b.config.Policies, err = readRoutes(routes); err != nil {
			t.Fatal(err)
		}
		if err := b.gateway.Reload(b.config); err == nil || err.Error() != field+": must be at most spool_bytes (1048576): 1048577" {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// TestFailuresOfTheSpoolAreLogged has a spool that is full, and one whose folder is gone.
func TestFailuresOfTheSpoolAreLogged(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "spool")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b := setUp(t, "defaults: {max_body: 150000}", Unscoped)
	if err := b.gateway.openSpool(&httpidem.SpoolConfig{Dir: dir, MaxBytes: 150_000}); err != nil {
		t.Fatal(err)
	}
	b.reload()
	arrived, end := make(chan struct{}), make(chan struct{})
	b.answer(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(arrived)
		<-end
	})
	body := strings.Repeat("x", 100_000)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.want(b.send("POST", "/", body, "Idempotency-Key", "first"), 200, "", false)
	}()
	b.await("the first request", arrived)
	b.want(b.send("POST", "/", body, "Idempotency-Key", "second"), 503, "#spool-unavailable", false)
	close(end)
	<-ended
	if text := b.log.String(); !strings.Contains(text, `"level":"WARN","msg":"the spool is full"`) {
		t.Error(text)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	b.want(b.send("POST", "/", body, "Idempotency-Key", "third"), 503, "#spool-unavailable", false)
	if text := b.log.String(); !strings.Contains(text, `"level":"ERROR","msg":"the spool cannot be used","error":"httpidem: spool: open `) ||
		!strings.Contains(text, "no such file") {
		t.Error(text)
	}
}

func TestSpoolsThatAreRefused(t *testing.T) {
	t.Parallel()
	for field, cfg := range map[string]httpidem.SpoolConfig{
		"spool_dir": {Dir: filepath.Join(t.TempDir(), "none")}, "spool_above": {Above: 1}, "spool_bytes": {MaxBytes: 1},
	} {
		g := &Gateway{metrics: NewMetrics()}
		if err := g.openSpool(&cfg); err == nil || !strings.HasPrefix(err.Error(), field+": ") {
			t.Errorf("%s: %v", field, err)
		}
	}
}
