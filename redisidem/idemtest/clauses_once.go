package idemtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/redisidem/redisidem/redisidem"
)

func serverIsSafe(c *clause) {
	report, err := c.service().Check(c.ctx)
	c.must("Check", err)
	c.want("Check", report.Err(), nil)
}

func retryGetsTheSameBytes(c *clause) {
	one, two := c.scope(), c.scope()
	key, err := one.Do(c.ctx, "k", orderRequest, finishWith("order 1"))
	c.answered("first run", key, err, "order 1", false)
	for _, sc := range []*redisidem.Scope{one, two, c.scope()} {
		key, err = sc.Do(c.ctx, "k", orderRequest, c.mustNotRun)
		c.answered("retry", key, err, "order 1", true)
		key, err = sc.InitializeRequest(c.ctx, "k", orderRequest)
		c.answered("InitializeRequest", key, err, "order 1", true)
		key, err = sc.Retrieve(c.ctx, "k")
		c.answered("Retrieve", key, err, "order 1", true)
		if key.Attempts != 1 || key.Revision != 1 || len(key.Journal) != 1 {
			c.Errorf("the key has %d attempts, revision %d and %d journal entries, want 1 each",
				key.Attempts, key.Revision, len(key.Journal))
		}
	}
	other := c.service().Scope("another customer")
	key, err = other.Do(c.ctx, "k", orderRequest, finishWith("order 2"))
	c.answered("the same key in another scope", key, err, "order 2", false)
}

func bytesOfAllKindsSurvive(c *clause) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	body := bytes.Repeat(all, 256) // more than one packet
	header := map[string][]string{"Content-Type": {"image/png"}, "Set-Cookie": {"a=1", "b=caf\xe9"}}
	request := redisidem.Request{Method: "PUT", Path: "/images/\xff", Params: all}
	value := string(all[:200])
	sc := c.scope()
	_, err := sc.Do(c.ctx, value, request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Advance("drawn\x00\xff").WithState(all), nil
	})
	c.must("first stage", err)
	again := c.scope()
	_, err = again.Do(c.ctx, value, request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		var state []byte
		c.want("State", st.State(&state), nil)
		if !bytes.Equal(state, all) || !bytes.Equal(st.Key().Params, all) || st.Key().RecoveryPoint != "drawn\x00\xff" {
			c.Errorf("the stage finds state %q and params %q at %q", state, st.Key().Params, st.Key().RecoveryPoint)
		}
		return redisidem.Finish(redisidem.Response{Code: 200, Header: header, Body: body}), nil
	})
	c.must("second stage", err)
	key, err := c.scope().Do(c.ctx, value, request, c.mustNotRun)
	c.must("replay", err)
	if r := key.Response; key.Value != value || r == nil || !bytes.Equal(r.Body, body) || !maps.EqualFunc(r.Header, header, slices.Equal) {
		c.Errorf("the replay is %s", describe(key.Response))
	}
}

func otherRequestIsRefused(c *clause) {
	sc := c.scope()
	other := orderRequest
	other.Path = "/refunds"
	refused := func(when string) {
		c.Helper()
		_, err := sc.Do(c.ctx, "k", other, c.mustNotRun)
		c.want("another request "+when, err, redisidem.ErrFingerprintMismatch)
		_, err = sc.InitializeRequest(c.ctx, "k", other)
		c.want("another request "+when, err, redisidem.ErrFingerprintMismatch)
	}
	_, err := sc.InitializeRequest(c.ctx, "k", orderRequest)
	c.must("InitializeRequest", err)
	refused("before the work")
	key, err := sc.Do(c.ctx, "k", orderRequest, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		_, err := c.scope().Do(c.ctx, "k", other, c.mustNotRun)
		c.want("another request during the work", err, redisidem.ErrFingerprintMismatch)
		return finishWith("order 1")(ctx, st)
	})
	c.answered("the request itself", key, err, "order 1", false)
	refused("after the work")
}

func stagesContinue(c *clause) {
	key, err := c.scope().InitializeRequest(c.ctx, "k", orderRequest)
	c.must("InitializeRequest", err)
	ran := ""
	for range 10 {
		if key.Answered() {
			break
		}
		sc := c.scope() // each stage in another process
		switch key.RecoveryPoint {
		case redisidem.Started:
			key, err = sc.WorkStage(c.ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				ran += "started "
				return redisidem.Advance("paid").WithState(map[string]int{"cents": 1200}), nil
			})
		case "paid":
			key, err = sc.WorkStage(c.ctx, key, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				ran += "paid "
				var state struct{ Cents int }
				if err := st.State(&state); err != nil || state.Cents != 1200 {
					c.Errorf("the state is %+v, %v", state, err)
				}
				if _, err := sc.Lock(ctx, "k"); !errors.Is(err, redisidem.ErrNested) {
					c.Errorf("Lock inside a stage of the same key: %v", err)
				}
				return finishWith("order 1")(ctx, st)
			})
		}
		c.must("stage", err)
	}
	c.answered("all stages", key, err, "order 1", false)
	if ran != "started paid " || key.Revision != 2 {
		c.Errorf("ran %q, to revision %d", ran, key.Revision)
	}
	// An interim answer is for one caller only.
	key, err = c.scope().Do(c.ctx, "confirm", orderRequest, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Interim(redisidem.Started, redisidem.JSON(202, "please confirm")), nil
	})
	c.must("interim answer", err)
	if !key.Answered() || key.Finished() || key.Response.Code != 202 {
		c.Errorf("the interim answer is %s", describe(key.Response))
	}
	key, err = c.scope().Do(c.ctx, "confirm", orderRequest, finishWith("order 2"))
	c.answered("after the interim answer", key, err, "order 2", false)
}

func failedStageCanBeRetried(c *clause) {
	sc := c.scope()
	failure := errors.New("the provider is unavailable")
	attempt := 0
	for name, fail := range map[string]func() error{
		"error":  func() error { return failure },
		"panic":  func() error { panic(failure) },
		"Goexit": func() error { runtime.Goexit(); return nil },
	} {
		var err error
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() {
				if v := recover(); v != nil {
					err, _ = v.(error)
				}
			}()
			_, err = sc.Do(c.ctx, "k", orderRequest, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				attempt++
				if st.Attempt() != attempt {
					c.Errorf("attempt %d has number %d", attempt, st.Attempt())
				}
				return redisidem.Outcome{}, fail()
			})
		})
		wg.Wait()
		if name != "Goexit" && !errors.Is(err, failure) {
			c.Errorf("%s: the caller gets %v", name, err)
		}
	}
	key, err := c.scope().Do(c.ctx, "k", orderRequest, finishWith("order 1"))
	c.answered("after failures, without waiting for a lease", key, err, "order 1", false)
	if key.Attempts != 4 {
		c.Errorf("the key has %d attempts, want 4", key.Attempts)
	}
}

func concurrentCallersRunOnce(c *clause) {
	var runs atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		sc := c.scope().Wait(patience)
		for i := range 24 {
			value := fmt.Sprint("k", i%4)
			wg.Go(func() {
				key, err := sc.Do(c.ctx, value, orderRequest, func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					runs.Add(1)
					return finishWith(value)(ctx, st)
				})
				want := redisidem.JSON(201, value)
				if err != nil || !same(key.Response, &want) {
					c.Errorf("a caller got %s, %v", describe(key.Response), err)
				}
			})
		}
	}
	wg.Wait()
	if n := runs.Load(); n != 4 {
		c.Errorf("the work of 4 keys ran %d times", n)
	}
}
