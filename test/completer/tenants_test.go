//go:build unix

package completer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/child"
	"github.com/redisidem/redisidem/test/internal/rung"
)

const (
	tenantCount = 20
	eachTenant  = 10   // keys of each tenant but the first
	firstTenant = 1000 // keys of the first one
	perTenant   = 3    // keys of a tenant that may be worked on at once
)

// hangingTenant is the tenant whose stages never return.
const hangingTenant = "tenant-19"

// tenantFlow makes the flow of all tenants.
func tenantFlow(work redisidem.StageFunc) *redisidem.Flow {
	f, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "tenants", Version: 1, RecoverAfter: recoverAfter, MaxAttempts: 100,
		Stages: []redisidem.FlowStage{{Point: redisidem.Started, Work: work}},
	})
	if err != nil {
		panic(err)
	}
	return f
}

// completeTenants runs a completer for all tenants until it is killed.
func completeTenants() {
	pen := child.Own()
	client := redis.NewClient(&redis.Options{Addr: os.Getenv(addrVariable), ContextTimeoutEnabled: true})
	svc, err := redisidem.New(client, &redisidem.Config{Lease: lease, MaxHold: lease, Observer: hungWriter{pen}})
	if err != nil {
		panic(err)
	}
	flow := tenantFlow(func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		key := st.Key()
		pen.Write("begin %s %s %d", key.Scope, key.Value, os.Getpid())
		if key.Scope == hangingTenant {
			time.Sleep(child.Lifetime) // the call that it makes knows no context
		}
		time.Sleep(5 * time.Millisecond)
		pen.Write("end %s %s %d", key.Scope, key.Value, os.Getpid())
		return redisidem.Finish(redisidem.JSON(200, key.Value)), nil
	})
	c, err := redisidem.NewCompleter(svc, []*redisidem.Flow{flow}, &redisidem.CompleterConfig{
		Interval: 200 * time.Millisecond, Concurrency: 6, MaxPerScope: perTenant,
	})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), child.Lifetime)
	defer cancel()
	pen.Write("failed: a completer ended: %v", c.Run(ctx))
}

// hungWriter records the stages that are reported as hung.
type hungWriter struct{ pen child.Pen }

func (w hungWriter) Observe(_ context.Context, e redisidem.Event) {
	if e.Kind == redisidem.EventHung {
		w.pen.Write("hung %s %s %s", e.Scope, e.Key, e.Stage)
	}
}

// TestTenantsTakeTurns leaves 1000 keys of one tenant and 10 of each of 19 others, one of which has
// stages that hang. Two completers continue them, and one of them is killed and replaced.
func TestTenantsTakeTurns(t *testing.T) {
	t.Parallel()
	addr, ledger := rediscase.Server(t).Addr(), child.NewLedger(t)
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	svc := service(addr, patience, nil)
	leave := tenantFlow(func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Outcome{}, errPoison
	})
	for tenant := range tenantCount {
		keys := eachTenant
		if tenant == 0 {
			keys = firstTenant
		}
		for n := range keys {
			if _, err := svc.Scope(fmt.Sprint("tenant-", tenant)).DoFlow(t.Context(), fmt.Sprint("k", n), request, leave); !errors.Is(err, errPoison) {
				t.Fatal(err)
			}
		}
	}
	time.Sleep(2 * recoverAfter)

	start := func() *child.Process {
		p, err := child.Start(t, "tenants", ledger, addrVariable+"="+addr)
		must(t, err)
		return p
	}
	began := time.Now()
	completers := []*child.Process{start(), start()}
	until(t, "the keys of the small tenants are finished", func() bool { return ended(t, ledger) >= (tenantCount-2)*eachTenant })
	completers[0].Kill()
	completers[0] = start()
	until(t, "all but the keys that hang are finished", func() bool { return count(t, client, "*}:due:tenants") == eachTenant })
	took := time.Since(began)
	until(t, "a stage is reported as hung", func() bool {
		return slices.ContainsFunc(ledger.Lines(t), func(line string) bool { return strings.HasPrefix(line, "hung ") })
	})
	for _, p := range completers {
		p.Kill()
	}

	last := make(map[string]int) // by tenant, how many runs of the first tenant came before its last one
	first, hung := 0, 0
	hangs := make(map[string]int) // by process
	for _, line := range ledger.Lines(t) {
		switch words := strings.Fields(line); {
		case words[0] == "begin" && words[1] == "tenant-0":
			first++
		case words[0] == "begin" && words[1] == hangingTenant:
			hangs[words[3]]++
		case words[0] == "begin":
			last[words[1]] = first
		case words[0] == "hung":
			hung++
			if words[1] != hangingTenant || words[3] != redisidem.Started {
				t.Errorf("reported as hung: %q", line)
			}
		case words[0] != "end":
			t.Error(line)
		}
	}
	var behind []int
	for _, n := range last {
		behind = append(behind, n)
	}
	slices.Sort(behind)
	rung.Figure(t, "completer", "%d tenants, one with %d due keys and one whose stages hang: the others' %d keys each were begun after at most %d of the %d; all in %v; %d hung stages reported",
		tenantCount, firstTenant, eachTenant, behind[len(behind)-1], firstTenant, took.Round(time.Millisecond), hung)
	if len(last) != tenantCount-2 || behind[len(behind)-1] > firstTenant/4 {
		t.Errorf("before the last key of each tenant, %v keys of the first one were begun", behind)
	}
	if hung == 0 {
		t.Error("no hung stage was reported")
	}
	for pid, n := range hangs {
		if n > perTenant {
			t.Errorf("in process %s %d stages hang", pid, n)
		}
	}
}

// ended returns how many stages of the tenants with few keys have ended.
func ended(t *testing.T, ledger child.Ledger) (n int) {
	for _, line := range ledger.Lines(t) {
		if strings.HasPrefix(line, "end ") && !strings.HasPrefix(line, "end tenant-0 ") {
			n++
		}
	}
	return n
}
