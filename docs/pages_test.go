package docs

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/console"
	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemtest"
)

// These tests run blocks of pages that no example has.

// TestPageMiddleware is about README.md and http.md.
func TestPageMiddleware(t *testing.T) {
	t.Parallel()
	svc := idemtest.NewService(t, nil)
	tenantOf := func(*http.Request) (string, error) { return "tenant", nil }
	charges := 0
	chargeHandler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { charges++ })
	post := func(mux *http.ServeMux) {
		t.Helper()
		for range 2 {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/charges", nil)
			r.Header.Set("Idempotency-Key", t.Name())
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				t.Errorf("status %d: %s", w.Code, w.Body)
			}
		}
		if charges != 1 {
			t.Errorf("%d charges", charges)
		}
	}
	mux := http.NewServeMux()
	idempotency, err := httpidem.New(svc, tenantOf, nil) // func(*http.Request) (string, error), from the authenticated caller
	mux.Handle("POST /charges", idempotency.Handler(chargeHandler))
	if err != nil {
		t.Fatal(err)
	}
	post(mux)

	mux = http.NewServeMux()
	idem, ran := idempotency, ""
	authenticate := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ran += "authenticate "
			next.ServeHTTP(w, r)
		})
	}
	limitRate := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ran += "limit "
			next.ServeHTTP(w, r)
		})
	}
	mux.Handle("POST /charges", authenticate(limitRate(idem.Handler(chargeHandler))))
	post(mux)
	if ran != strings.Repeat("authenticate limit ", 2) {
		t.Errorf("in front of the replays ran: %s", ran)
	}
}

// TestPageStages is about README.md.
func TestPageStages(t *testing.T) {
	t.Parallel()
	ctx, scope := t.Context(), idemtest.NewService(t, nil).Scope("tenant")
	req, ran := redisidem.Request{Method: http.MethodPost, Path: "/carts"}, ""
	stage := func(name string, outcome redisidem.Outcome) redisidem.StageFunc {
		return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			ran += name + " "
			return outcome, nil
		}
	}
	done := redisidem.Finish(redisidem.JSON(http.StatusCreated, "order 1"))

	t.Run("Loop", func(t *testing.T) { //nolint:paralleltest // shares what ran
		keyOfTheRequest := "loop"
		createTaxLines := stage("tax", redisidem.Advance("tax_lines_created"))
		authorizePayment := stage("payment", done)
		key, err := scope.InitializeRequest(ctx, keyOfTheRequest, req)
		for err == nil && !key.Answered() {
			switch key.RecoveryPoint {
			case redisidem.Started:
				key, err = scope.WorkStage(ctx, key, createTaxLines) // func(context.Context, *Stage) (Outcome, error)
			case "tax_lines_created":
				key, err = scope.WorkStage(ctx, key, authorizePayment)
			default:
				err = redisidem.ErrUnknownRecoveryPoint
			}
		}
		if err != nil || !key.Finished() || ran != "tax payment " {
			t.Errorf("%v, ran: %s", err, ran)
		}
	})
	//nolint:paralleltest,ineffassign,staticcheck,wastedassign // shares what ran; the page leaves a check out
	t.Run("Flow", func(t *testing.T) {
		ran = ""
		keyOfTheRequest := "flow"
		createTaxLines := stage("tax", redisidem.Next())
		authorizePayment := stage("payment", redisidem.Next())
		createOrder := stage("order", done)
		releaseTaxLines := func(context.Context, *redisidem.Stage) error { return nil }
		voidPayment := releaseTaxLines
		checkout, err := redisidem.NewFlow(redisidem.FlowConfig{
			Name: "checkout", Version: 1, RecoverAfter: time.Minute,
			Stages: []redisidem.FlowStage{
				{Point: redisidem.Started, Work: createTaxLines, Compensate: releaseTaxLines},
				{Point: "tax_lines_created", Work: authorizePayment, CompensateFailed: true, Compensate: voidPayment},
				{Point: "payment_authorized", Work: createOrder, NoReturn: true},
			},
		})
		key, err := scope.DoFlow(ctx, keyOfTheRequest, req, checkout)
		if err != nil || !key.Finished() || ran != "tax payment order " {
			t.Errorf("%v, ran: %s", err, ran)
		}
	})
}

// TestPageConsole is about console.md.
func TestPageConsole(t *testing.T) {
	t.Parallel()
	service := idemtest.NewService(t, nil)
	file := strings.NewReader("operator alice the-secret-of-alice\n")
	mux, server, activity := http.NewServeMux(), new(http.Server), console.NewActivity() //nolint:gosec // never listens
	//nolint:ineffassign,staticcheck,wastedassign // the page leaves checks of errors out
	serve := func() error {
		users, err := console.ReadCredentials(file)
		c, err := console.New(redisidem.NewInspector(service), console.Config{
			Authorize: users.Basic, Challenge: `Basic realm="console"`, Write: true, Check: service.Check,
			Activity: activity, // from console.NewActivity, and also the service's Config.Observer
		})
		mux.Handle("/console/", http.StripPrefix("/console", c))
		server.RegisterOnShutdown(c.Close) // live pages do not hold up the shutdown
		return err
	}
	if err := serve(); err != nil {
		t.Fatal(err)
	}
	for secret, want := range map[string]int{"another-secret-x": http.StatusUnauthorized, "the-secret-of-alice": http.StatusOK} {
		w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/console/", nil)
		r.SetBasicAuth("alice", secret)
		mux.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: status %d, want %d: %s", secret, w.Code, want, w.Body)
		}
	}
	if err := server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestPageLargeBodies is about the spool of http.md.
func TestPageLargeBodies(t *testing.T) {
	t.Parallel()
	service := idemtest.NewService(t, nil)
	scope := func(*http.Request) (string, error) { return "a", nil }
	//nolint:ineffassign,staticcheck,wastedassign // the page leaves checks of errors out
	protect := func() (*httpidem.Middleware, error) {
		spool, err := httpidem.NewSpool(&httpidem.SpoolConfig{Dir: "/var/spool/orders", MaxBytes: 10 << 30}) // one for the process
		m, err := httpidem.New(service, scope, &httpidem.Config{MaxBodyBytes: 100 << 20, Spool: spool})
		return m, err
	}
	if m, err := protect(); m == nil || err != nil {
		t.Errorf("without the folder, the bodies are not in memory: %v", err)
	}
}
