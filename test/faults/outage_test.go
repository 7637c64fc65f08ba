//go:build unix

package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/rung"
)

const (
	outageTimeout = 300 * time.Millisecond
	grace         = 50 * time.Millisecond // how long after its timeout an operation may return
	exception     = time.Second           // the same for one operation in a hundred
)

// site is a server with a client whose connections can be redirected.
type site struct {
	process
	client *redis.Client
	addr   atomic.Pointer[string] // where the next connection goes
}

func newSite(t *testing.T, change func(*redis.Options)) *site {
	t.Helper()
	s := &site{process: newProcess(t)}
	s.lead(s.Addr())
	s.client = dial(t, s.Addr(), change, func(o *redis.Options) {
		o.ReadTimeout = 0 // the default of go-redis: the library's timeout is the only bound
		o.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, *s.addr.Load())
		}
	})
	return s
}

func (s *site) lead(addr string) { s.addr.Store(&addr) }

// outages are the ways to take the server away.
var outages = []struct {
	name  string
	pool  int // connections in the client's pool; 0 for go-redis's own number
	begin func(t *testing.T, s *site)
}{
	{"refused", 0, func(_ *testing.T, s *site) { s.Kill() }},
	{"black hole", 0, func(t *testing.T, s *site) {
		hole := rediscase.BlackHole(t)
		s.lead(hole.Addr())
		s.Kill() // which breaks the connections that there are
	}},
	{"exhausted pool", 1, func(t *testing.T, s *site) {
		conn := s.client.Conn()
		must(t, conn.Ping(context.Background()).Err())
		t.Cleanup(func() { _ = conn.Close() })
	}},
	{"stalled", 0, func(t *testing.T, s *site) {
		must(t, s.Pause())
		t.Cleanup(s.Kill) // a client closes at once then
	}},
}

// TestOutage measures how long after its timeout each operation returns. A timer of the same length
// runs beside each call. When the machine is so busy that the timer is late, the call may be as
// late.
func TestOutage(t *testing.T) {
	rounds := rung.Size(t, 8, 60, 300)
	late := &lateness{}
	t.Run("outages", func(t *testing.T) {
		for _, o := range outages {
			for _, auto := range []bool{false, true} {
				if auto && o.pool > 0 {
					continue // it has its own connection, so the pool cannot be exhausted
				}
				t.Run(fmt.Sprintf("%s/auto=%t", o.name, auto), func(t *testing.T) {
					t.Parallel()
					s := newSite(t, func(opt *redis.Options) {
						if o.pool > 0 {
							opt.PoolSize, opt.PipelinePoolSize = o.pool, -1 // pipelines take their connections from the same pool
						}
					})
					svc := serve(t, s.client, func(cfg *redisidem.Config) {
						cfg.Timeout, cfg.AutoPipeline, cfg.CommitRetry = outageTimeout, auto, -1
					})
					calls := outageCalls(t, serve(t, s.client).Scope("a"), svc.Scope("a"), rounds)
					o.begin(t, s)
					for i := range rounds {
						var round sync.WaitGroup
						for _, c := range calls {
							round.Go(func() { late.measure(t, o.name+"/"+c.name, c.want, func() error { return c.do(i) }) })
						}
						round.Wait()
					}
				})
			}
		}
	})
	late.mustBeBounded(t)
	rung.Figure(t, "R11", "%s", late)
}

// outageCall is an operation during an outage. It runs once in each round.
type outageCall struct {
	name string
	want error
	do   func(round int) error
}

// outageCalls prepares the operations while the server still answers.
func outageCalls(t *testing.T, well, sc *redisidem.Scope, rounds int) []outageCall {
	t.Helper()
	ctx := context.Background()
	hold := func(value string) *redisidem.Lease {
		_, err := well.InitializeRequest(ctx, value, request)
		must(t, err)
		held, err := sc.Lock(ctx, value)
		must(t, err)
		return held
	}
	never := func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		t.Error("the callback ran")
		return answer("never"), nil
	}
	renewed := hold("renewed")
	t.Cleanup(func() { _ = renewed.Abandon(ctx) })
	var committed, abandoned []*redisidem.Lease
	for i := range rounds {
		committed = append(committed, hold(fmt.Sprint("committed", i)))
		abandoned = append(abandoned, hold(fmt.Sprint("abandoned", i)))
	}
	return []outageCall{
		{"acquire", redisidem.ErrUnavailable, func(i int) error {
			_, err := sc.Do(ctx, fmt.Sprint("acquired", i), request, never)
			return err
		}},
		{"renew", redisidem.ErrUnavailable, func(int) error { return renewed.Renew(ctx) }},
		{"commit", redisidem.ErrOutcomeUnknown, func(i int) error {
			_, err := committed[i].Commit(ctx, answer("done"))
			return err
		}},
		{"abandon", redisidem.ErrUnavailable, func(i int) error { return abandoned[i].Abandon(ctx) }},
		{"wait", redisidem.ErrUnavailable, func(int) error {
			_, err := sc.Wait(patience).Do(ctx, "renewed", request, never)
			return err
		}},
	}
}

// lateness records how late calls returned.
type lateness struct {
	mu    sync.Mutex
	calls int
	over  []string      // the calls that exceeded grace
	far   bool          // one of them exceeded exception
	worst time.Duration // how late the latest call was
	which string
	timer time.Duration // how late the latest timer was
}

// measure makes a call, with a timer beside it.
func (l *lateness) measure(t *testing.T, name string, want error, call func() error) {
	t.Helper()
	began := time.Now()
	rang := make(chan time.Duration, 1)
	time.AfterFunc(outageTimeout, func() { rang <- time.Since(began) - outageTimeout })
	err := call()
	late := time.Since(began) - outageTimeout
	timer := <-rang
	if !errors.Is(err, want) {
		t.Errorf("%s gets %v", name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	l.timer = max(l.timer, timer)
	if late > l.worst {
		l.worst, l.which = late, name
	}
	if late > grace+timer {
		l.far = l.far || late > exception+timer
		l.over = append(l.over, fmt.Sprintf("%s returned %v after its timeout, and a timer %v", name, late, timer))
	}
}

// mustBeBounded fails the test unless all calls were in time. It tolerates one late call in a
// hundred, since the scheduler may delay a call and not its timer.
func (l *lateness) mustBeBounded(t *testing.T) {
	t.Helper()
	if len(l.over)*100 <= l.calls && !l.far {
		return
	}
	for _, o := range l.over {
		t.Error(o)
	}
}

func (l *lateness) String() string {
	return fmt.Sprintf("%d of %d calls returned within their timeout of %v plus %v; the worst took %v longer (%s), the worst timer %v",
		l.calls-len(l.over), l.calls, outageTimeout, grace, l.worst.Round(100*time.Microsecond), l.which,
		l.timer.Round(100*time.Microsecond))
}
