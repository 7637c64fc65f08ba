package httpidem_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestS17_ReplaysAreMarkedAndNotCached(t *testing.T) {
	t.Parallel()
	h := newStore(t).middleware(nil).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Idempotency-Replayed", "true") // which is not the handler's to say
		w.Header().Set("Cache-Control", "public, max-age=3600")
		w.Header().Set("Expires", "Thu, 01 Dec 2094 16:00:00 GMT")
		w.WriteHeader(http.StatusCreated)
	}))
	first := call(h, newRequest(t.Context(), "k", ""))
	if first.Header()["Idempotency-Replayed"] != nil || first.Header().Get("Cache-Control") != "public, max-age=3600" {
		t.Errorf("first: %v", first.Header())
	}
	for range 2 {
		w := call(h, newRequest(t.Context(), "k", ""))
		if w.Header().Get("Idempotency-Replayed") != "true" || !slices.Equal(w.Header()["Cache-Control"], []string{"no-store"}) || w.Header()["Expires"] != nil {
			t.Errorf("replay: %v", w.Header())
		}
	}
}

// TestAnswersOfAnyShapeAreReplayed compares first answers with replays over a real connection.
func TestAnswersOfAnyShapeAreReplayed(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{
		"odd values": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "a\tb")
			w.Header()["Etag"] = []string{"", " x ", "\xff"}
		},
		"names in small letters": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["location"] = []string{"/small"}
			w.Header()["content-type"] = []string{"text/small"}
			_, _ = io.WriteString(w, "{}")
		},
		"status 499": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(499) },
		"a body in pieces": func(w http.ResponseWriter, _ *http.Request) {
			for i := range 1000 {
				_, _ = fmt.Fprint(w, i)
			}
		},
		"no type on purpose": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			_, _ = io.WriteString(w, "<html>")
		},
		"an early hint": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</a>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("Location", "/")
			w.WriteHeader(http.StatusSeeOther)
		},
		"a transfer encoding": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Transfer-Encoding", "identity")
			_, _ = io.WriteString(w, "<html>")
		},
		"trailers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			_, _ = io.WriteString(w, "text")
			w.Header().Set("X-Sum", "1")
			w.Header().Set(http.TrailerPrefix+"X-Late", "1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hc := counting(h)
			server := serve(t, newStore(t).middleware(nil).Handler(hc))
			bare := serve(t, h)
			without := post(t, bare.URL, "k", "")
			first, again := post(t, server.URL, "k", ""), post(t, server.URL, "k", "")
			if !again.replayed() || first.StatusCode != without.StatusCode || again.StatusCode != without.StatusCode || first.body != without.body ||
				again.body != without.body {
				t.Errorf("without %d %q, first %d %q, again %d %q", without.StatusCode, without.body, first.StatusCode, first.body, again.StatusCode, again.body)
			}
			for _, field := range []string{"Content-Type", "Location", "Link", "Etag"} {
				a, b, c := strconv.Quote(strings.Join(without.Header[field], "|")), strconv.Quote(strings.Join(first.Header[field], "|")),
					strconv.Quote(strings.Join(again.Header[field], "|"))
				if a != b || a != c {
					t.Errorf("%s: without %s, first %s, again %s", field, a, b, c)
				}
			}
			if len(first.Trailer) != len(without.Trailer) || len(again.Trailer) != len(without.Trailer) {
				t.Errorf("trailers: without %v, first %v, again %v", without.Trailer, first.Trailer, again.Trailer)
			}
			hc.ran(t, 1)
		})
	}
}

// TestS8_NoFieldOfARecordIsTrusted puts garbage into each field of a record in its turn.
func TestS8_NoFieldOfARecordIsTrusted(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	h := counting(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "<a>")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "done")
	})
	guarded := s.middleware(&httpidem.Config{FailOpen: true}).Handler(h)
	call(guarded, newRequest(t.Context(), "k", ""))
	names := s.redis.Keys()
	if len(names) != 1 {
		t.Fatalf("the store has %q", names)
	}
	fields, err := s.redis.HKeys(names[0])
	if err != nil {
		t.Fatal(err)
	}
	replay := call(guarded, newRequest(t.Context(), "k", ""))
	for _, field := range fields {
		before := s.redis.HGet(names[0], field)
		for _, garbage := range []string{"", "\x00", "garbage\r\nSet-Cookie: a=1\r\n", "-1", "99", "600", "1000", "1e3", strings.Repeat("9", 400), before + "\n"} {
			if garbage == before {
				continue
			}
			s.redis.HSet(names[0], field, garbage)
			w := call(guarded, newRequest(t.Context(), "k", ""))
			switch {
			case w.Code == http.StatusUnprocessableEntity && field == "fingerprint":
			case w.Code >= 500, w.Code == http.StatusConflict:
			case w.Code == replay.Code && w.Header()["Set-Cookie"] == nil && w.Header().Get("Idempotency-Replayed") == "true":
				// What does not say where the work stands is given as it is: without a codec no one
				// can tell that it was changed.
			default:
				t.Errorf("%s = %.20q: %d %v %s", field, garbage, w.Code, w.Header(), w.Body)
			}
		}
		s.redis.HSet(names[0], field, before)
	}
	h.ran(t, 1)
}
