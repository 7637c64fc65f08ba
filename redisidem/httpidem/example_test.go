package httpidem_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// callerOf returns the authenticated caller, which authentication has put into the context.
func callerOf(r *http.Request) (string, error) {
	if name, ok := r.Context().Value(callerContext{}).(string); ok {
		return name, nil
	}
	return "", fmt.Errorf("no caller")
}

type callerContext struct{}

// authenticate stands for an API's own authentication.
func authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerContext{}, "tenant-42")))
	})
}

// exampleService returns a service on an embedded Redis, which stands for a production's.
func exampleService() (svc *redisidem.Service, stop func()) {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	svc, err = redisidem.Open(context.Background(), "redis://"+server.Addr(), nil)
	if err != nil {
		log.Fatal(err)
	}
	return svc, func() {
		_ = svc.Close(context.Background())
		server.Close()
	}
}

// A handler runs once for each key, and retries get its answer.
func Example() {
	svc, stop := exampleService()
	defer stop()

	idem, err := httpidem.New(svc, callerOf, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	charges := 0
	charge := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		charges++
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprintf(w, "charge %d, attempt %d", charges, httpidem.Stage(r.Context()).Attempt())
	})
	mux := http.NewServeMux()
	mux.Handle("POST /charges", authenticate(idem.Handler(charge)))

	send := func(body string) {
		r := httptest.NewRequest(http.MethodPost, "/charges", strings.NewReader(body))
		r.Header.Set("Idempotency-Key", `"8e03978e-40d5-43dd-bc93-6894a57f9324"`)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		answer := w.Body.String()
		if problem := w.Header().Get("Idempotency-Problem"); problem != "" {
			answer = problem
		}
		fmt.Println(w.Code, answer, "replayed:", w.Header().Get("Idempotency-Replayed") != "")
	}
	send(`{"cents":1200}`)
	send(`{"cents":1200}`) // a retry
	send(`{"cents":9900}`) // a mistake
	// Output:
	// 201 charge 1, attempt 1 replayed: false
	// 201 charge 1, attempt 1 replayed: true
	// 422 mismatch replayed: false
}

// A webhook of Stripe is handled once for each event. While the endpoint's secret is replaced, both
// secrets are accepted.
func ExampleNewWebhook() {
	svc, stop := exampleService()
	defer stop()

	hook, err := httpidem.NewWebhook(svc, httpidem.StripeWebhook("whsec_new", "whsec_old"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	paid := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("paid:", httpidem.Stage(r.Context()).Key().Value)
		w.WriteHeader(http.StatusNoContent)
	})
	mux := http.NewServeMux()
	mux.Handle("POST /webhooks/stripe", hook.Handler(paid))

	deliver := func(secret string) {
		const event = `{"id":"evt_1","type":"payment_intent.succeeded"}`
		at := strconv.FormatInt(time.Now().Unix(), 10)
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(at + "." + event))
		r := httptest.NewRequest(http.MethodPost, "/webhooks/stripe", strings.NewReader(event))
		r.Header.Set("Stripe-Signature", fmt.Sprintf("t=%s,v1=%x", at, mac.Sum(nil)))
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(w.Code, "replayed:", w.Header().Get("Idempotency-Replayed") != "")
	}
	deliver("whsec_old")
	deliver("whsec_new") // the same event again
	deliver("whsec_false")
	// Output:
	// paid: evt_1
	// 204 replayed: false
	// 204 replayed: true
	// 403 replayed: false
}
