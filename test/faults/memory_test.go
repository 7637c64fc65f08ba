//go:build unix

package faults

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/rung"
)

// TestMemory fills a server's memory while stages run. Stages that have begun are stored, with
// their effects. New stages do not begin.
func TestMemory(t *testing.T) {
	t.Parallel()
	keys := rung.Size(t, 100, 500, 2000)
	p := newProcess(t)
	ctx := context.Background()
	sc := serve(t, dial(t, p.Addr())).Scope("a")
	work := newWork(keys)
	results := work.begin(sc)
	_, err := sc.InitializeRequest(ctx, "stages", request)
	must(t, err)
	stages, err := sc.Lock(ctx, "stages")
	must(t, err)

	work.ready.Wait()
	end := p.begin(t, oom)
	work.release(0)
	work.release(1)
	for range keys {
		if err := <-results; err != nil {
			t.Errorf("a commit gets %v", err)
		}
	}
	_, kept, err := stages.CommitKeep(ctx, redisidem.Advance("next").WithState("state"))
	if err != nil || !kept {
		t.Errorf("a kept commit gets %t, %v", kept, err)
	}
	if err := stages.Renew(ctx); err != nil {
		t.Errorf("a renewal gets %v", err)
	}
	if _, err := stages.Commit(ctx, answer("done")); err != nil {
		t.Errorf("a commit gets %v", err)
	}
	refused := 0
	for i := range keys {
		_, err := sc.Do(ctx, fmt.Sprint("new", i), request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			t.Error("something was begun")
			return answer("never"), nil
		})
		if !errors.Is(err, redisidem.ErrUnavailable) {
			t.Errorf("a claim gets %v", err)
			continue
		}
		refused++
	}
	work.mustNotRunAgain(t, sc) // all of these are replays
	end()
	mustBeTidy(t, p)
	rung.Figure(t, "R13", "with full memory %d of %d claims were refused, %d of %d commits stored, %d of %d answers replayed",
		refused, keys, keys, keys, keys, keys)
}

// TestEviction tries every eviction policy. A policy that evicts keys must be reported.
func TestEviction(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	svc := serve(t, dial(t, p.Addr()))
	policies := []string{
		"volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl", "allkeys-lru", "allkeys-lfu", "allkeys-random", "noeviction",
	}
	found := 0
	for _, policy := range policies {
		p.set(t, "maxmemory-policy", policy)
		for _, limit := range []string{"0", "100mb"} {
			p.set(t, "maxmemory", limit)
			want := redisidem.VerdictFailure
			switch {
			case policy == "noeviction":
				want = redisidem.VerdictGood
			case limit == "0":
				want = redisidem.VerdictWarning // nothing is evicted yet
			}
			report, err := svc.Check(context.Background())
			must(t, err)
			for _, f := range report.Findings {
				if f.Subject != "eviction" {
					continue
				}
				if f.Verdict != want {
					t.Errorf("%s with maxmemory %s is %v: %s", policy, limit, f.Verdict, f.Detail)
				} else if want == redisidem.VerdictFailure {
					found++
				}
			}
			unsafe := errors.Is(report.Err(), redisidem.ErrUnsafeServer)
			if unsafe != (want == redisidem.VerdictFailure) {
				t.Errorf("%s with maxmemory %s: the report's error is %v", policy, limit, report.Err())
			}
			// Programs meet the policy when they call Open.
			opened, err := redisidem.Open(context.Background(), "redis://"+p.Addr(), &redisidem.Config{Timeout: timeout})
			if errors.Is(err, redisidem.ErrUnsafeServer) != unsafe {
				t.Errorf("%s with maxmemory %s: Open gets %v", policy, limit, err)
			}
			if err == nil {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				_ = opened.Close(ctx)
				cancel()
			}
		}
	}
	rung.Figure(t, "R13", "%d of %d policies that forget keys were found", found, len(policies)-1)
}
