package httpidem_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

func TestStatusByWhichAResponseIsJudged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status            int
		mediaType         string
		inHeader, trailer string
		want              int
	}{
		{200, "text/plain", "", "14", 200},
		{503, "application/grpc", "", "0", 503},
		{200, "application/grpc-web", "", "", 200},
		{200, "application/grpc", "", "0", 200},
		{200, "application/grpc+proto", "", "14", 503},
		{200, "Application/GRPC;a=b", "5", "", 404},
		{200, "application/grpc", "", "", 502},
		{200, "application/grpc", "", "1", 504},
		{200, "application/grpc", "", "10", 425},
		{200, "application/grpc", "", "12", 425},
		{200, "application/grpc", "", "16", 401},
		{200, "application/grpc", "", "17", 500},
		{200, "application/grpc", "", "-1", 500},
		{200, "application/grpc", "", "ok", 500},
	} {
		header, trailer := http.Header{"Content-Type": {c.mediaType}}, http.Header{}
		if c.inHeader != "" {
			header.Set("Grpc-Status", c.inHeader)
		}
		if c.trailer != "" {
			trailer.Set("Grpc-Status", c.trailer)
		}
		if got := httpidem.EquivalentStatus(c.status, header, trailer); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

// TestGRPCResponsesAreKeptByTheirOutcome has a handler that answers 200 with a grpc-status.
func TestGRPCResponsesAreKeptByTheirOutcome(t *testing.T) {
	t.Parallel()
	for code, kept := range map[string]bool{"0": true, "5": true, "14": false, "13": false, "8": false, "10": false, "": false} {
		m := newStore(t).middleware(nil)
		h := counting(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.WriteHeader(http.StatusOK)
			_, _ = fmt.Fprint(w, "message")
			if code != "" {
				w.Header().Set(http.TrailerPrefix+"Grpc-Status", code)
			}
		})
		runs := int64(1)
		if !kept {
			runs = 2
		}
		for range 2 {
			call(m.Handler(h), newRequest(t.Context(), "k", ""))
		}
		if got := h.runs.Load(); got != runs {
			t.Errorf("grpc-status %q: the handler ran %d times, want %d", code, got, runs)
		}
		if unknown := m.Count(httpidem.ResultOutcomeUnknown) > 0; unknown != (code == "14" || code == "") {
			t.Errorf("grpc-status %q: the outcome is unknown: %t", code, unknown)
		}
	}
}
