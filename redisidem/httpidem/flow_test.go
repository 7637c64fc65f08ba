package httpidem_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// cartOrder is what the flow's stages know of a request.
type cartOrder struct{ Cents int }

func orderOf(_ *http.Request, body []byte) (any, error) {
	var o cartOrder
	err := json.Unmarshal(body, &o)
	return o, err
}

// payment is a flow of two stages, the first of which does what mode says.
func payment(t testing.TB, mode *atomic.Value, runs *atomic.Int64) *redisidem.Flow {
	t.Helper()
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "payment", Version: 1, Stages: []redisidem.FlowStage{
		{Point: redisidem.Started, Work: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			runs.Add(1)
			switch mode.Load() {
			case "fails":
				return redisidem.Outcome{}, errors.New("secret reason")
			case "unknown":
				return redisidem.Outcome{}, redisidem.ErrOutcomeUnknown
			case "idle":
				return redisidem.NothingDone(), nil
			case "interim":
				return redisidem.Interim(redisidem.Started, redisidem.JSON(http.StatusAccepted, "please confirm")), nil
			case "declined":
				return redisidem.Fail(redisidem.JSON(http.StatusPaymentRequired, "declined")), nil
			case "panics":
				panic(http.ErrAbortHandler)
			}
			return redisidem.Next(), nil
		}},
		{Point: "charged", Work: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			var o cartOrder
			if err := json.Unmarshal(st.Key().Params, &o); err != nil {
				return redisidem.Outcome{}, err
			}
			r := redisidem.JSON(http.StatusCreated, o)
			r.Header["Location"] = []string{"/orders/1"}
			r.Header["Set-Cookie"] = []string{"never=1"}
			r.Header["Idempotency-Replayed"] = []string{"forged"}
			return redisidem.Finish(r), nil
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return flow
}

func TestFlowAnswersARequest(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var mode atomic.Value
	var runs atomic.Int64
	seen := &results{}
	m := s.middleware(&httpidem.Config{Key: httpidem.KeyConfig{Optional: true}, Observer: seen.observe})
	h, err := m.Flow(payment(t, &mode, &runs), orderOf)
	if err != nil {
		t.Fatal(err)
	}
	server := serve(t, h)
	const body = `{"Cents":1200}`

	for _, c := range []struct {
		mode   string
		status int
		text   string
		retry  bool
	}{
		{"fails", 503, "not finished", true},
		{"unknown", 503, "not finished", true},
		{"idle", 409, "outstanding", true},
		{"interim", 202, "please confirm", false},
	} {
		mode.Store(c.mode)
		a := post(t, server.URL, "k", body)
		wantStatus(t, a, c.status)
		if !strings.Contains(a.body, c.text) || strings.Contains(a.body, "secret") || (a.Header.Get("Retry-After") != "") != c.retry ||
			a.replayed() || a.Header.Get("Idempotency-Key") != "k" {
			t.Errorf("%s: %v %s", c.mode, a.Header, a.body)
		}
	}
	mode.Store("")
	first := post(t, server.URL, "k", body)
	wantStatus(t, first, 201)
	again := post(t, server.URL, "k", body)
	wantStatus(t, again, 201)
	for _, a := range []answer{first, again} {
		if a.body != `{"Cents":1200}` || a.Header.Get("Location") != "/orders/1" || a.Header.Get("Set-Cookie") != "" {
			t.Errorf("%v %s", a.Header, a.body)
		}
	}
	if first.replayed() || !again.replayed() || runs.Load() != 5 {
		t.Errorf("replayed %v, %v; %d runs", first.replayed(), again.replayed(), runs.Load())
	}
	wantStatus(t, post(t, server.URL, "k", `{"Cents":1}`), 422)
	wantStatus(t, post(t, server.URL, "bad", `no JSON`), 400)

	mode.Store("declined")
	for i := range 2 {
		a := post(t, server.URL, "declined", body)
		wantStatus(t, a, 402)
		if a.replayed() != (i == 1) {
			t.Errorf("%d: replayed %v", i, a.replayed())
		}
	}
	mode.Store("panics")
	if _, err := try(t.Context(), server.URL, "panic", body); err == nil {
		t.Error("the panic does not reach the server")
	}
	mode.Store("")
	wantStatus(t, post(t, server.URL, "panic", body), 201)

	wantStatus(t, post(t, server.URL, "", body, func(r *http.Request) { r.Header.Del("Idempotency-Key") }), 400)
	a := post(t, server.URL, "k", body, func(r *http.Request) { r.Method = http.MethodPut })
	wantStatus(t, a, 405)
	if a.Header.Get("Allow") == "" {
		t.Error("405 without Allow")
	}
	if m.Count(httpidem.ResultUnfinished) != 2 || m.Count(httpidem.ResultPanicked) == 0 || m.Count(httpidem.ResultExecuted) != 4 || m.Count(httpidem.ResultReplayed) != 2 {
		t.Errorf("the results are %v", seen.events)
	}
}

// TestFlowWithoutAResponse finishes a flow with nothing to say. The request and its retries get the
// same answer.
func TestFlowWithoutAResponse(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "quiet", Version: 1, Stages: []redisidem.FlowStage{
		{Point: redisidem.Started, Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Outcome{RecoveryPoint: redisidem.Finished}, nil
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := s.middleware(nil).Flow(flow, nil)
	if err != nil {
		t.Fatal(err)
	}
	server := serve(t, h)
	for i := range 2 {
		a := post(t, server.URL, "k", "")
		wantStatus(t, a, http.StatusNoContent)
		if a.body != "" || a.replayed() != (i == 1) {
			t.Errorf("%d: replayed %v, %q", i, a.replayed(), a.body)
		}
	}
}

// TestPausedFlowAsksClientsToComeBack pauses a flow that has answered a request.
func TestPausedFlowAsksClientsToComeBack(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	svc := s.service(redisidem.Config{})
	var mode atomic.Value
	var runs atomic.Int64
	cfg := payment(t, &mode, &runs).Config()
	cfg.Pausable = true
	flow, err := redisidem.NewFlow(cfg)
	if err != nil {
		t.Fatal(err)
	}
	in := redisidem.NewInspector(svc)
	if err := in.Pause(t.Context(), "other", true, redisidem.Act{Actor: "ann", Reason: "secret reason"}); err != nil {
		t.Fatal(err)
	}
	m := newMiddleware(t, svc, &httpidem.Config{MaxRetryAfter: 20 * time.Second})
	h, err := m.Flow(flow, orderOf)
	if err != nil {
		t.Fatal(err)
	}
	server := serve(t, h)
	const body = `{"Cents":1200}`
	if r := post(t, server.URL, "finished", body); r.StatusCode != http.StatusCreated {
		t.Fatalf("before the pause the answer is %+v", r)
	}
	if err := in.Pause(t.Context(), "payment", true, redisidem.Act{Actor: "ann", Reason: "secret reason"}); err != nil {
		t.Fatal(err)
	}
	other := newMiddleware(t, s.service(redisidem.Config{}), &httpidem.Config{MaxRetryAfter: 20 * time.Second}) // has not read the pauses yet
	if h, err = other.Flow(flow, orderOf); err != nil {
		t.Fatal(err)
	}
	server = serve(t, h)
	r := post(t, server.URL, "new", body)
	if r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") != "20" || r.Header.Get(idemheader.Problem) != "paused" ||
		strings.Contains(r.body, "secret") || !strings.Contains(r.body, "#paused") {
		t.Errorf("the answer of the paused flow is %+v", r)
	}
	if r := post(t, server.URL, "finished", body); r.StatusCode != http.StatusCreated || r.Header.Get(idemheader.Replayed) == "" {
		t.Errorf("the finished key is answered with %+v", r)
	}
	if runs.Load() != 1 {
		t.Errorf("the stage ran %d times", runs.Load())
	}
}

func TestFlowThatCannotBeginIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var mode atomic.Value
	var runs atomic.Int64
	seen := &results{}
	svc := s.service(redisidem.Config{MaxValueBytes: 100})
	m := newMiddleware(t, svc, &httpidem.Config{Observer: seen.observe})
	h, err := m.Flow(payment(t, &mode, &runs), func(r *http.Request, body []byte) (any, error) {
		if r.URL.Path == "/unfit" {
			return make(chan int), nil
		}
		return body, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	server := serve(t, h)
	for _, c := range []struct {
		path, body string
		status     int
		result     httpidem.Result
	}{
		{"/", strings.Repeat("x", 101), http.StatusRequestEntityTooLarge, httpidem.ResultBodyTooLarge},
		{"/" + strings.Repeat("p", 100), "x", http.StatusInternalServerError, httpidem.ResultFailed},
		{"/unfit", "x", http.StatusInternalServerError, httpidem.ResultFailed},
	} {
		a := post(t, server.URL+c.path, "k", c.body)
		wantStatus(t, a, c.status)
		if e := seen.last(t); a.Header.Get("Retry-After") != "" || e.Result != c.result || !errors.Is(e.Err, redisidem.ErrInvalid) {
			t.Errorf("%.10s: %v, %+v", c.path, a.Header, e)
		}
	}
	if n := len(s.redis.Keys()); n != 0 || runs.Load() != 0 {
		t.Errorf("%d keys, %d runs", n, runs.Load())
	}
}

// TestFlowWhoseStageIsRefused has stages that fail as input that is refused does. A stage whose
// outcome cannot be stored was executed, and does not run again; one that something else refused
// does.
func TestFlowWhoseStageIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		work   redisidem.StageFunc
		status int
		word   string
		runs   int64
	}{
		"its outcome cannot be stored": {func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Finish(redisidem.Response{Code: 200, Body: make([]byte, 200)}), nil
		}, http.StatusGone, "#gone", 1},
		"something that it called": {func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Outcome{}, &redisidem.InvalidError{Field: "Request.Params", Reason: "of another service"}
		}, http.StatusServiceUnavailable, "#unfinished", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var runs atomic.Int64
			flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "f", Version: 1, Stages: []redisidem.FlowStage{
				{Point: redisidem.Started, Work: func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					runs.Add(1)
					return c.work(ctx, st)
				}},
			}})
			if err != nil {
				t.Fatal(err)
			}
			h, err := newMiddleware(t, newStore(t).service(redisidem.Config{MaxValueBytes: 100}), nil).Flow(flow, nil)
			if err != nil {
				t.Fatal(err)
			}
			url := serve(t, h).URL
			for range 2 {
				a := post(t, url, "k", "b")
				wantStatus(t, a, c.status)
				if !strings.Contains(a.body, c.word) || (a.Header.Get("Retry-After") == "") != (c.status == http.StatusGone) {
					t.Errorf("%v %s", a.Header, a.body)
				}
			}
			if runs.Load() != c.runs {
				t.Errorf("the stage ran %d times, want %d", runs.Load(), c.runs)
			}
		})
	}
}

func TestFlowGoesOnWhenTheClientLeaves(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	began, hold := make(chan struct{}), make(chan struct{})
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "slow", Version: 1, Stages: []redisidem.FlowStage{
		{Point: redisidem.Started, Work: func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
			close(began)
			<-hold
			return redisidem.Finish(redisidem.JSON(200, "done")), ctx.Err()
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := s.middleware(&httpidem.Config{Wait: 10 * time.Second}).Flow(flow, nil)
	if err != nil {
		t.Fatal(err)
	}
	server := serve(t, h)
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := try(ctx, server.URL, "k", "")
		left <- err
	}()
	<-began
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	close(hold)
	a := post(t, server.URL, "k", "")
	wantStatus(t, a, 200)
	if !a.replayed() || a.body != `"done"` {
		t.Errorf("%v %s", a.Header, a.body)
	}
}

func TestFlowsThatAreRefused(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var mode atomic.Value
	var runs atomic.Int64
	flow := payment(t, &mode, &runs)
	if _, err := s.middleware(nil).Flow(nil, nil); !errors.Is(err, redisidem.ErrInvalid) {
		t.Errorf("a nil flow: %v", err)
	}
	old := s.middleware(&httpidem.Config{OtherFingerprints: []httpidem.Fingerprint{{Version: 2}}})
	if _, err := old.Flow(flow, nil); !errors.Is(err, redisidem.ErrInvalid) {
		t.Errorf("other fingerprints: %v", err)
	}
	// A key of another version's: a newer server may have it.
	h, err := s.middleware(nil).Flow(flow, orderOf)
	if err != nil {
		t.Fatal(err)
	}
	mode.Store("interim")
	wantStatus(t, post(t, serve(t, h).URL, "k", `{}`), 202)
	cfg := flow.Config()
	cfg.Version = 2
	newer, err := redisidem.NewFlow(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if h, err = s.middleware(nil).Flow(newer, orderOf); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, post(t, serve(t, h).URL, "k", `{}`), 503)
}

func TestWaitingDuplicatesOfAFlowGetItsInterimAnswer(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var runs atomic.Int64
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "payment", Version: 1, Stages: []redisidem.FlowStage{{
		Point: redisidem.Started,
		Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			runs.Add(1)
			time.Sleep(300 * time.Millisecond)
			return redisidem.Interim(redisidem.Started, redisidem.JSON(http.StatusAccepted, "please confirm")), nil
		},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	var urls []string // of two processes
	for range 2 {
		h, err := s.middleware(&httpidem.Config{Wait: 20 * time.Second}).Flow(flow, orderOf)
		if err != nil {
			t.Fatal(err)
		}
		urls = append(urls, serve(t, h).URL)
	}
	var replayed atomic.Int64
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			a, err := try(t.Context(), urls[i%2], "k", `{"Cents":1200}`)
			if err != nil || a.StatusCode != http.StatusAccepted || !strings.Contains(a.body, "please confirm") {
				t.Errorf("%v, %v", a, err)
				return
			}
			if a.replayed() {
				replayed.Add(1)
			}
		})
	}
	wg.Wait()
	if runs.Load() != 1 || replayed.Load() != 15 {
		t.Errorf("%d runs for 16 duplicates, %d of them were answered with a replay", runs.Load(), replayed.Load())
	}
	// The client that has confirmed is no duplicate.
	again := post(t, urls[0], "k", `{"Cents":1200}`)
	wantStatus(t, again, http.StatusAccepted)
	if runs.Load() != 2 || again.replayed() {
		t.Errorf("%d runs, replayed %t", runs.Load(), again.replayed())
	}
}

// TestErrorsOfStagesAboutOtherKeysAreNotAboutThis has a stage that uses another key, and hands its
// errors on.
func TestErrorsOfStagesAboutOtherKeysAreNotAboutThis(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	core := s.service(redisidem.Config{})
	inner := core.Scope("inner")
	if _, err := inner.Do(context.Background(), "x", redisidem.Request{Path: "/1"}, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Finish(redisidem.JSON(200, "x")), nil
	}); err != nil {
		t.Fatal(err)
	}
	for name, stageErr := range map[string]func(ctx context.Context) error{
		"mismatch": func(ctx context.Context) error {
			_, err := inner.Do(ctx, "x", redisidem.Request{Path: "/2"}, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Outcome{}, nil
			})
			return err
		},
		"unavailable": func(context.Context) error { return redisidem.ErrUnavailable },
		"notkept":     func(context.Context) error { return &redisidem.NotKeptError{Part: "x"} },
		"locked":      func(context.Context) error { return &redisidem.LockedError{} },
	} {
		charged := 0
		flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "payment", Version: 1, Stages: []redisidem.FlowStage{
			{Point: redisidem.Started, Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				charged++
				return redisidem.Next(), nil
			}},
			{Point: "charged", Work: func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Outcome{}, stageErr(ctx)
			}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		m := newMiddleware(t, core, &httpidem.Config{})
		h, err := m.Flow(flow, nil)
		if err != nil {
			t.Fatal(err)
		}
		w := call(h, newRequest(t.Context(), name, ""))
		if w.Code != 503 || w.Header().Get(idemheader.Problem) != "unfinished" || charged != 1 {
			t.Errorf("%s: %d %s, charged %d times", name, w.Code, w.Header().Get(idemheader.Problem), charged)
		}
	}
}
