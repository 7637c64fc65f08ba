package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
)

// program is the variable that makes the test binary be the program.
const program = "CHECKOUT_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(program) != "" {
		main()
		return
	}
	redis.SetLogger(quiet{})
	leak.Main(m)
}

// quiet keeps go-redis from writing about servers that are just starting.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// town is a payment provider, a Redis, and a database, for shops that come and go.
type town struct {
	*testing.T
	redis    string
	database string // its URL, or empty for SQLite
	data     string
	provider *provider
	url      string // of the provider
	keys     *redisidem.Service
}

func newTown(t *testing.T, database string) *town {
	t.Helper()
	w := &town{T: t, redis: "redis://" + rediscase.Server(t).Addr(), database: database, data: t.TempDir()}
	var err error
	if w.provider, err = openProvider(t.Context(), filepath.Join(w.data, "provider.db")); err != nil {
		t.Fatal(err)
	}
	if w.keys, err = redisidem.Open(t.Context(), w.redis, &redisidem.Config{Namespace: namespace, Timeout: 10 * time.Second}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(w.provider.handler())
	w.url = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		if err := errors.Join(w.provider.close(), w.keys.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	return w
}

// open starts a shop process, which dies at a boundary if one is given, and returns its URL.
func (w *town) open(crash string) string {
	w.Helper()
	c := exec.Command(os.Args[0], "-listen", "127.0.0.1:0", "-provider", w.url, "-data", w.data, "-lease", "700ms", //nolint:gosec // this very binary
		"-recover-after", "300ms", "-redis-timeout", "10s", "-ask-every", "1m")
	c.Env = append(os.Environ(), program+"=1", "REDIS_URL="+w.redis, "DATABASE_URL="+w.database, crashVariable+"="+crash)
	c.SysProcAttr = dieWithParent()
	var log bytes.Buffer
	c.Stderr = &log
	out, err := c.StdoutPipe()
	if err != nil {
		w.Fatal(err)
	}
	if err := c.Start(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if w.Failed() {
			w.Logf("a shop's log: %s", &log)
		}
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, url, ok := strings.Cut(lines.Text(), "Serving the shop on "); ok {
			return url
		}
	}
	w.Fatalf("the shop does not open: %s", &log)
	return ""
}

// answered is an answer that was read.
type answered struct {
	status   int
	body     string
	replayed bool
}

func (w *town) post(url, path, key string, body any) (answered, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return answered{}, err
	}
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url+path, bytes.NewReader(text))
	if err != nil {
		return answered{}, err
	}
	r.Close = true // on a connection that was used before, Go's client would send a request with a key again by itself
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return answered{}, err
	}
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	return answered{res.StatusCode, string(got), res.Header.Get("Idempotency-Replayed") == "true"}, err
}

func (w *town) must(url, path, key string, body any) answered {
	w.Helper()
	a, err := w.post(url, path, key, body)
	if err != nil {
		w.Fatal(err)
	}
	return a
}

// fill makes a cart.
func (w *town) fill(url, token, variant string) string {
	w.Helper()
	var made struct{ Cart struct{ ID string } }
	if err := json.Unmarshal([]byte(w.must(url, "/store/carts", "", nil).body), &made); err != nil {
		w.Fatal(err)
	}
	cart := made.Cart.ID
	w.must(url, "/store/carts/"+cart+"/line-items", "", map[string]any{"variant_id": variant, "quantity": 2})
	w.must(url, "/store/carts/"+cart+"/payment-sessions", "", map[string]any{"token": token})
	return cart
}

// complete completes a cart, and asks again while a shop that died has it locked, or the machine is
// too busy for an answer.
func (w *town) complete(url, cart, key string) (a answered) {
	w.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		a = w.must(url, "/store/carts/"+cart+"/complete", key, nil)
		if a.status != http.StatusServiceUnavailable && !strings.Contains(a.body, "outstanding") {
			break
		}
	}
	return a
}

// confirm confirms the payment that an interim answer asks for, and reports whether the answer was
// one.
func (w *town) confirm(a answered) bool {
	w.Helper()
	var asked struct {
		Status  string `json:"payment_status"`
		Payment string `json:"payment_id"`
	}
	if err := json.Unmarshal([]byte(a.body), &asked); err != nil {
		w.Fatal(a, err)
	}
	if asked.Status != "requires_more" {
		return false
	}
	if _, err := (&payments{url: w.url, client: http.DefaultClient}).confirm(context.Background(), asked.Payment); err != nil {
		w.Fatal(err)
	}
	return true
}

// finish does what a patient client does: it asks until it has the final answer, and confirms the
// payment on the way.
func (w *town) finish(url, cart, key string) answered {
	w.Helper()
	a := w.complete(url, cart, key)
	if w.confirm(a) {
		a = w.complete(url, cart, key)
	}
	return a
}

// settle waits until the completer has come as far as it can without the client: to the end, or to
// an interim answer.
func (w *town) settle(cart, key string, confirmed bool) *redisidem.Key {
	w.Helper()
	var last *redisidem.Key
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		var err error
		if last, err = w.keys.Scope(cart).Retrieve(context.Background(), key); err != nil {
			w.Fatal(err)
		}
		if last.Finished() || !last.SnoozedUntil.IsZero() && !confirmed {
			return last
		}
	}
	w.Fatalf("the completer leaves the key at %s, after %d attempts", last.RecoveryPoint, last.Attempts)
	return nil
}

// counts returns what happened to a cart at the provider and in the shop.
func (w *town) counts(url, cart string) map[string]int64 {
	w.Helper()
	counts := make(map[string]int64)
	res, err := http.Get(url + "/store/carts/" + cart + "/counts") //nolint:noctx // a test
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if err := json.NewDecoder(res.Body).Decode(&counts); err != nil {
		w.Fatal(err)
	}
	charged, returned, err := w.provider.counts(context.Background(), cart)
	if err != nil {
		w.Fatal(err)
	}
	counts["charged"], counts["voided"] = charged, returned
	return counts
}

// stories are checkouts that are killed everywhere.
var stories = []struct {
	name, token, variant string
	status               int
	want                 map[string]int64
}{
	{"order", tokenOK, "book", 200, map[string]int64{"charged": 1, "voided": 0, "orders": 1, "tax_lines": 1, "mails": 1}},
	{"3-D Secure", token3DS, "book", 200, map[string]int64{"charged": 1, "voided": 0, "orders": 1, "tax_lines": 1, "mails": 1}},
	{"declined", tokenDecline, "book", 402, map[string]int64{"charged": 0, "voided": 0, "orders": 0, "tax_lines": 0, "mails": 0}},
	{"sold out", tokenOK, "unicorn", 409, map[string]int64{"charged": 1, "voided": 1, "orders": 0, "tax_lines": 0, "mails": 0}},
}

// TestShopKilledAtEveryBoundaryChargesOnce kills a shop with kill -9 before and after the work of
// each stage and each compensation, and after each commit, and lets another shop go on: once for
// the client that asks again, and once by itself.
func TestShopKilledAtEveryBoundaryChargesOnce(t *testing.T) {
	onEach(t, testKills)
}

func testKills(t *testing.T, url string) {
	t.Helper()
	rediscase.Need(t)
	for i, story := range stories {
		if url != "" && i > 0 {
			continue // TestCrashMatrix has the other stories on PostgreSQL
		}
		t.Run(story.name, func(t *testing.T) {
			t.Parallel()
			w := newTown(t, url)
			check := func(url, cart, key string, first answered) {
				t.Helper()
				if first.status != story.status {
					t.Fatalf("answer %+v, want status %d", first, story.status)
				}
				for range 2 {
					if again := w.complete(url, cart, key); again.body != first.body || again.status != first.status || !again.replayed {
						t.Errorf("a retry got %+v, want %+v", again, first)
					}
				}
				var got map[string]int64
				for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
					if got = w.counts(url, cart); got["mails"] == story.want["mails"] {
						break // the relay takes its time
					}
				}
				if fmt.Sprint(got) != fmt.Sprint(story.want) {
					t.Errorf("it came to %v, want %v", got, story.want)
				}
			}
			// An undisturbed run lists the boundaries.
			list := filepath.Join(t.TempDir(), "boundaries")
			calm := w.open("0 " + list)
			cart := w.fill(calm, story.token, story.variant)
			check(calm, cart, "calm", w.finish(calm, cart, "calm"))
			text, err := os.ReadFile(list)
			if err != nil {
				t.Fatal(err)
			}
			boundaries := strings.Split(strings.TrimSpace(string(text)), "\n")
			if len(boundaries) < 6 {
				t.Fatalf("there are only %q", boundaries)
			}
			t.Logf("%d boundaries: %s", len(boundaries), strings.Join(boundaries, ", "))

			// kill lets a shop die at a boundary, and returns what it was completing, and whether
			// the payment was confirmed before.
			kill := func(i int) (cart, key string, confirmed bool) {
				mark := filepath.Join(t.TempDir(), "reached")
				doomed := w.open(fmt.Sprint(i+1, " ", mark))
				cart, key = w.fill(doomed, story.token, story.variant), fmt.Sprint("key-", i)
				path := "/store/carts/" + cart + "/complete"
				a, err := w.post(doomed, path, key, nil)
				if err == nil {
					if confirmed = w.confirm(a); confirmed {
						a, err = w.post(doomed, path, key, nil)
					}
				}
				if err == nil {
					t.Fatalf("killed at %s, the shop answered %+v", boundaries[i], a)
				}
				reached, err := os.ReadFile(mark)
				if err != nil || strings.Count(string(reached), "\n") != i+1 || !strings.HasSuffix(string(reached), boundaries[i]+"\n") {
					t.Fatalf("killed at %q, %v, not at %s", reached, err, boundaries[i])
				}
				return cart, key, confirmed
			}
			for i, boundary := range boundaries {
				cart, key, _ := kill(i)
				check(calm, cart, key, w.finish(calm, cart, key))

				cart, key, confirmed := kill(i)
				settled := w.settle(cart, key, confirmed)
				a := w.finish(calm, cart, key)
				if settled.Finished() && (!a.replayed || a.body != string(settled.Response.Body)) {
					t.Errorf("after %s, the client that came late got %+v, not %s", boundary, a, settled.Response.Body)
				}
				check(calm, cart, key, a)
				if t.Failed() {
					t.Fatalf("after %s", boundary)
				}
			}
		})
	}
}
