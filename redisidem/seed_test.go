package redisidem_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

// Each deliberate difference to the service this library follows; the numbers are those of docs/compatibility.md.

// returns is a stage that ends with an outcome.
func returns(o redisidem.Outcome) redisidem.StageFunc {
	return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return o, nil }
}

// drive is the loop over recovery points as a program has it.
func drive(sc *redisidem.Scope, value string, req redisidem.Request, stages map[string]redisidem.StageFunc) (*redisidem.Key, error) {
	key, err := sc.InitializeRequest(ctx, value, req)
	for err == nil && !key.Answered() {
		work, ok := stages[key.RecoveryPoint]
		if !ok {
			return key, redisidem.ErrUnknownRecoveryPoint
		}
		key, err = sc.WorkStage(ctx, key, work)
	}
	return key, err
}

// locked takes the lease on a key that is made if it is not there.
func locked(t testing.TB, sc *redisidem.Scope, value string) *redisidem.Lease {
	t.Helper()
	start(t, sc, value)
	lease, err := sc.Lock(ctx, value)
	mustBe(t, err, nil)
	return lease
}

// lapse lets the lease on a key run out on the server, while its owner does not notice.
func lapse(t testing.TB, e *env, raw redis.UniversalClient, key *redisidem.Key) {
	t.Helper()
	_, lock := e.place(key)
	if n, err := raw.Del(ctx, lock).Result(); n != 1 || err != nil {
		t.Fatalf("%d locks lapsed, %v", n, err)
	}
}

// mustHold checks the body that is stored with a key.
func mustHold(t testing.TB, key *redisidem.Key, body string) {
	t.Helper()
	if key.Response == nil || string(key.Response.Body) != body {
		t.Fatalf("the response is %+v, want the body %s", key.Response, body)
	}
}

// mustStandAt checks how far a key got.
func mustStandAt(t testing.TB, key *redisidem.Key, point string, revision int64) {
	t.Helper()
	if key.RecoveryPoint != point || key.Revision != revision {
		t.Fatalf("the key stands at %q, revision %d, want %q, %d", key.RecoveryPoint, key.Revision, point, revision)
	}
}

// otherRequests differ from request in one part each.
var otherRequests = map[string]redisidem.Request{
	"method": {Method: "PUT", Path: request.Path, Params: request.Params},
	"path":   {Method: request.Method, Path: "/carts/2/complete", Params: request.Params},
	"params": {Method: request.Method, Path: request.Path, Params: map[string]any{"cart": 2}},
}

var errUpstream = errors.New("upstream is down")

func TestSeedM1ClientsKeyIsStored(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		key := start(t, e.service().Scope("a"), "chosen by the client")
		if key.Value != "chosen by the client" {
			t.Fatalf("the key is %q", key.Value)
		}
		_, err := e.service().Scope("a").WorkStage(ctx, key, finish("paid"))
		mustBe(t, err, nil)
		// The response was lost, and the client tries again elsewhere.
		again := start(t, e.service().Scope("a"), "chosen by the client")
		mustHold(t, again, `"paid"`)
		if !again.Replayed() {
			t.Error("not a replay")
		}
	})
}

func TestSeedM2OnlyOneRunsAStage(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		key := start(t, sc, "k")
		var runs atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				_, err := sc.WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					runs.Add(1)
					time.Sleep(20 * time.Millisecond)
					return redisidem.Outcome{}, nil
				})
				if err != nil && !errors.Is(err, redisidem.ErrLocked) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := runs.Load(); n != 1 {
			t.Errorf("the stage ran %d times", n)
		}
	})
}

func TestSeedM2CommitNeedsTheNewestFence(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		one, two := e.service().Scope("a"), e.service().Scope("a")
		older := locked(t, one, "k")
		lapse(t, e, e.client(), older.Key())
		newer := locked(t, two, "k")
		if newer.Fence() <= older.Fence() {
			t.Errorf("fence %d after %d", newer.Fence(), older.Fence())
		}
		_, err := older.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "older")))
		mustBe(t, err, redisidem.ErrFenced)
		_, err = newer.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "newer")))
		mustBe(t, err, nil)
		mustHold(t, start(t, one, "k"), `"newer"`)
	})
}

func TestSeedM3KeyStandsForOneRequest(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		start(t, sc, "k")
		for what, other := range otherRequests {
			if _, err := sc.InitializeRequest(ctx, "k", other); !errors.Is(err, redisidem.ErrFingerprintMismatch) {
				t.Errorf("another %s: %v", what, err)
			}
		}
		start(t, sc, "k")
	})
}

func TestSeedM4OtherRouteCannotPoisonAKey(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		_, err := sc.Do(ctx, "k", request, returns(redisidem.Advance("payment_authorized")))
		mustBe(t, err, nil)
		stages := map[string]redisidem.StageFunc{redisidem.Started: never(t)}
		e.mustNotChange(e.client(), "the other route", func() {
			_, err := drive(sc, "k", otherRequests["path"], stages)
			mustBe(t, err, redisidem.ErrFingerprintMismatch)
			_, err = drive(sc, "k", request, stages)
			mustBe(t, err, redisidem.ErrUnknownRecoveryPoint)
		})
		key, err := drive(sc, "k", request, map[string]redisidem.StageFunc{"payment_authorized": finish("done")})
		mustBe(t, err, nil)
		mustHold(t, key, `"done"`)
	})
}

func TestSeedM5NoLoopSpins(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		runs := 0
		_, err := drive(sc, "k", request, map[string]redisidem.StageFunc{
			redisidem.Started: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				runs++
				return redisidem.Advance(redisidem.Started), nil
			},
		})
		mustBe(t, err, redisidem.ErrNoProgress)
		if runs != 1 {
			t.Errorf("the stage ran %d times", runs)
		}
		_, err = drive(sc, "k", request, nil)
		mustBe(t, err, redisidem.ErrUnknownRecoveryPoint)
		e.mustBeTidy(e.client())
	})
}

func TestSeedM6ScopesShareNoRecord(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc := e.service()
		ids := make(map[string]bool)
		for _, tenant := range []string{"a", "b"} {
			key, err := svc.Scope(tenant).Do(ctx, "k", request, finish("order of "+tenant))
			mustBe(t, err, nil)
			mustHold(t, key, `"order of `+tenant+`"`)
			ids[key.ID()] = true
			_, err = svc.Scope("c").WorkStage(ctx, key, never(t))
			mustBe(t, err, redisidem.ErrInvalid)
		}
		if len(ids) != 2 {
			t.Errorf("two scopes share a record: %v", ids)
		}
		_, err := svc.Scope("c").Retrieve(ctx, "k")
		mustBe(t, err, redisidem.ErrNotFound)
	})
}

func TestSeedM7ResponseIsStoredWheneverItIsGiven(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		r := redisidem.JSON(201, "given")
		for name, o := range map[string]redisidem.Outcome{
			"alone":         {Response: &r},
			"with finished": {RecoveryPoint: redisidem.Finished, Response: &r},
			"with a point":  {RecoveryPoint: "next", Response: &r},
			"interim":       redisidem.Interim("next", r),
		} {
			_, err := sc.Do(ctx, name, request, returns(o))
			mustBe(t, err, nil)
			key := start(t, sc, name)
			mustHold(t, key, `"given"`)
			if key.Response.Code != 201 || key.Response.Header["Content-Type"][0] != "application/json" {
				t.Errorf("%s: stored is %+v", name, key.Response)
			}
		}
	})
}

func TestSeedM8InterimAnswerIsNotFinal(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		confirmed := false
		stages := map[string]redisidem.StageFunc{
			redisidem.Started: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				if !confirmed {
					return redisidem.Interim(redisidem.Started, redisidem.JSON(200, "requires more")), nil
				}
				return redisidem.Finish(redisidem.JSON(201, "paid")), nil
			},
		}
		for _, want := range []string{`"requires more"`, `"requires more"`, `"paid"`, `"paid"`} {
			key, err := drive(sc, "k", request, stages)
			mustBe(t, err, nil)
			mustHold(t, key, want)
			confirmed = key.Revision >= 2
		}
	})
}

func TestSeedM10StateReachesLaterStages(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		_, err := e.service().Scope("a").Do(ctx, "k", request, returns(redisidem.Advance("ordered").WithState(map[string]int{"order": 7})))
		mustBe(t, err, nil)
		_, err = e.service().Scope("a").Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			var state struct{ Order int }
			if err := st.State(&state); err != nil || state.Order != 7 {
				t.Errorf("state is %+v, %v", state, err)
			}
			return redisidem.Outcome{}, nil
		})
		mustBe(t, err, nil)
	})
}

func TestSeedM11SecondRunCanBeRecognised(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		type run struct {
			attempt  int
			fence    int64
			outbound string
		}
		var runs []run
		for range 2 {
			_, err := e.service().Scope("a").Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				runs = append(runs, run{st.Attempt(), st.Fence(), st.OutboundKey("charge")})
				return redisidem.Outcome{}, errUpstream // the charge was made, and then the database refused
			})
			mustBe(t, err, errUpstream)
		}
		if runs[0].attempt != 1 || runs[1].attempt != 2 || runs[1].fence <= runs[0].fence || runs[0].outbound != runs[1].outbound {
			t.Errorf("the runs are %+v", runs)
		}
	})
}

func TestSeedM12FailuresAreToldApart(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		key := start(b, sc, "damaged")
		for _, k := range b.server.Keys() {
			if strings.HasSuffix(k, key.ID()) {
				b.server.HSet(k, "control", "2 from the future")
			}
		}
		lease := locked(b, sc, "held")
		before := b.server.Dump()
		kinds := []error{
			redisidem.ErrLocked, redisidem.ErrFingerprintMismatch, redisidem.ErrDamaged, redisidem.ErrUnavailable,
			redisidem.ErrNotFound,
		}
		mustBeOnly := func(err, want error) {
			b.Helper()
			for _, kind := range kinds {
				if errors.Is(err, kind) != errors.Is(kind, want) {
					b.Errorf("error is %v, want %v and nothing else", err, want)
				}
			}
		}
		_, err := sc.Do(ctx, "held", request, never(b))
		mustBeOnly(err, redisidem.ErrLocked)
		_, err = sc.InitializeRequest(ctx, "held", otherRequests["params"])
		mustBeOnly(err, redisidem.ErrFingerprintMismatch)
		_, err = sc.InitializeRequest(ctx, "damaged", request)
		mustBeOnly(err, redisidem.ErrDamaged)
		_, err = sc.Retrieve(ctx, "absent")
		mustBeOnly(err, redisidem.ErrNotFound)
		b.freeze()
		_, err = sc.InitializeRequest(ctx, "absent", request)
		mustBeOnly(err, redisidem.ErrUnavailable)
		_, err = sc.Do(ctx, "absent", request, never(b))
		mustBeOnly(err, redisidem.ErrUnavailable)
		b.thaw()
		if after := b.server.Dump(); after != before {
			b.Errorf("changed:\n%s\nto:\n%s", before, after)
		}
		time.Sleep(2 * time.Second) // the client's pool dials again after a second
		mustBe(b, lease.Abandon(ctx), nil)
	})
}

func TestSeedM13RecordsExpire(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{Retention: time.Hour}).Scope("a")
		key := start(b, sc, "k")
		time.Sleep(50 * time.Minute)
		_, err := sc.WorkStage(ctx, key, finish("done"))
		mustBe(b, err, nil)
		time.Sleep(59 * time.Minute) // counted from the last change
		mustHold(b, start(b, sc, "k"), `"done"`)
		time.Sleep(2 * time.Minute) // a replay is no change
		_, err = sc.Retrieve(ctx, "k")
		mustBe(b, err, redisidem.ErrNotFound)
		if keys := b.server.Keys(); len(keys) != 0 {
			b.Errorf("left: %v", keys)
		}
	})
}

func TestSeedM15ReplaysAndAttemptsAreVisible(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		rec := &recorder{}
		sc := e.service(func(c *redisidem.Config) { c.Observer = rec }).Scope("a")
		_, err := sc.Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Outcome{}, errUpstream
		})
		mustBe(t, err, errUpstream)
		first, err := sc.Do(ctx, "k", request, finish("done"))
		mustBe(t, err, nil)
		again, err := sc.Do(ctx, "k", request, never(t))
		mustBe(t, err, nil)
		if first.Replayed() || !again.Replayed() {
			t.Errorf("replayed: first %v, again %v", first.Replayed(), again.Replayed())
		}
		if again.Attempts != 2 || len(again.Journal) != 1 || again.Journal[0].Attempt != 2 || again.Journal[0].Stage != redisidem.Started {
			t.Errorf("%d attempts, journal %+v", again.Attempts, again.Journal)
		}
		for kind, want := range map[redisidem.EventKind]int{
			redisidem.EventClaimed: 2, redisidem.EventAbandoned: 1, redisidem.EventCommitted: 1, redisidem.EventReplayed: 1,
		} {
			if got := rec.count(kind); got != want {
				t.Errorf("%d times %v, want %d", got, kind, want)
			}
		}
	})
}

func TestSeedM16UpdateNamesTheRevision(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		one, two := e.service().Scope("a"), e.service().Scope("a")
		seen := start(t, one, "k")
		_, err := two.Update(ctx, seen, redisidem.Advance("by two"))
		mustBe(t, err, nil)
		_, err = one.Update(ctx, seen, redisidem.Advance("by one"))
		mustBe(t, err, redisidem.ErrStale)
		fresh := start(t, one, "k")
		mustStandAt(t, fresh, "by two", 1)
		_, err = one.Update(ctx, fresh, redisidem.Advance("by one"))
		mustBe(t, err, nil)
		mustStandAt(t, start(t, two, "k"), "by one", 2)
	})
}

func TestSeedM18NoRecordNoCallback(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		key := start(t, sc, "k")
		mustBe(t, sc.Delete(ctx, key), nil)
		_, err := sc.WorkStage(ctx, key, never(t))
		mustBe(t, err, redisidem.ErrNotFound)
		_, err = sc.Lock(ctx, "k")
		mustBe(t, err, redisidem.ErrNotFound)
		if left := e.keys(e.client()); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}
