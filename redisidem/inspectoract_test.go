package redisidem_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

var (
	act    = redisidem.Act{Actor: "ann", Reason: "ticket 4711"}
	noTime time.Time
)

// mustBeAudited checks the last entry of the audit, and how many there are.
func (in *inspected) mustBeAudited(t testing.TB, entries int, what, id, outcome string) {
	t.Helper()
	all, err := in.Audit(ctx, noTime, noTime)
	mustBe(t, err, nil)
	if len(all) != entries {
		t.Fatalf("the audit has %d entries, want %d: %+v", len(all), entries, all)
	}
	for _, e := range all {
		if e.Act == what && e.KeyID == id && e.Outcome == outcome && e.Actor == "ann" && e.Reason == "ticket 4711" && !e.At.IsZero() {
			return
		}
	}
	t.Fatalf("the audit has no entry %s %s %s: %+v", what, id, outcome, all)
}

func TestActsAreDoneAndAudited(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		in := e.inEveryState()
		id := func(state redisidem.KeyState) string { return in.keys[state].ID() }
		mustBe(t, in.Unlock(ctx, in.mustGet(t, "in-flight", redisidem.KeyInFlight), act), nil)
		in.mustBeAudited(t, 1, "unlock", id(redisidem.KeyInFlight), "done")
		in.mustGet(t, "in-flight", redisidem.KeyInterrupted)

		mustBe(t, in.Unlock(ctx, in.mustGet(t, "abandoned", redisidem.KeyAbandoned), act), nil)
		in.mustGet(t, "abandoned", redisidem.KeyInterrupted)

		mustBe(t, in.Requeue(ctx, in.mustGet(t, "dead", redisidem.KeyDead), act), nil)
		in.mustBeAudited(t, 3, "requeue", id(redisidem.KeyDead), "done")
		if again := in.mustGet(t, "dead", redisidem.KeyIdle); again.Due.IsZero() {
			t.Errorf("the requeued key is %+v", again)
		}

		answer := redisidem.Finish(redisidem.JSON(201, "by hand"))
		mustBe(t, in.Resolve(ctx, in.mustGet(t, "interrupted", redisidem.KeyInterrupted), answer, act), nil)
		in.mustBeAudited(t, 4, "resolve", id(redisidem.KeyInterrupted), "done")
		key, err := in.svc.Scope("interrupted").Do(ctx, "key", request, fails(errStage))
		mustBe(t, err, nil)
		if !key.Replayed() || string(key.Response.Body) != `"by hand"` {
			t.Errorf("the retry got %s", key.Response.Body)
		}

		for i, state := range []redisidem.KeyState{redisidem.KeyIdle, redisidem.KeyUnreadable, redisidem.KeyFinished} {
			mustBe(t, in.Delete(ctx, in.mustGet(t, state.String(), state), act), nil)
			in.mustBeAudited(t, 5+i, "delete", id(state), "done")
			_, err := in.Find(ctx, id(state))
			mustBe(t, err, redisidem.ErrNotFound)
		}
		e.mustBeTidy(e.client())
	})
}

func TestRefusedActsChangeNothingAndAreAudited(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		in := e.inEveryState()
		answer := redisidem.Finish(redisidem.JSON(201, "by hand"))
		inFlight := in.mustGet(t, "in-flight", redisidem.KeyInFlight)
		before := e.dump(e.client())
		mustBe(t, in.Delete(ctx, inFlight, act), redisidem.ErrLocked)
		in.mustBeAudited(t, 1, "delete", inFlight.ID, "locked")
		mustBe(t, in.Resolve(ctx, inFlight, answer, act), redisidem.ErrLocked)
		in.mustBeAudited(t, 2, "resolve", inFlight.ID, "locked")
		due := in.mustGet(t, "due", redisidem.KeyIdle)
		mustBe(t, in.Requeue(ctx, due, act), redisidem.ErrNotFound)
		in.mustBeAudited(t, 3, "requeue", due.ID, "not dead")
		stale := *in.mustGet(t, "interim", redisidem.KeyInterim)
		stale.Revision--
		mustBe(t, in.Delete(ctx, &stale, act), redisidem.ErrStale)
		in.mustBeAudited(t, 4, "delete", stale.ID, "stale")
		// These are refused by what the key is, without a script.
		mustBe(t, in.Resolve(ctx, &stale, answer, act), redisidem.ErrStale)
		mustBe(t, in.Resolve(ctx, in.mustGet(t, "finished", redisidem.KeyFinished), answer, act), redisidem.ErrFinished)
		unreadable := in.mustGet(t, "unreadable", redisidem.KeyUnreadable)
		mustBe(t, in.Resolve(ctx, unreadable, answer, act), redisidem.ErrDamaged)
		mustBe(t, in.Requeue(ctx, unreadable, act), redisidem.ErrDamaged)
		mustBeInvalid(t, in.Requeue(ctx, inFlight, act), "key", "no flow")
		mustBe(t, in.Unlock(ctx, unreadable, act), redisidem.ErrDamaged)
		in.mustBeAudited(t, 5, "unlock", unreadable.ID, "damaged")
		after := e.dump(e.client())
		for name, was := range before {
			if is := after[name]; is != was {
				t.Errorf("%s became %s, was %s", name, is, was)
			}
		}
	})
}

// TestActsAreRefusedIfTheKeyIsNotAsItWasRead lets another worker claim, or make, the key between
// the read and the act.
func TestActsAreRefusedIfTheKeyIsNotAsItWasRead(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		in := e.inEveryState()
		seen := in.mustGet(t, "in-flight", redisidem.KeyInFlight)
		mustBe(t, in.Unlock(ctx, seen, act), nil)
		next, err := e.service().Scope("in-flight").Lock(ctx, "key")
		mustBe(t, err, nil)
		mustBe(t, in.Unlock(ctx, seen, act), redisidem.ErrStale)
		in.mustBeAudited(t, 2, "unlock", seen.ID, "stale")
		_, err = next.Commit(ctx, redisidem.Finish(redisidem.JSON(201, "charged")))
		mustBe(t, err, nil)

		dead := in.mustGet(t, "dead", redisidem.KeyDead)
		scope := e.service().Scope("dead")
		lease, err := scope.Lock(ctx, "key")
		mustBe(t, err, nil)
		mustBe(t, lease.Abandon(ctx), nil)
		mustBe(t, in.Requeue(ctx, dead, act), redisidem.ErrStale)
		in.mustBeAudited(t, 3, "requeue", dead.ID, "stale")
		dead = in.mustGet(t, "dead", redisidem.KeyDead)

		mustBe(t, in.Delete(ctx, dead, act), nil)
		start(t, scope, "key")
		mustBe(t, in.Cancel(ctx, dead, act), redisidem.ErrStale)
		in.mustBeAudited(t, 5, "cancel", dead.ID, "stale")
	})
}

func TestActsNeedAnActorAndAReason(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		in := redisidem.NewInspector(svc)
		start(b, svc.Scope("a"), "k")
		info, err := in.Get(ctx, "a", "k")
		mustBe(b, err, nil)
		for _, c := range []struct {
			act   redisidem.Act
			field string
		}{
			{redisidem.Act{Reason: "r"}, "Act.Actor"},
			{redisidem.Act{Actor: "a"}, "Act.Reason"},
			{redisidem.Act{Actor: " ", Reason: "r"}, "Act.Actor"},
			{redisidem.Act{Actor: "a\nb", Reason: "r"}, "Act.Actor"},
			{redisidem.Act{Actor: strings.Repeat("a", 65), Reason: "r"}, "Act.Actor"},
			{redisidem.Act{Actor: "a", Reason: strings.Repeat("r", 513)}, "Act.Reason"},
			{redisidem.Act{Actor: "a", Reason: "\xff"}, "Act.Reason"},
		} {
			mustBeInvalid(b, in.Unlock(ctx, info, c.act), c.field)
			mustBeInvalid(b, in.Requeue(ctx, info, c.act), c.field)
			mustBeInvalid(b, in.Resolve(ctx, info, redisidem.Outcome{}, c.act), c.field)
			mustBeInvalid(b, in.Delete(ctx, info, c.act), c.field)
			for _, err := range in.Purge(ctx, "a", "", c.act) {
				mustBeInvalid(b, err, c.field)
			}
		}
		for _, key := range []*redisidem.KeyInfo{nil, {ID: info.ID, Scope: "a", Value: "k"}} {
			mustBeInvalid(b, in.Unlock(ctx, key, act), "key", "an Inspector returned")
			mustBeInvalid(b, in.Delete(ctx, key, act), "key", "an Inspector returned")
		}
		if entries, err := in.Audit(ctx, noTime, noTime); err != nil || len(entries) != 0 {
			b.Errorf("the audit is %+v, %v", entries, err)
		}
	})
}

// TestActIsDoneOnceAlthoughItsReplyIsLost loses the reply to each act. Between the act and its
// repetition another worker takes an unlocked key up.
func TestActIsDoneOnceAlthoughItsReplyIsLost(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		in := e.inEveryState()
		svc, w := e.wired()
		wired := redisidem.NewInspector(svc)
		lose := func(script *lua.Script, then func()) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.lose, w.then = script, then
		}
		inFlight := in.mustGet(t, "in-flight", redisidem.KeyInFlight)
		var next *redisidem.Lease
		lose(lua.Unlock.Audited(), func() {
			var err error
			if next, err = e.service().Scope("in-flight").Lock(ctx, "key"); err != nil {
				t.Error(err)
			}
		})
		mustBe(t, wired.Unlock(ctx, inFlight, act), nil)
		in.mustBeAudited(t, 1, "unlock", inFlight.ID, "done")
		if next == nil {
			t.Fatal("the reply was not lost")
		}
		mustBe(t, next.Renew(ctx), nil) // the repetition has not taken its lease away
		mustBe(t, next.Abandon(ctx), nil)

		dead := in.mustGet(t, "dead", redisidem.KeyDead)
		lose(lua.Requeue.Audited(), func() {})
		mustBe(t, wired.Requeue(ctx, dead, act), nil)
		in.mustBeAudited(t, 2, "requeue", dead.ID, "done")

		interrupted := in.mustGet(t, "interrupted", redisidem.KeyInterrupted)
		lose(lua.Update.Audited(), func() {})
		mustBe(t, wired.Resolve(ctx, interrupted, redisidem.Finish(redisidem.JSON(201, "by hand")), act), nil)
		in.mustBeAudited(t, 3, "resolve", interrupted.ID, "done")

		idle := in.mustGet(t, "idle", redisidem.KeyIdle)
		lose(lua.Delete.Audited(), func() { start(t, e.service().Scope("idle"), "key") })
		mustBe(t, wired.Delete(ctx, idle, act), nil)
		in.mustBeAudited(t, 4, "delete", idle.ID, "done")
		in.mustGet(t, "idle", redisidem.KeyIdle) // the new one
	})
}
