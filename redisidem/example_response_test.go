package redisidem_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/redisidem/redisidem/redisidem"
)

func ExampleResponse_Write() {
	sc, stop := exampleScope()
	defer stop()
	charge := func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Finish(redisidem.JSON(402, "no funds")), nil
	}
	handler := func(w http.ResponseWriter, r *http.Request) {
		req := redisidem.Request{Method: r.Method, Path: r.URL.Path}
		key, err := sc.Do(r.Context(), r.Header.Get("Idempotency-Key"), req, charge)
		if err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		_ = key.Response.Write(w) // its error is that of a client that has left
	}

	for range 2 { // the request, and its retry
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/charges", http.NoBody)
		r.Header.Set("Idempotency-Key", "key-from-the-client")
		handler(w, r)
		fmt.Println(w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	// Output:
	// 402 application/json "no funds"
	// 402 application/json "no funds"
}
