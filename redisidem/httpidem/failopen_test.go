package httpidem_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

func TestStoreDown(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	svc := s.service(redisidem.Config{Timeout: 100 * time.Millisecond})
	h := counting(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		created("got "+string(body))(w, r)
		if httpidem.Stage(r.Context()) != nil {
			t.Error("an unprotected run has a stage")
		}
	})
	closed, open := newMiddleware(t, svc, nil), newMiddleware(t, svc, &httpidem.Config{FailOpen: true})
	s.sever()
	a := post(t, serve(t, closed.Handler(h)).URL, "k", "b")
	if a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" || a.Header.Get("Idempotency-Key") != "k" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	h.ran(t, 0)
	if a := post(t, serve(t, open.Handler(h)).URL, "k", "b"); a.body != "got b" || a.Header.Get("Idempotency-Key") != "k" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	h.ran(t, 1)
	if closed.Count(httpidem.ResultUnavailable) != 1 || open.Count(httpidem.ResultOpened) != 1 {
		t.Error("not counted")
	}
}

func TestAnswersWithoutTheStoreHaveTheFieldsOfOthers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		status int
		body   string
	}{
		"text":        {func(w http.ResponseWriter) { w.WriteHeader(http.StatusCreated); _, _ = io.WriteString(w, "done") }, 201, "done"},
		"status only": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusAccepted) }, 202, ""},
		"nothing":     {func(http.ResponseWriter) {}, 200, ""},
		"no content":  {func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent); _, _ = io.WriteString(w, "done") }, 204, ""},
		"large":       {func(w http.ResponseWriter) { _, _ = w.Write(large(5000)) }, 200, string(large(5000))},
		"copied":      {func(w http.ResponseWriter) { _, _ = io.Copy(w, strings.NewReader("done")) }, 200, "done"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			svc := s.service(redisidem.Config{Timeout: 100 * time.Millisecond})
			m := newMiddleware(t, svc, &httpidem.Config{FailOpen: true, PublishRetention: true})
			server := serve(t, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set(idemheader.Replayed, "true")
				w.Header().Set("Idempotency-Key", "another")
				w.Header().Set("Access-Control-Expose-Headers", "X-Own")
				c.answer(w)
			})))
			s.sever()
			a := post(t, server.URL, "k", "b")
			exposed := httpidem.InList(a.Header["Access-Control-Expose-Headers"], "X-Own") &&
				httpidem.InList(a.Header["Access-Control-Expose-Headers"], idemheader.Replayed)
			if a.StatusCode != c.status || a.body != c.body || a.replayed() || a.Header.Get("Idempotency-Key") != "k" || !exposed ||
				a.Header.Get(idemheader.Retention) == "" || m.Count(httpidem.ResultOpened) != 1 {
				t.Errorf("%d %v %.50s", a.StatusCode, a.Header, a.body)
			}
		})
	}
}

func TestStreamsWithoutTheStoreReachTheClient(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		s := newStore(t)
		svc := s.service(redisidem.Config{Timeout: 100 * time.Millisecond})
		m := newMiddleware(t, svc, &httpidem.Config{FailOpen: true, Response: httpidem.ResponseConfig{KeepFlushed: keep}})
		read := make(chan struct{})
		server := serve(t, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(idemheader.Replayed, "true")
			_, _ = io.WriteString(w, "one")
			_ = http.NewResponseController(w).Flush()
			<-read
			_, _ = io.WriteString(w, "two")
		})))
		s.sever()
		req := newRequest(t.Context(), "k", "")
		req.URL, _ = url.Parse(server.URL)
		req.RequestURI = ""
		resp, err := noRedirects.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 3)
		_, err = io.ReadFull(resp.Body, first)
		close(read)
		rest, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || string(first)+string(rest) != "onetwo" || resp.Header.Get(idemheader.Replayed) != "" {
			t.Errorf("%v, %s%s, %v", err, first, rest, resp.Header)
		}
	}
}
