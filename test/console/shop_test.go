package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/console"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// users are an operator and a viewer.
const users = `
operator ann ann-s-password-1234
viewer   bob bob-s-password-1234
`

var errProvider = errors.New("the provider is away")

// shop is a service with orders at /orders, whose payments fail, and its console at /ops/.
type shop struct {
	*testing.T
	*httptest.Server
	svc      *redisidem.Service
	raw      *redis.Client
	charges  atomic.Int64 // of payments
	watchers atomic.Int64 // open live pages
}

func newShop(t *testing.T) *shop {
	t.Helper()
	server := rediscase.Server(t, redistest.Args("--appendonly", "yes"))
	s := &shop{T: t, raw: server.Client()}
	t.Cleanup(func() { _ = s.raw.Close() })
	activity := console.NewActivity()
	var err error
	s.svc, err = redisidem.OpenUnchecked("redis://"+server.Addr(), &redisidem.Config{Timeout: 20 * time.Second, Lease: time.Hour, Owner: "shop-7f9c", Observer: activity})
	s.must(err)
	t.Cleanup(func() { _ = s.svc.Close(context.Background()) })
	checkout, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "checkout", Version: 2, Stages: []redisidem.FlowStage{
		{Point: redisidem.Started, Work: s.ends(redisidem.Next(), nil)},
		{Point: "stock_reserved", Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			s.charges.Add(1)
			return redisidem.Outcome{}, errProvider
		}},
	}})
	s.must(err)
	idempotency, err := httpidem.New(s.svc, func(r *http.Request) (string, error) { return r.Header.Get("X-Tenant"), nil }, nil)
	s.must(err)
	orders, err := idempotency.Flow(checkout, func(_ *http.Request, body []byte) (any, error) { return body, nil })
	s.must(err)
	known, err := console.ReadCredentials(strings.NewReader(users))
	s.must(err)
	pages, err := console.New(redisidem.NewInspector(s.svc), console.Config{
		Authorize: known.Basic, Challenge: `Basic realm="console"`, Write: true, Check: s.svc.Check, Refresh: 50 * time.Millisecond, Activity: activity,
	})
	s.must(err)
	mux := http.NewServeMux()
	mux.Handle("POST /orders", orders)
	mux.Handle("/ops/", http.StripPrefix("/ops", pages))
	mux.HandleFunc("GET /ops/live", func(w http.ResponseWriter, r *http.Request) {
		s.watchers.Add(1)
		defer s.watchers.Add(-1)
		http.StripPrefix("/ops", pages).ServeHTTP(w, r)
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(func() {
		pages.Close()
		s.Close()
	})
	return s
}

func (s *shop) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *shop) ends(o redisidem.Outcome, err error) redisidem.StageFunc {
	return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return o, err }
}

// order sends an order and returns the answer and its body.
func (s *shop) order(key string) (response *http.Response, body string) {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), http.MethodPost, s.URL+"/orders", strings.NewReader(`{"cart":7}`))
	s.must(err)
	r.Header.Set("Idempotency-Key", fmt.Sprintf("%q", key))
	r.Header.Set("X-Tenant", "acme")
	r.Header.Set("Content-Type", "application/json")
	response, err = s.Client().Do(r)
	s.must(err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	s.must(err)
	return response, string(text)
}

// fill makes keys in each state, so that the pages have something to show.
func (s *shop) fill() {
	s.Helper()
	ctx := s.Context()
	request := redisidem.Request{Method: "POST", Path: "/orders", Params: []byte(`{"cart":8}`)}
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "refund", Version: 1, RecoverAfter: time.Millisecond, MaxAttempts: 1,
		Stages: []redisidem.FlowStage{{Point: redisidem.Started, Work: s.ends(redisidem.Next(), nil)}, {Point: "approved", Work: s.ends(redisidem.Outcome{}, errProvider)}},
	})
	s.must(err)
	answer := redisidem.JSON(201, map[string]any{"order": 4711, "total": "42.00", "lines": []string{"a book", "a pen"}})
	expect := func(err error) {
		s.Helper()
		if err != nil && !errors.Is(err, errProvider) {
			s.Fatal(err)
		}
	}
	for i := range 60 {
		_, err := s.svc.Scope(fmt.Sprint("tenant-", i%7)).Do(ctx, fmt.Sprint("order-", i), request, s.ends(redisidem.Finish(answer), nil))
		expect(err)
	}
	for i := range 6 {
		value := fmt.Sprintf("0193c7d2-5b1e-7c3a-9d4f-00000000000%d", i)
		_, err := s.svc.Scope("acme").Do(ctx, value+"-i", request, s.ends(redisidem.Outcome{}, errProvider))
		expect(err)
		_, err = s.svc.Scope("globex").DoFlow(ctx, value, request, flow)
		expect(err)
		_, err = s.svc.Scope("globex").Do(ctx, value+"-m", request, s.ends(redisidem.Interim("confirmed", redisidem.JSON(202, "confirm")), nil))
		expect(err)
		for _, scope := range []string{"idle", "in-flight", "abandoned", "unreadable"} {
			sc := s.svc.Scope(scope)
			_, err := sc.InitializeRequest(ctx, value, request)
			expect(err)
			names := s.raw.Keys(ctx, "*:"+sc.ID(value)).Val()
			if len(names) != 1 {
				s.Fatalf("the records of a key are %q", names)
			}
			switch scope {
			case "unreadable":
				expect(s.raw.HSet(ctx, names[0], "control", "9 of another version").Err())
			case "in-flight", "abandoned":
				lease, err := sc.Lock(ctx, value)
				expect(err)
				s.Cleanup(func() { _ = lease.Abandon(context.Background()) })
				if scope == "abandoned" {
					expect(s.raw.Del(ctx, names[0]+":lock").Err())
				}
			}
		}
	}
	completer, err := redisidem.NewCompleter(s.svc, []*redisidem.Flow{flow}, nil)
	s.must(err)
	var dead int64
	for end := time.Now().Add(30 * time.Second); dead < 6 && time.Now().Before(end); {
		swept, err := completer.Sweep(ctx)
		s.must(err)
		dead += swept.DeadLettered
	}
	if dead != 6 {
		s.Fatalf("%d keys became dead letters", dead)
	}
}
