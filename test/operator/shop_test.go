//go:build unix

package operator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/child"
)

const (
	patience = time.Minute
	tenants  = 10
	perChild = 20 // keys of a worker that is killed or interrupted
)

var (
	request     = redisidem.Request{Method: "POST", Path: "/orders", Params: []byte(`{"cart":"8f14e45f","amount":4200}`)}
	errProvider = errors.New("the card processor answered 503")
)

// tenant and order name the scope and the value of the key with a number. The keys of workers that
// stay alive are of the first tenant alone.
func tenant(i int) string { return fmt.Sprint("tenant-", i%tenants) }

func order(i int) string { return fmt.Sprint("order-", i) }

// checkout is the flow of some keys. Its first stage is committed, and charge is its second.
func checkout(charge redisidem.StageFunc) *redisidem.Flow {
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "checkout", Version: 1, RecoverAfter: time.Millisecond, MaxAttempts: 1,
		Stages: []redisidem.FlowStage{
			{Point: redisidem.Started, Work: ends(redisidem.Next(), nil)}, {Point: "reserved", Work: charge},
		},
	})
	if err != nil {
		panic(err)
	}
	return flow
}

// ends returns a callback with an outcome or an error.
func ends(o redisidem.Outcome, err error) redisidem.StageFunc {
	return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return o, err }
}

// shop is a server with keys in every state.
type shop struct {
	*testing.T
	server *redistest.Server
	svc    *redisidem.Service
	ledger child.Ledger
	raw    *redis.Client
	next   int // number of the next key
	// of has the numbers of the keys by how they came into their state.
	of map[string][]int
}

// newShop fills a server with keys. Of each hundred, workers finished 64, left 5
// idle and 5 with an interim answer, are busy with 5, were killed in 8, and interrupted in 7. 5 are
// dead letters, because their worker was killed (3), or because the card processor failed (2). The
// last one has a record that only a newer version can read.
func newShop(t *testing.T, server *redistest.Server, keys int) *shop {
	t.Helper()
	svc, err := redisidem.OpenUnchecked("redis://"+server.Addr(), &redisidem.Config{Timeout: patience, AutoPipeline: true, Owner: "shop-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = svc.Close(context.Background()) })
	raw := server.Client()
	t.Cleanup(func() { _ = raw.Close() })
	s := &shop{T: t, server: server, svc: svc, raw: raw, ledger: child.NewLedger(t), of: make(map[string][]int)}
	per := func(percent int) int { return keys * percent / 100 }

	killed := func(p *child.Process) { p.Kill() }
	interrupted := func(p *child.Process) {
		if err := syscall.Kill(p.PID(), syscall.SIGINT); err != nil {
			t.Error(err)
		}
		if err := p.Wait(patience); err != nil {
			t.Errorf("an interrupted worker ended with %v", err)
		}
	}
	s.employ("killed", per(8), orders{lease: time.Second}, killed)
	s.employ("interrupted", per(7), orders{lease: time.Minute}, interrupted)
	s.employ("killed in the flow", per(3), orders{lease: time.Second, flow: true}, killed)
	s.each("failed in the flow", per(2), func(sc *redisidem.Scope, value string) error {
		_, err := sc.DoFlow(t.Context(), value, request, checkout(ends(redisidem.Outcome{}, errProvider)))
		if errors.Is(err, errProvider) {
			return nil
		}
		return fmt.Errorf("the flow ends with %w", err)
	})
	s.each("finished", per(64), func(sc *redisidem.Scope, value string) error {
		_, err := sc.Do(t.Context(), value, request, ends(redisidem.Finish(redisidem.JSON(201, map[string]string{"receipt": value})), nil))
		return err
	})
	s.each("unreadable", per(1), func(sc *redisidem.Scope, value string) error {
		key, err := sc.InitializeRequest(t.Context(), value, request)
		if err != nil {
			return err
		}
		return s.damage(key)
	})
	s.each("interim", per(5), func(sc *redisidem.Scope, value string) error {
		_, err := sc.Do(t.Context(), value, request, ends(redisidem.Interim("confirmed", redisidem.JSON(202, "confirm the payment")), nil))
		return err
	})
	s.each("idle", per(5), func(sc *redisidem.Scope, value string) error {
		_, err := sc.InitializeRequest(t.Context(), value, request)
		return err
	})
	s.giveUp(per(5))
	s.employ("in flight", per(5), orders{lease: 10 * time.Minute}, func(*child.Process) {}) // until the test ends
	return s
}

// damage makes a record one of a schema version that does not exist yet.
func (s *shop) damage(key *redisidem.Key) error {
	name, err := s.raw.Keys(s.Context(), "*:"+key.ID()).Result()
	if err != nil || len(name) != 1 {
		return fmt.Errorf("the record has the names %q: %w", name, err)
	}
	return s.raw.HSet(s.Context(), name[0], "control", "9 of the next version").Err()
}

// numbers returns the numbers of more keys.
func (s *shop) numbers(how string, many int) (first int) {
	first = s.next
	s.next += many
	for i := range many {
		s.of[how] = append(s.of[how], first+i)
	}
	return first
}

// each calls do for more keys side by side.
func (s *shop) each(how string, many int, do func(sc *redisidem.Scope, value string) error) {
	s.Helper()
	first := s.numbers(how, many)
	var wg sync.WaitGroup
	const callers = 128
	for caller := range callers {
		wg.Go(func() {
			for i := first + caller; i < first+many; i += callers {
				if err := do(s.svc.Scope(tenant(i)), order(i)); err != nil {
					s.Errorf("%s: %s: %v", how, order(i), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// employ starts workers on more keys, two at a time, and calls end for each once it has begun its
// work on all of its keys.
func (s *shop) employ(how string, many int, o orders, end func(p *child.Process)) {
	s.Helper()
	o.addr, o.first = s.server.Addr(), s.numbers(how, many)
	var wg sync.WaitGroup
	free := make(chan struct{}, 2)
	for left := many; left > 0; left -= o.many {
		o.many = min(left, perChild)
		mine := o
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			p, err := child.Start(s, "worker", s.ledger, mine.variable())
			if err == nil {
				err = p.Await("working", patience)
			}
			if err != nil {
				s.Error(err)
				return
			}
			end(p)
		})
		o.first += o.many
	}
	wg.Wait()
}

// giveUp lets a completer give up the keys of the flow, whose only attempt is used up.
func (s *shop) giveUp(many int) {
	s.Helper()
	completer, err := redisidem.NewCompleter(s.svc, []*redisidem.Flow{checkout(ends(redisidem.Outcome{}, errProvider))}, nil)
	if err != nil {
		s.Fatal(err)
	}
	dead := int64(0)
	for end := time.Now().Add(patience); dead < int64(many); {
		swept, err := completer.Sweep(s.Context())
		if err != nil || time.Now().After(end) {
			s.Fatalf("%d of %d keys were given up: %v", dead, many, err)
		}
		dead += swept.DeadLettered
	}
}
