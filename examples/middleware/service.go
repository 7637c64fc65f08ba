package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// newHandler makes the service's handler with one of the routers. The order is what matters:
//
//	authentication, then rate limits, then idempotency, then the handler
//
// A caller that is not known, or asks too often, must not bind a key by that.
func newHandler(svc *redisidem.Service, router string) (http.Handler, error) {
	idempotency, err := httpidem.New(svc, tenantOf, &httpidem.Config{PublishRetention: true})
	if err != nil {
		return nil, err
	}
	s := &shop{}
	switch router {
	case "http":
		mux := http.NewServeMux()
		mux.HandleFunc("GET /charges", s.count)
		mux.Handle("POST /charges", idempotency.Handler(http.HandlerFunc(s.charge)))
		return authenticated(mux), nil
	case "chi":
		r := chi.NewRouter()
		r.Use(middleware.Recoverer, authenticated)
		r.Get("/charges", s.count)
		r.With(idempotency.Handler).Post("/charges", s.charge)
		return r, nil
	}
	return nil, fmt.Errorf("there is no router %q, only http and chi", router)
}

// tokens stand for a service's way to know its callers.
var tokens = map[string]string{"token-of-acme": "acme", "token-of-globex": "globex"}

type tenantContext struct{}

// authenticated lets only known callers in.
func authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		tenant, ok := tokens[token]
		if !ok {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tenantContext{}, tenant)))
	})
}

// tenantOf returns the authenticated caller, whose key it is. A scope must not be a value that the
// caller can choose.
func tenantOf(r *http.Request) (string, error) {
	tenant, ok := r.Context().Value(tenantContext{}).(string)
	if !ok {
		return "", errors.New("the request was not authenticated")
	}
	return tenant, nil
}

// shop charges cards.
type shop struct{ charges atomic.Int64 }

func (s *shop) charge(w http.ResponseWriter, r *http.Request) {
	var order struct{ Cents int64 }
	if err := json.NewDecoder(r.Body).Decode(&order); err != nil || order.Cents <= 0 {
		http.Error(w, "cents must be a number above 0", http.StatusBadRequest) // kept: the same request stays wrong
		return
	}
	// What goes out carries a key of its own, the same in each attempt, for the case that this
	// process dies before it answers.
	st := httpidem.Stage(r.Context())
	time.Sleep(200 * time.Millisecond) // the card network
	n := s.charges.Add(1)
	log.Printf("charge %d: %d cents, attempt %d, outbound key %s", n, order.Cents, st.Attempt(), st.OutboundKey("charge"))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	if err := json.NewEncoder(w).Encode(map[string]int64{"charge": n}); err != nil {
		log.Print(err)
	}
}

func (s *shop) count(w http.ResponseWriter, _ *http.Request) {
	if _, err := fmt.Fprintln(w, s.charges.Load(), "charges"); err != nil {
		log.Print(err)
	}
}
