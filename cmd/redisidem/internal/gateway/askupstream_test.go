package gateway

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestQuestionsCanHaveAQuery is about keys that need escapes, and differently so in a path and in a
// query.
func TestQuestionsCanHaveAQuery(t *testing.T) {
	t.Parallel()
	b := setUp(t, `
routes:
  - {match: /ask, interrupted: ask, ask: "/by/{key}/orders?key={key}&of=me", authorize: "/may?service=shop"}
`, Unscoped)
	const key = `a b/c?d=e&f+g%68#;i`
	var asked []string
	b.answer(func(_ http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodGet:
			panic(http.ErrAbortHandler)
		case r.URL.Path == "/may" && r.URL.RawQuery == "service=shop":
		case r.URL.Path == "/by/"+key+"/orders" && r.URL.Query().Get("key") == key && r.URL.Query().Get("of") == "me":
		default:
			t.Errorf("asked for %s", r.RequestURI)
		}
		asked = append(asked, r.URL.Path)
	})
	b.want(b.send("POST", "/ask", "", "Idempotency-Key", strconv.Quote(key)), 502, "", false)
	b.want(b.send("POST", "/ask", "", "Idempotency-Key", strconv.Quote(key)), 200, "", false)
	if len(asked) != 3 || b.runs.Load() != 4 {
		t.Errorf("asked for %q, %d requests", asked, b.runs.Load())
	}
	// Keys that would be another path, also to a server that takes escapes away first.
	for _, key := range []string{"..", ".", "../other", "a/../b"} {
		b.want(b.send("POST", "/ask", "", "Idempotency-Key", key), 502, "", false)
		b.want(b.send("POST", "/ask", "", "Idempotency-Key", key), 503, "outcome of the request is unknown", false)
	}
}

// TestHalfOfAnAnswerIsNoAnswerToAQuestion has the upstream asked on behalf of a client that wants a
// part only.
func TestHalfOfAnAnswerIsNoAnswerToAQuestion(t *testing.T) {
	t.Parallel()
	b := setUp(t, "routes: [{match: /ask, interrupted: ask, ask: '/by-key/{key}', authorize: /may}]", Unscoped)
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Header().Set("ETag", `"1"`)
			http.ServeContent(w, r, "order.json", time.Unix(1e9, 0), strings.NewReader("the whole order"))
			return
		}
		panic(http.ErrAbortHandler)
	})
	fields := []string{
		"Idempotency-Key", "k", "Range", "bytes=0-2", "If-None-Match", `"1"`, "If-Match", `"2"`, "If-Range", `"1"`,
		"If-Modified-Since", "Sun, 09 Sep 2001 01:46:40 GMT", "If-Unmodified-Since", "Sat, 08 Sep 2001 01:46:40 GMT",
	}
	b.want(b.send("POST", "/ask", "", fields...), 502, "", false)
	whole := *b.upstream.Load()
	b.answer(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/by-key/") {
			breakHalfway(w)
		}
	})
	b.want(b.send("POST", "/ask", "", fields...), 503, "outcome of the request is unknown", false)
	b.answer(whole)
	b.want(b.send("POST", "/ask", "", fields...), 200, "the whole order", false)
	b.want(b.send("POST", "/ask", "", fields...), 200, "the whole order", true)
}
