package redisidem_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// onPlainServers runs a test on the embedded server, a standalone server, a cluster and a Sentinel
// group.
func onPlainServers(t *testing.T, test func(t *testing.T, e *env)) {
	t.Helper()
	onServers(t, test, func(_ string, auto bool) bool { return !auto })
}

// inspected is a service with a key in each state, in a scope of the state's name.
type inspected struct {
	*redisidem.Inspector
	svc  *redisidem.Service
	keys map[redisidem.KeyState]*redisidem.Key
	flow *redisidem.Flow // of the dead key and of one more idle key, which is due
}

// inEveryState makes a key in each state.
func (e *env) inEveryState(change ...func(*redisidem.Config)) *inspected {
	e.t.Helper()
	t := e.t
	svc := e.service(append([]func(*redisidem.Config){func(c *redisidem.Config) { c.Lease = time.Hour }}, change...)...)
	raw := e.client()
	in := &inspected{Inspector: redisidem.NewInspector(svc), svc: svc, keys: make(map[redisidem.KeyState]*redisidem.Key)}
	in.flow = mustFlow(t, cart(func(c *redisidem.FlowConfig) {
		c.RecoverAfter, c.MaxAttempts = time.Millisecond, 1
		c.Stages[1].Work = fails(errStage)
	}))
	for _, state := range redisidem.KeyStates() {
		sc, value := svc.Scope(state.String()), "key"
		var err error
		switch state {
		case redisidem.KeyDead:
			_, err = sc.DoFlow(ctx, value, request, in.flow)
			mustBe(t, err, errStage)
			time.Sleep(5 * time.Millisecond)
			mustSweep(t, mustCompleter(t, svc, in.flow), redisidem.SweepResult{Due: 1, DeadLettered: 1})
		case redisidem.KeyFinished:
			_, err = sc.Do(ctx, value, request, finish("done"))
			mustBe(t, err, nil)
		case redisidem.KeyInterim:
			_, err = sc.Do(ctx, value, request, outcome(redisidem.Interim("paid", redisidem.JSON(202, "confirm"))))
			mustBe(t, err, nil)
		case redisidem.KeyInterrupted:
			_, err = sc.Do(ctx, value, request, fails(errStage))
			mustBe(t, err, errStage)
		case redisidem.KeyInFlight, redisidem.KeyAbandoned:
			start(t, sc, value)
			lease, err := sc.Lock(ctx, value)
			mustBe(t, err, nil)
			e.t.Cleanup(func() { _ = lease.Abandon(context.Background()) })
			if state == redisidem.KeyAbandoned {
				_, lock := e.place(lease.Key())
				mustBe(t, raw.Del(ctx, lock).Err(), nil)
			}
		default:
			start(t, sc, value)
		}
		key, err := sc.Retrieve(ctx, value)
		mustBe(t, err, nil)
		in.keys[state] = key
		if state == redisidem.KeyUnreadable {
			record, _ := e.place(key)
			mustBe(t, setControl(raw, record, controlVersion, "9"), nil)
		}
	}
	_, err := svc.Scope("due").DoFlow(ctx, "key", request, in.flow)
	mustBe(t, err, errStage)
	return in
}

// mustGet returns a key, which must be in a state.
func (in *inspected) mustGet(t testing.TB, scope string, want redisidem.KeyState) *redisidem.KeyInfo {
	t.Helper()
	info, err := in.Get(ctx, scope, "key")
	mustBe(t, err, nil)
	if info.State != want {
		t.Fatalf("the key of %s is %s, want %s", scope, info.State, want)
	}
	return info
}

func TestKeyStatesAreThoseOfTheRecord(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		in := e.inEveryState()
		for state, key := range in.keys {
			info := in.mustGet(t, state.String(), state)
			if info.ID != key.ID() {
				t.Errorf("%s: the ID is %s, want %s", state, info.ID, key.ID())
			}
			if state == redisidem.KeyUnreadable {
				mustBe(t, info.Err, redisidem.ErrDamaged)
				if info.Key != nil || info.Scope != "unreadable" || info.Value != "key" || info.Method != "" {
					t.Errorf("an unreadable record has %+v", info)
				}
				continue
			}
			mustBe(t, info.Err, nil)
			leased := state == redisidem.KeyInFlight || state == redisidem.KeyAbandoned
			switch {
			case info.Scope != state.String(), info.Value != "key", info.Method != request.Method, info.Path != request.Path,
				info.Revision != key.Revision, info.Attempts != key.Attempts, info.RecoveryPoint != key.RecoveryPoint,
				info.Flow != key.Flow, !info.CreatedAt.Equal(key.CreatedAt), info.Life <= 0,
				info.Key == nil, len(info.Journal) != len(key.Journal),
				(info.DeadLetter != nil) != (state == redisidem.KeyDead),
				info.LockedAt.IsZero() == leased,
				(info.LeaseLeft > 0) != (state == redisidem.KeyInFlight):
				t.Errorf("%s: %+v", state, info)
			}
			if key.Response != nil && info.Status != key.Response.Code {
				t.Errorf("%s: the status is %d, want %d", state, info.Status, key.Response.Code)
			}
		}
		if due := in.mustGet(t, "due", redisidem.KeyIdle); due.Due.IsZero() || due.StageAttempts != 1 {
			t.Errorf("the key that a completer continues is %+v", due)
		}
	})
}

func TestKeyStatesHaveNames(t *testing.T) {
	t.Parallel()
	names := make([]string, 0, 8)
	for _, state := range redisidem.KeyStates() {
		names = append(names, state.String())
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != 8 || slices.Contains(names, "invalid") {
		t.Errorf("the names are %q", names)
	}
	if got := redisidem.KeyState(0).String() + redisidem.KeyState(99).String(); got != "invalidinvalid" {
		t.Errorf("states that do not exist are called %q", got)
	}
}
