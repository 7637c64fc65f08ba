package idemtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/internal/faultnet"
	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
)

// flow returns a flow with a valid configuration.
func (c *clause) flow(name string, stages ...redisidem.FlowStage) *redisidem.Flow {
	c.Helper()
	f, err := redisidem.NewFlow(redisidem.FlowConfig{Name: name, Version: 1, RecoverAfter: time.Hour, Stages: stages})
	c.must("NewFlow", err)
	return f
}

func flowsRun(c *clause) {
	ran := ""
	down := errors.New("the provider is unavailable")
	first := redisidem.FlowStage{
		Point: redisidem.Started,
		Work: func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			ran += "reserve "
			return redisidem.Next().WithState(1200), nil
		},
		Compensate: func(_ context.Context, st *redisidem.Stage) error {
			ran += "release:" + st.Compensates().Stage + " "
			return nil
		},
	}
	charge := redisidem.FlowStage{
		Point: "reserved",
		Work: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			ran += fmt.Sprint("charge", st.Attempt(), " ")
			return redisidem.Outcome{}, down
		},
		Reconcile: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			ran += fmt.Sprint("reconcile", st.Attempt(), " ")
			return redisidem.Next(), nil
		},
	}
	order := redisidem.FlowStage{Point: "charged", Work: finishWith("order 1")}
	flow := c.flow("checkout", first, charge, order)
	_, err := c.scope().DoFlow(c.ctx, "k", orderRequest, flow)
	c.want("a stage's error", err, down)
	key, err := c.scope().DoFlow(c.ctx, "k", orderRequest, flow)
	c.answered("the flow", key, err, "order 1", false)
	key, err = c.scope().DoFlow(c.ctx, "k", orderRequest, flow)
	c.answered("the flow's replay", key, err, "order 1", true)
	if want := "reserve charge1 reconcile2 "; ran != want || key.Revision != 3 {
		c.Errorf("ran %q to revision %d, want %q and 3", ran, key.Revision, want)
	}

	ran = ""
	order.Work = func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Fail(redisidem.JSON(402, "declined")), nil
	}
	declined := c.flow("checkout", first, order)
	for range 2 {
		key, err = c.scope().DoFlow(c.ctx, "declined", orderRequest, declined)
		c.must("a flow that fails", err)
		want := redisidem.JSON(402, "declined")
		if !key.Finished() || !same(key.Response, &want) {
			c.Errorf("a flow that fails answers %s at %q", describe(key.Response), key.RecoveryPoint)
		}
	}
	if want := "reserve release:started "; ran != want {
		c.Errorf("ran %q, want %q", ran, want)
	}
}

func keyBelongsToItsFlow(c *clause) {
	down := errors.New("away")
	failing := func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return redisidem.Outcome{}, down }
	one := c.flow("one", redisidem.FlowStage{Point: redisidem.Started, Work: failing})
	two := c.flow("two", redisidem.FlowStage{Point: redisidem.Started, Work: c.mustNotRun})
	_, err := c.scope().DoFlow(c.ctx, "k", orderRequest, one)
	c.want("a stage's error", err, down)
	_, err = c.scope().DoFlow(c.ctx, "k", orderRequest, two)
	c.want("another flow", err, redisidem.ErrOtherFlow)
	one = c.flow("one", redisidem.FlowStage{Point: redisidem.Started, Work: finishWith("order 1")})
	key, err := c.scope().DoFlow(c.ctx, "k", orderRequest, one)
	c.answered("the flow itself", key, err, "order 1", false)
}

func effectsAreAppliedWithTheirCommit(c *clause) {
	svc, network := c.wired()
	network.FailNext(lua.Commit, faultnet.LoseReply, nil) // so that the commit is repeated
	var counter, set, stream string
	key, err := svc.Scope(c.scopeName()).Do(c.ctx, "k", orderRequest, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		counter, set, stream = st.ShardKey("orders"), st.ShardKey("last"), st.ShardKey("outbox")
		if n := c.keyspace.client.Exists(c.ctx, counter).Val(); n != 0 {
			c.Errorf("an effect is visible before its commit")
		}
		return redisidem.Finish(redisidem.JSON(201, "order 1")).WithEffects(
			effect.IncrBy(counter, 3),
			effect.Set(set, "order\x00\xff").Expire(time.Hour),
			effect.XAdd(stream, "event", "ordered"),
		), nil
	})
	c.answered("the commit", key, err, "order 1", false)
	if n, err := c.keyspace.client.Get(c.ctx, counter).Int(); n != 3 || err != nil {
		c.Errorf("the counter is %d, %v, want 3", n, err)
	}
	if text, err := c.keyspace.client.Get(c.ctx, set).Result(); text != "order\x00\xff" || err != nil {
		c.Errorf("the value is %q, %v", text, err)
	}
	if ttl := c.keyspace.client.TTL(c.ctx, set).Val(); ttl <= 0 || ttl > time.Hour {
		c.Errorf("the value expires in %v, want 1h", ttl)
	}
	if n, err := c.keyspace.client.XLen(c.ctx, stream).Result(); n != 1 || err != nil {
		c.Errorf("the stream has %d entries, %v, want 1", n, err)
	}
}

func refusedEffectStoresNothing(c *clause) {
	sc := c.scope()
	var counter string
	runs := 0
	for range 2 {
		key, err := sc.Do(c.ctx, "k", orderRequest, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			runs++
			counter = st.ShardKey("counter")
			wrong := st.ShardKey("wrong")
			c.must("RPush", c.keyspace.client.RPush(c.ctx, wrong, "x").Err())
			return redisidem.Finish(redisidem.JSON(201, "order 1")).WithEffects(
				effect.IncrBy(counter, 1), effect.SAdd(wrong, "x")), nil
		})
		c.want("an effect on a key of another type", err, redisidem.ErrNotKept)
		if !key.Finished() || key.Response == nil || !key.Response.IsZero() {
			c.Errorf("the key is at %q with %v", key.RecoveryPoint, key.Response)
		}
	}
	if n := c.keyspace.client.Exists(c.ctx, counter).Val(); n != 0 {
		c.Errorf("the other effect was applied")
	}
	if runs != 1 {
		c.Errorf("the work ran %d times", runs)
	}
}

func updateDeleteAndUnlock(c *clause) {
	sc := c.scope()
	_, err := sc.Retrieve(c.ctx, "k")
	c.want("Retrieve of nothing", err, redisidem.ErrNotFound)
	key, err := sc.InitializeRequest(c.ctx, "k", orderRequest)
	c.must("InitializeRequest", err)
	stale := key
	key, err = sc.Update(c.ctx, key, redisidem.Advance("corrected"))
	c.must("Update", err)
	_, err = sc.Update(c.ctx, stale, redisidem.Advance("elsewhere"))
	c.want("Update of an old view", err, redisidem.ErrStale)
	c.want("Delete of an old view", sc.Delete(c.ctx, stale), redisidem.ErrStale)

	lease, err := sc.Lock(c.ctx, "k")
	c.must("Lock", err)
	c.want("Delete while another worker has the lease", sc.Delete(c.ctx, key), redisidem.ErrLocked)
	_, err = sc.Update(c.ctx, key, redisidem.Advance("elsewhere"))
	c.want("Update while another worker has the lease", err, redisidem.ErrLocked)
	c.must("Unlock", sc.Unlock(c.ctx, "k"))
	_, err = lease.Commit(c.ctx, redisidem.Finish(redisidem.JSON(201, "unlocked")))
	c.want("the commit after Unlock", err, redisidem.ErrFenced)

	var outbound []string
	orders := func(text string) redisidem.StageFunc {
		return func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			outbound = append(outbound, st.OutboundKey("order"))
			return finishWith(text)(ctx, st)
		}
	}
	key, err = sc.Do(c.ctx, "k", orderRequest, orders("order 1"))
	c.answered("the next call", key, err, "order 1", false)
	_, err = sc.Update(c.ctx, key, redisidem.Advance("again"))
	c.want("Update of a finished key", err, redisidem.ErrFinished)
	_, err = sc.Lock(c.ctx, "k")
	c.want("Lock of a finished key", err, redisidem.ErrFinished)
	c.must("Delete", sc.Delete(c.ctx, key))
	_, err = sc.Retrieve(c.ctx, "k")
	c.want("Retrieve of a deleted key", err, redisidem.ErrNotFound)
	key, err = sc.Do(c.ctx, "k", orderRequest, orders("order 2"))
	c.answered("after the delete", key, err, "order 2", false)
	if len(outbound) == 2 && outbound[0] == outbound[1] {
		c.Errorf("the outbound key is %s before the delete and after it", outbound[0])
	}
}
