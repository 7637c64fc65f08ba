package httpidem_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestS2_AuthorizeIsAskedBeforeReplays(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var denied error
	read := false
	m := s.middleware(&httpidem.Config{Authorize: func(*http.Request) error { return denied }})
	h := counting(created("secret"))
	if w := call(m.Handler(h), newRequest(t.Context(), "k", "b")); w.Code != http.StatusCreated {
		t.Fatal(w.Code)
	}
	calls := s.calls.Load()
	for _, c := range []struct {
		err    error
		status int
	}{
		{errors.New("withdrawn"), 403},
		{&httpidem.DeniedError{}, 403},
		{&httpidem.DeniedError{Status: 42}, 403},
		{&httpidem.DeniedError{Status: 200}, 403},
		{&httpidem.DeniedError{Status: 399}, 403},
		{&httpidem.DeniedError{Status: 400}, 400},
		{&httpidem.DeniedError{Status: 599}, 599},
		{&httpidem.DeniedError{Status: 600}, 403},
		{&httpidem.DeniedError{Status: 401, Err: errors.New("withdrawn")}, 401},
		{fmt.Errorf("wrapped: %w", &httpidem.DeniedError{Status: 503}), 503},
	} {
		denied = c.err
		r := newRequest(t.Context(), "k", "b")
		r.Body = io.NopCloser(readerFunc(func([]byte) (int, error) { read = true; return 0, io.EOF }))
		w := call(m.Handler(h), r)
		if w.Code != c.status || strings.Contains(w.Body.String(), "secret") || strings.Contains(w.Body.String(), "withdrawn") ||
			!strings.Contains(w.Body.String(), "#not-allowed") || !strings.Contains(w.Body.String(), `"status":`+strconv.Itoa(c.status)) {
			t.Errorf("%v: %d %s", c.err, w.Code, w.Body)
		}
	}
	if read || s.calls.Load() != calls || m.Count(httpidem.ResultNotAllowed) != 10 {
		t.Errorf("body read: %v, %d calls", read, s.calls.Load()-calls)
	}
	h.ran(t, 1)
	denied = nil
	if w := call(m.Handler(h), newRequest(t.Context(), "k", "b")); w.Body.String() != "secret" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
