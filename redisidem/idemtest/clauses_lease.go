package idemtest

import (
	"context"
	"errors"
	"time"

	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// held makes the key k and takes the lease on it, in a process of its own.
func (c *clause) held() (*redisidem.Lease, *wire) {
	c.Helper()
	svc, w := c.wired()
	sc := svc.Scope(c.scopeName())
	_, err := sc.InitializeRequest(c.ctx, "k", ordered)
	c.must("InitializeRequest", err)
	lease, err := sc.Lock(c.ctx, "k")
	c.must("Lock", err)
	c.Cleanup(func() {
		w.mend()
		_ = lease.Abandon(context.WithoutCancel(c.ctx)) // most have ended by then
	})
	return lease, w
}

// lapsing is how long it may take until another process has the key of one that has gone silent.
func (c *clause) lapsing() time.Duration { return c.cfg.Lease + patience }

func lockedTellsWhenToComeBack(c *clause) {
	lease, _ := c.held()
	_, err := c.scope().Do(c.ctx, "k", ordered, c.mustNotRun)
	var locked *redisidem.LockedError
	if !errors.As(err, &locked) || locked.RetryAfter <= 0 || locked.RetryAfter > c.cfg.Lease {
		c.Errorf("a second caller gets %v, want a LockedError within a lease of %v", err, c.cfg.Lease)
	}
	c.must("Commit", second(lease.Commit(c.ctx, redisidem.Finish(redisidem.JSON(201, "order 1")))))
	key, err := c.scope().Do(c.ctx, "k", ordered, c.mustNotRun)
	c.answered("after the commit", key, err, "order 1", true)
}

func waiterGetsTheAnswer(c *clause) {
	lease, _ := c.held()
	waiting := c.scope()
	done := make(chan struct{})
	go func() {
		defer close(done)
		key, err := waiting.Wait(c.lapsing()).Do(c.ctx, "k", ordered, c.mustNotRun)
		want := redisidem.JSON(201, "order 1")
		if err != nil || !same(key.Response, &want) {
			c.Errorf("who waited got %s, %v", describe(key.Response), err)
		}
	}()
	// Meanwhile one loses patience.
	_, err := c.scope().Wait(time.Millisecond).Do(c.ctx, "k", ordered, c.mustNotRun)
	c.want("who has no patience", err, redisidem.ErrLocked)
	c.must("Commit", second(lease.Commit(c.ctx, redisidem.Finish(redisidem.JSON(201, "order 1")))))
	<-done
}

func deadWorkersKeyIsTakenOver(c *clause) {
	lease, w := c.held()
	w.cut() // for ever: it does not renew any more
	began := time.Now()
	key, err := c.scope().Wait(c.lapsing()).Do(c.ctx, "k", ordered,
		func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			if st.Attempt() != 2 || st.Fence() <= lease.Fence() {
				c.Errorf("the successor has attempt %d and fence %d, after attempt 1 and fence %d", st.Attempt(), st.Fence(), lease.Fence())
			}
			if took := time.Since(began); took > c.lapsing() {
				c.Errorf("it had to wait for %v", took)
			}
			select {
			case <-lease.Context().Done():
			case <-time.After(patience): // the machine may be busy
				c.Errorf("the context of the one that went silent goes on")
			}
			return answers("order 1")(ctx, st)
		})
	c.answered("the successor", key, err, "order 1", false)
}

func lateCommitIsFenced(c *clause) {
	lease, w := c.held()
	w.cut()
	key, err := c.scope().Wait(c.lapsing()).Do(c.ctx, "k", ordered, answers("successor"))
	c.answered("the successor", key, err, "successor", false)
	w.mend()
	_, err = lease.Commit(c.ctx, redisidem.Finish(redisidem.JSON(201, "late")))
	c.want("the late commit", err, redisidem.ErrFenced)
	key, err = c.scope().Do(c.ctx, "k", ordered, c.mustNotRun)
	c.answered("after the late commit", key, err, "successor", true)
}

func lateCommitIsKept(c *clause) {
	lease, w := c.held()
	w.cut()
	<-lease.Context().Done() // by its own clock, a little early
	c.want("the cause", context.Cause(lease.Context()), redisidem.ErrLeaseLost)
	w.mend()
	key, err := lease.Commit(c.ctx, redisidem.Finish(redisidem.JSON(201, "late")))
	c.answered("the late commit", key, err, "late", false)
}

// second returns the error of a call that returns something else, too.
func second(_ *redisidem.Key, err error) error { return err }

func lostMessagesChangeNothing(c *clause) {
	for _, f := range []fate{loseRequest, loseReply} {
		svc, w := c.wired()
		name := map[fate]string{loseRequest: "request lost: ", loseReply: "reply lost: "}[f]
		sc := svc.Scope(name)
		// once loses one message of a call.
		once := func(s *lua.Script, call func() error) {
			c.Helper()
			w.lose(s, f, nil)
			c.must(name+s.Name, call())
			if w.waits() {
				c.Errorf("%s%s was not seen: are the client's connections new?", name, s.Name)
			}
		}
		var key *redisidem.Key
		var lease *redisidem.Lease
		var err error
		once(lua.Create, func() error { key, err = sc.InitializeRequest(c.ctx, "k", ordered); return err })
		once(lua.Update, func() error { key, err = sc.Update(c.ctx, key, redisidem.Advance("updated")); return err })
		once(lua.Claim, func() error { lease, err = sc.Lock(c.ctx, "k"); return err })
		once(lua.Renew, func() error { return lease.Renew(c.ctx) })
		once(lua.Abandon, func() error { return lease.Abandon(c.ctx) })
		once(lua.Unlock, func() error { return sc.Unlock(c.ctx, "k") })
		once(lua.Commit, func() error {
			key, err = sc.Do(c.ctx, "k", ordered, answers("order 1"))
			return err
		})
		c.answered(name, key, err, "order 1", false)
		key, err = c.service().Scope(name).Do(c.ctx, "k", ordered, c.mustNotRun)
		c.answered(name, key, err, "order 1", true)
		if key.Revision != 2 || key.Attempts != 2 {
			c.Errorf("%sthe key has revision %d after %d attempts, want 2 and 2", name, key.Revision, key.Attempts)
		}
		once(lua.Delete, func() error { return sc.Delete(c.ctx, key) })
		_, err = sc.Retrieve(c.ctx, "k")
		c.want(name+"after the delete", err, redisidem.ErrNotFound)
	}
}

func commitLandsLater(c *clause) {
	svc, w := c.wired(func(cfg *redisidem.Config) { cfg.Timeout, cfg.CommitRetry = time.Second, time.Minute })
	for name, f := range map[string]fate{"lost request": loseRequest, "lost reply": loseReply} {
		// The connection breaks with the commit, and no other one comes about until its caller has been told.
		w.lose(lua.Commit, f, w.cut)
		_, err := svc.Scope(c.scopeName()).Do(c.ctx, name, ordered, answers("order 1"))
		c.want(name, err, redisidem.ErrOutcomeUnknown)
		w.mend()
		// The next caller must get that answer, or wait for it.
		key, err := c.scope().Wait(c.lapsing()).Do(c.ctx, name, ordered, answers("order 1"))
		c.must(name, err)
		if key.Revision != 1 {
			c.Errorf("%s: the key has revision %d", name, key.Revision)
		}
	}
}
