package redisidem

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
)

func TestHeaderRoundTrip(t *testing.T) {
	t.Parallel()
	for _, h := range []map[string][]string{
		nil,
		{"Content-Type": {"application/json"}},
		{"Set-Cookie": {"a=1", "b=2", "a=1"}, "X": {""}},
		{"X-Latin": {"caf\xe9"}, "X-Colon": {"a: b: c"}, "X-Space": {" a "}},
		{"x": {"lower"}, "X": {"upper"}},
	} {
		got, err := decodeHeader(string(encodeHeader(h)))
		if err != nil || !reflect.DeepEqual(got, h) {
			t.Errorf("%q came back as %q, %v", h, got, err)
		}
	}
	for _, bad := range []string{"X", "X: a", "X: a\n", ": a\r\n", "X:a\r\n", "X: a\r\nY", "X: a\nb\r\n", "X: a\x00\r\n", "\r\n"} {
		if h, err := decodeHeader(bad); err == nil {
			t.Errorf("%q decodes to %q", bad, h)
		}
	}
}

func TestResponseIsWritten(t *testing.T) {
	t.Parallel()
	declined := JSON(402, map[string]string{"reason": "no funds"})
	for name, c := range map[string]struct {
		response *Response
		code     int
		header   http.Header
		body     string
	}{
		"JSON":        {&declined, 402, http.Header{"X-Own": {"kept"}, "Content-Type": {"application/json"}}, `{"reason":"no funds"}`},
		"none":        {nil, 204, http.Header{"X-Own": {"kept"}, "Content-Type": {"text/html"}}, ""},
		"zero":        {&Response{}, 204, http.Header{"X-Own": {"kept"}, "Content-Type": {"text/html"}}, ""},
		"only a body": {&Response{Body: []byte("a")}, 200, http.Header{"X-Own": {"kept"}, "Content-Type": {"text/html"}}, "a"},
		"lower case": {
			&Response{Code: 303, Header: map[string][]string{"location": {"/a"}, "x-own": {"b", "c"}}},
			303,
			http.Header{"X-Own": {"b", "c"}, "Location": {"/a"}, "Content-Type": {"text/html"}},
			"",
		},
	} {
		w := httptest.NewRecorder()
		w.Header().Set("X-Own", "kept")
		w.Header().Set("Content-Type", "text/html")
		if err := c.response.Write(w); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if w.Code != c.code || w.Body.String() != c.body || !reflect.DeepEqual(w.Result().Header, c.header) {
			t.Errorf("%s: wrote %d, %q and %q, want %+v", name, w.Code, w.Result().Header, w.Body, c)
		}
	}
	if len(declined.Header["Content-Type"]) != 1 {
		t.Errorf("the response was changed: %+v", declined)
	}
}

// TestResponseThatCannotBeSentIsNotWritten looks that nothing was sent, so that the handler can
// still answer with an error.
func TestResponseThatCannotBeSentIsNotWritten(t *testing.T) {
	t.Parallel()
	unwritable := JSON(200, func() {})
	for field, r := range map[string]*Response{
		"Response.Body": &unwritable, "Response.Code": {Code: 100}, "Response.Header": {Code: 200, Header: map[string][]string{"A": {"b\nc"}}},
	} {
		w := httptest.NewRecorder()
		err := r.Write(w)
		if invalid, ok := errors.AsType[*InvalidError](err); !ok || invalid.Field != field {
			t.Errorf("%s: the error is %v", field, err)
		}
		if w.Body.Len() > 0 || len(w.Header()) > 0 {
			t.Errorf("%s: wrote %q and %q", field, w.Header(), w.Body)
		}
	}
	body := &Response{Code: 204, Body: []byte("a")}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := body.Write(w); !errors.Is(err, http.ErrBodyNotAllowed) {
			t.Errorf("the error is %v", err)
		}
	}))
	defer server.Close()
	answer, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil || answer.StatusCode != http.StatusNoContent {
		t.Errorf("the status is %d, %v", answer.StatusCode, err)
	}
}
