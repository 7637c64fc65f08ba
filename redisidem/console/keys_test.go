package console_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
	"github.com/redisidem/redisidem/redisidem/console"
)

func TestKeysHaveFilters(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	all := func(scopes ...string) (want []string) {
		for _, scope := range scopes {
			want = append(want, s.ids[scope])
		}
		return want
	}
	for query, scopes := range map[string][]string{
		"":                                {"dead", "finished", "idle", "unreadable", "encrypted", "in-flight", "abandoned", "interim", "interrupted"},
		"?state=dead&state=interim":       {"dead", "interim"},
		"?scope=idle":                     {"idle"},
		"?flow=order":                     {"dead"},
		"?flow=order/1&attempts=1":        {"dead"},
		"?flow=order/2":                   {},
		"?older=1h":                       {},
		"?state=finished&scope=encrypted": {"encrypted"},
		"?error=provider+is+away":         {"dead", "interrupted"},
		"?error=provider&state=dead":      {"dead"},
		"?error=PROVIDER":                 {},
	} {
		page := s.get("/keys"+query, 200)
		mustHave(t, page, all(scopes...)...)
		if got := strings.Count(page, `class="id"`); got != len(scopes) {
			t.Errorf("%s: %d keys, want %d", query, got, len(scopes))
		}
	}
	mustHave(t, s.get("/keys?state=dead&older=0s", 200), `value="dead" checked`, `value="0s"`)
	mustHave(t, s.get("/keys?older=1h", 200), "No key matches.")
	mustHave(t, s.get("/keys?error=%26away", 200), `name="error" value="&amp;away"`)
	// The form that acts on all that match has the same filter.
	if n := strings.Count(s.get("/dead?error=away", 200), `name="error" value="away"`); n != 2 {
		t.Errorf("the filter is in %d forms", n)
	}
	matching := url.Values{"all": {"1"}, "state": {"dead"}, "error": {"another"}}
	mustHave(t, s.post("/acts/delete", matching, 200), "There is nothing to act on.")
	mustHave(t, s.get("/keys?state=unreadable", 200), ">damaged record: unknown schema version")
}

// TestKeysSayWhatAFilterCannotRead has a failure that was encrypted, and a console without the key.
func TestKeysSayWhatAFilterCannotRead(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	encryption, err := codec.NewEncryption(codec.EncryptionKey{ID: "k1", Secret: bytes.Repeat([]byte("s"), 32)})
	s.must(err)
	_, err = s.open(encryption).Scope("encrypted").Do(t.Context(), "failed", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Outcome{}, errProvider
	})
	if !errors.Is(err, errProvider) {
		t.Fatal(err)
	}
	const unread = "The error of 1 key cannot be read without the programs&#39; codec"
	mustHave(t, s.get("/keys?error=away", 200), unread, s.ids["interrupted"])
	mustHave(t, s.get("/keys?error=nosuch", 200), unread, "No key is known to match.")
	mustLack(t, s.get("/keys?error=away&scope=dead", 200), unread)
	mustHave(t, s.post("/acts/delete", url.Values{"all": {"1"}, "error": {"nosuch"}}, 200), unread, "There is nothing to act on.")
}

func TestKeysRefuseBadInput(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	for query, want := range map[string]string{
		"state=stuck":          "State &#34;stuck&#34; is not a state",
		"older=yesterday":      "Older than must be a duration",
		"older=-1h":            "Older than must be a duration",
		"attempts=many":        "Attempts must be a number",
		"attempts=-1":          "Attempts must be a number",
		"flow=%2A":             "Filter.Flow must be the name of a flow",
		"cursor=nonsense":      "cursor",
		"scope=%3Cb%3E&flow=!": "&lt;b&gt;",
	} {
		page := s.get("/keys?"+query, 400)
		mustHave(t, page, want, `role="alert"`)
		mustLack(t, page, "<b>", "No key matches")
	}
}

// TestKeysArePaged follows the links until the last page.
func TestKeysArePaged(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t) // the embedded one has a single page
	shop := &shop{T: t}
	var err error
	shop.svc, err = redisidem.OpenUnchecked("redis://"+server.Addr(), &redisidem.Config{Timeout: 20 * time.Second})
	shop.must(err)
	t.Cleanup(func() { _ = shop.svc.Close(context.Background()) })
	shop.inspector = redisidem.NewInspector(shop.svc)
	s := shop.site()
	const many = 900
	for i := range many {
		_, err := s.svc.Scope("many").InitializeRequest(t.Context(), fmt.Sprint("key&", i), request)
		s.must(err)
	}
	keys := make(map[string]bool)
	next := regexp.MustCompile(`rel="next" href="\.(/keys\?[^"]+)"`)
	pages := 0
	for path := "/keys?scope=many"; path != "" && pages < 100; pages++ {
		page := s.get(path, 200)
		for _, id := range regexp.MustCompile(`Choose ([\w-]{32})`).FindAllStringSubmatch(page, -1) {
			keys[id[1]] = true
		}
		path = ""
		if link := next.FindStringSubmatch(page); link != nil {
			path = strings.ReplaceAll(link[1], "&amp;", "&")
		}
	}
	if len(keys) != many || pages < 3 {
		t.Errorf("%d keys on %d pages", len(keys), pages)
	}
}

func TestDeadLettersHaveTheirReasons(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	page := s.get("/dead", 200)
	mustHave(t, page, s.ids["dead"], "Dead for", "stage &#34;paid&#34; of order/1", "Requeue chosen", "Requeue all that match", `name="state" value="dead"`)
	mustLack(t, page, s.ids["idle"], "Unlock")
	mustHave(t, s.get("/dead?flow=other", 200), "No key matches.")
	mustHave(t, s.get("/dead?state=idle", 200), s.ids["dead"])
}

// TestTextsFromRedisAreEscaped has a key whose texts are markup and control characters.
func TestTextsFromRedisAreEscaped(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	markup := "<script>alert(1)</script>\x1b[31m\u202e"
	_, err := s.svc.Scope(markup).InitializeRequest(t.Context(), markup, request)
	s.must(err)
	id := s.svc.Scope(markup).ID(markup)
	for _, write := range []bool{true, false} {
		c := s.site(func(c *console.Config) { c.Write = write })
		for _, path := range []string{"/keys", "/keys/" + id, "/find?id=" + id[1:] + "&scope=%3Cscript%3E"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
			s.must(err)
			response := c.serve(r)
			mustLack(t, c.text(response, response.StatusCode), "<script>", "\x1b", "\u202e")
		}
		mustHave(t, c.get("/keys/"+id, 200), "&lt;script&gt;alert(1)")
	}
}

func TestTurnsOfCostlyPagesEnd(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	for range 5 { // more than may be made at a time
		s.get("/keys", 200)
		s.get("/keys?older=x", 400)
		s.get("/audit", 200)
		s.get("/audit?limit=x", 400)
		s.post("/acts/delete", map[string][]string{"all": {"1"}}, 200)
		s.post("/acts/delete", map[string][]string{"all": {"1"}, "older": {"x"}}, 400)
	}
}

// TestDeadLettersHaveTheirCause looks for the error that used up the attempts.
func TestDeadLettersHaveTheirCause(t *testing.T) {
	t.Parallel()
	s := newShop(t).site()
	mustHave(t, s.get("/dead", 200), `<td data-label="Last failure">redisidem: stage &#34;paid&#34;: the provider is away</td>`)
	mustLack(t, s.get("/keys", 200), "Last failure")
}
