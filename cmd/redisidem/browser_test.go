package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

// browserVariable is the environment variable that, set to 1, makes the test fail that would be
// skipped for want of a browser.
const browserVariable = "REDISIDEM_REQUIRE_BROWSER"

// page sends a request through the gateway, and again, and writes down what a script may read of
// the answers.
const page = `<!doctype html>
<meta charset="utf-8">
<title>A page of another origin</title>
<ol id="answers"></ol>
<script>
async function send() {
  const answer = await fetch('%s/orders', {
    method: 'POST',
    headers: {'Idempotency-Key': '"from the browser"', 'Content-Type': 'application/json', 'X-Tenant': 'acme'},
    body: '{"book":1}',
  });
  const line = document.createElement('li');
  line.textContent = [answer.status, answer.headers.get('Idempotency-Key'), answer.headers.get('Idempotency-Replayed'),
    answer.headers.get('X-Secret'), await answer.text()].join(' | ');
  document.getElementById('answers').append(line);
}
send().then(send).catch(e => { document.body.append('failed: ' + e); });
</script>
`

// TestPageOfAnotherOriginReadsTheFields looks at the gateway with a real browser.
func TestPageOfAnotherOriginReadsTheFields(t *testing.T) {
	t.Parallel()
	browser, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv(browserVariable) == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	up := newUpstream(t, nil)
	site := httptest.NewUnstartedServer(nil)
	origin := "http://" + site.Listener.Addr().String()
	p := start(t, rediscase.Server(t).Addr(), "--upstream", up.URL, "--scope", "header:X-Tenant", "--cors-origin", origin)
	site.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if _, err := fmt.Fprintf(w, page, p.url); err != nil {
			t.Error(err)
		}
	})
	site.Start()
	defer site.Close()
	stranger := httptest.NewServer(site.Config.Handler)
	defer stranger.Close()

	look := func(url string) string {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		args := []string{
			"--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
			"--user-data-dir=" + t.TempDir(), "--virtual-time-budget=10000", "--dump-dom", url,
		}
		out, err := exec.CommandContext(ctx, browser, args...).Output()
		if err != nil {
			t.Fatalf("the browser: %v", err)
		}
		return string(out)
	}
	seen := look(origin + "/")
	for _, want := range []string{
		`<li>201 | "from the browser" |  |  | order 1</li>`, `<li>201 | "from the browser" | true |  | order 1</li>`,
	} {
		if !strings.Contains(seen, want) {
			t.Errorf("the page is\n%s\nwithout %s", seen, want)
		}
	}
	if got := look(stranger.URL + "/"); !strings.Contains(got, "failed: ") || strings.Contains(got, "order 1") {
		t.Errorf("a page of an origin that is not allowed reads\n%s", got)
	}
}
