package idemtest

import (
	"context"
	"errors"
	"time"

	"github.com/redisidem/redisidem/internal/faultnet"
	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// lockedKey creates the key k and takes its lease, in a process of its own.
func (c *clause) lockedKey() (*redisidem.Lease, *faultnet.Network) {
	c.Helper()
	svc, network := c.wired()
	sc := svc.Scope(c.scopeName())
	_, err := sc.InitializeRequest(c.ctx, "k", orderRequest)
	c.must("InitializeRequest", err)
	lease, err := sc.Lock(c.ctx, "k")
	c.must("Lock", err)
	c.Cleanup(func() {
		network.Set(faultnet.Normal)
		_ = lease.Abandon(context.WithoutCancel(c.ctx)) // most leases have ended by then
	})
	return lease, network
}

// takeoverTimeout is how long another process may need to take over a key whose worker is cut off.
func (c *clause) takeoverTimeout() time.Duration { return c.cfg.Lease + patience }

func lockedErrorHasRetryAfter(c *clause) {
	lease, _ := c.lockedKey()
	_, err := c.scope().Do(c.ctx, "k", orderRequest, c.mustNotRun)
	locked, ok := errors.AsType[*redisidem.LockedError](err)
	if !ok || locked.RetryAfter <= 0 || locked.RetryAfter > c.cfg.Lease {
		c.Errorf("a second caller gets %v, want a LockedError within a lease of %v", err, c.cfg.Lease)
	}
	c.must("Commit", second(lease.Commit(c.ctx, redisidem.Finish(redisidem.JSON(201, "order 1")))))
	key, err := c.scope().Do(c.ctx, "k", orderRequest, c.mustNotRun)
	c.answered("after the commit", key, err, "order 1", true)
}

func waiterGetsTheAnswer(c *clause) {
	lease, _ := c.lockedKey()
	waiting := c.scope()
	done := make(chan struct{})
	go func() {
		defer close(done)
		key, err := waiting.Wait(c.takeoverTimeout()).Do(c.ctx, "k", orderRequest, c.mustNotRun)
		want := redisidem.JSON(201, "order 1")
		if err != nil || !same(key.Response, &want) {
			c.Errorf("the waiting caller got %s, %v", describe(key.Response), err)
		}
	}()
	// Meanwhile, another caller waits for a shorter time.
	_, err := c.scope().Wait(time.Millisecond).Do(c.ctx, "k", orderRequest, c.mustNotRun)
	c.want("a caller that waits for 1 ms", err, redisidem.ErrLocked)
	c.must("Commit", second(lease.Commit(c.ctx, redisidem.Finish(redisidem.JSON(201, "order 1")))))
	<-done
}

func keyOfADeadWorkerIsTakenOver(c *clause) {
	lease, network := c.lockedKey()
	network.Set(faultnet.Refuse) // until the end: the lease is not renewed
	began := time.Now()
	key, err := c.scope().Wait(c.takeoverTimeout()).Do(c.ctx, "k", orderRequest,
		func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			if st.Attempt() != 2 || st.Fence() <= lease.Fence() {
				c.Errorf("the successor has attempt %d and fence %d, after attempt 1 and fence %d", st.Attempt(), st.Fence(), lease.Fence())
			}
			if took := time.Since(began); took > c.takeoverTimeout() {
				c.Errorf("the successor waited for %v", took)
			}
			select {
			case <-lease.Context().Done():
			case <-time.After(patience): // the machine may be busy
				c.Errorf("the context of the silent worker was not cancelled")
			}
			return finishWith("order 1")(ctx, st)
		})
	c.answered("the successor", key, err, "order 1", false)
}

func lateCommitIsFenced(c *clause) {
	lease, network := c.lockedKey()
	network.Set(faultnet.Refuse)
	key, err := c.scope().Wait(c.takeoverTimeout()).Do(c.ctx, "k", orderRequest, finishWith("successor"))
	c.answered("the successor", key, err, "successor", false)
	network.Set(faultnet.Normal)
	_, err = lease.Commit(c.ctx, redisidem.Finish(redisidem.JSON(201, "late")))
	c.want("the late commit", err, redisidem.ErrFenced)
	key, err = c.scope().Do(c.ctx, "k", orderRequest, c.mustNotRun)
	c.answered("after the late commit", key, err, "successor", true)
}

func lateCommitIsStored(c *clause) {
	lease, network := c.lockedKey()
	network.Set(faultnet.Refuse)
	<-lease.Context().Done() // by the worker's own clock, slightly early
	c.want("the cause", context.Cause(lease.Context()), redisidem.ErrLeaseLost)
	network.Set(faultnet.Normal)
	key, err := lease.Commit(c.ctx, redisidem.Finish(redisidem.JSON(201, "late")))
	c.answered("the late commit", key, err, "late", false)
}

// second returns the error of a call that also returns a key.
func second(_ *redisidem.Key, err error) error { return err }

func lostMessagesChangeNothing(c *clause) {
	for _, f := range []faultnet.Fault{faultnet.LoseRequest, faultnet.LoseReply} {
		svc, network := c.wired()
		name := map[faultnet.Fault]string{faultnet.LoseRequest: "request lost: ", faultnet.LoseReply: "reply lost: "}[f]
		sc := svc.Scope(name)
		// once loses one message of a call.
		once := func(s *lua.Script, call func() error) {
			c.Helper()
			network.FailNext(s, f, nil)
			c.must(name+s.Name, call())
			if network.Pending() {
				c.Errorf("%s%s was not seen: are the client's connections new?", name, s.Name)
			}
		}
		var key *redisidem.Key
		var lease *redisidem.Lease
		var err error
		once(lua.Create, func() error { key, err = sc.InitializeRequest(c.ctx, "k", orderRequest); return err })
		once(lua.Update, func() error { key, err = sc.Update(c.ctx, key, redisidem.Advance("updated")); return err })
		once(lua.Claim, func() error { lease, err = sc.Lock(c.ctx, "k"); return err })
		once(lua.Renew, func() error { return lease.Renew(c.ctx) })
		once(lua.Abandon, func() error { return lease.Abandon(c.ctx) })
		once(lua.Unlock, func() error { return sc.Unlock(c.ctx, "k") })
		once(lua.Commit, func() error {
			key, err = sc.Do(c.ctx, "k", orderRequest, finishWith("order 1"))
			return err
		})
		c.answered(name, key, err, "order 1", false)
		key, err = c.service().Scope(name).Do(c.ctx, "k", orderRequest, c.mustNotRun)
		c.answered(name, key, err, "order 1", true)
		if key.Revision != 2 || key.Attempts != 2 {
			c.Errorf("%sthe key has revision %d after %d attempts, want 2 and 2", name, key.Revision, key.Attempts)
		}
		once(lua.Delete, func() error { return sc.Delete(c.ctx, key) })
		_, err = sc.Retrieve(c.ctx, "k")
		c.want(name+"after the delete", err, redisidem.ErrNotFound)
	}
}

func commitIsRetried(c *clause) {
	svc, network := c.wired(func(cfg *redisidem.Config) { cfg.Timeout, cfg.CommitRetry = time.Second, time.Minute })
	for name, f := range map[string]faultnet.Fault{"lost request": faultnet.LoseRequest, "lost reply": faultnet.LoseReply} {
		// The connection breaks with the commit, and the client cannot reconnect before its caller
		// has the error.
		network.FailNext(lua.Commit, f, func() { network.Set(faultnet.Refuse) })
		_, err := svc.Scope(c.scopeName()).Do(c.ctx, name, orderRequest, finishWith("order 1"))
		c.want(name, err, redisidem.ErrOutcomeUnknown)
		network.Set(faultnet.Normal)
		// The next caller must get that response, or wait for it.
		key, err := c.scope().Wait(c.takeoverTimeout()).Do(c.ctx, name, orderRequest, finishWith("order 1"))
		c.must(name, err)
		if key.Revision != 1 {
			c.Errorf("%s: the key has revision %d", name, key.Revision)
		}
	}
}
