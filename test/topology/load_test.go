//go:build unix

package topology

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

const (
	processes  = 3 // services with clients of their own
	goroutines = 4 // in each
	lease      = 2 * time.Second
	timeout    = time.Second
	patience   = time.Minute // with one key
)

var request = redisidem.Request{Method: "POST", Path: "/orders"}

// load is steady work on ever new keys and on old ones, which remembers what it was told.
type load struct {
	testing.TB
	scopes []*redisidem.Scope
	name   func() string // of the next key

	stop context.CancelFunc
	wg   sync.WaitGroup
	next atomic.Int64

	mu        sync.Mutex
	told      map[string]string // the answer of each key
	keys      []string          // that have one
	committed time.Time         // when the last new key was
	commits   int
	replays   int
	troubled  int        // calls that ended with an error
	answered  *sync.Cond // tells of each new key that is committed
}

// newLoad starts work on the server of that URL.
func newLoad(t testing.TB, url string, durability int) *load {
	t.Helper()
	l := &load{TB: t, told: make(map[string]string)}
	l.name = func() string { return fmt.Sprint("order-", l.next.Add(1)) }
	l.answered = sync.NewCond(&l.mu)
	for i := range processes {
		svc, err := redisidem.Open(t.Context(), url, &redisidem.Config{
			Lease: lease, Timeout: timeout, Durability: durability, Owner: fmt.Sprint("process-", i),
		})
		must(t, err)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := svc.Close(ctx); err != nil {
				t.Errorf("close: %v", err)
			}
		})
		l.scopes = append(l.scopes, svc.Scope("load"))
	}
	return l
}

// begin starts the work, end ends it and waits for it.
func (l *load) begin() {
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	for _, sc := range l.scopes {
		for range goroutines {
			l.wg.Go(func() {
				for ctx.Err() == nil {
					if key := l.old(); key != "" && rand.N(4) == 0 {
						l.again(sc, key)
					} else {
						l.one(sc, l.name())
					}
				}
			})
		}
	}
}

func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

// one works on a key until it is told an answer.
func (l *load) one(sc *redisidem.Scope, key string) {
	for began := time.Now(); time.Since(began) < patience; time.Sleep(rand.N(20 * time.Millisecond)) {
		got, err := l.ask(sc, key)
		if err == nil && got.Finished() {
			l.remember(key, string(got.Response.Body), !got.Replayed())
			return
		}
	}
	l.Errorf("key %s got no answer within %v", key, patience)
}

// again asks for a key that was answered.
func (l *load) again(sc *redisidem.Scope, key string) {
	if got, err := l.ask(sc, key); err == nil && got.Finished() {
		l.remember(key, string(got.Response.Body), false)
	}
}

// ask runs what is to be run for a key: half of them in one stage, half in two.
func (l *load) ask(sc *redisidem.Scope, key string) (*redisidem.Key, error) {
	work := func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		l.mustBeNew(key)
		if st.Key().RecoveryPoint == redisidem.Started && key[len(key)-1]%2 == 0 {
			return redisidem.Advance("half"), nil
		}
		return redisidem.Finish(redisidem.JSON(201, fmt.Sprintf("%s/%d", key, st.Fence()))), nil
	}
	got, err := sc.Do(context.Background(), key, request, work)
	for err == nil && !got.Answered() {
		got, err = sc.WorkStage(context.Background(), got, work)
	}
	if err != nil {
		l.trouble(err)
	}
	return got, err
}

// mustBeNew objects when a callback runs for a key that has been answered: its answer is lost.
func (l *load) mustBeNew(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if answer := l.told[key]; answer != "" {
		l.Errorf("key %s runs again: the answer %s is lost", key, answer)
	}
}

func (l *load) remember(key, answer string, own bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch before := l.told[key]; {
	case before == "":
		l.told[key], l.committed = answer, time.Now()
		l.keys = append(l.keys, key)
		l.commits++
		l.answered.Broadcast()
	case before != answer:
		l.Errorf("key %s was answered with %s, and now with %s", key, before, answer)
	case own:
		l.Errorf("key %s was committed twice, with %s", key, answer)
	default:
		l.replays++
	}
}

func (l *load) trouble(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.troubled++
	switch {
	case strings.Contains(err.Error(), "CROSSSLOT"):
		l.Error(err)
	case errors.Is(err, redisidem.ErrUnavailable), errors.Is(err, redisidem.ErrCommitUnknown), errors.Is(err, redisidem.ErrLocked),
		errors.Is(err, redisidem.ErrNotDurable), errors.Is(err, redisidem.ErrLeaseLost), errors.Is(err, redisidem.ErrFenced):
	default:
		l.Errorf("a call was told %v", err)
	}
}

// old returns one of the keys that were answered.
func (l *load) old() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.keys) == 0 {
		return ""
	}
	return l.keys[rand.N(len(l.keys))]
}

// recovered blocks until some new keys have been committed from now on, and returns how long the first of them took.
func (l *load) recovered() time.Duration {
	const some = 5
	began := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	var first time.Duration
	for n := l.commits; l.commits < n+some; {
		l.answered.Wait()
		if first == 0 {
			first = time.Since(began)
		}
	}
	return first
}

// audit holds what was told against what the server has, through fresh calls.
func (l *load) audit() {
	l.Helper()
	l.mu.Lock()
	keys := l.keys
	l.mu.Unlock()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 4 * processes {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(keys); i = int(next.Add(1)) - 1 {
				got, err := l.scopes[0].Retrieve(context.Background(), keys[i])
				switch {
				case err != nil:
					l.Errorf("key %s, which was answered with %s: %v", keys[i], l.told[keys[i]], err)
				case !got.Finished() || string(got.Response.Body) != l.told[keys[i]]:
					l.Errorf("key %s was answered with %s, and the record is %+v", keys[i], l.told[keys[i]], got)
				}
			}
		})
	}
	wg.Wait()
}

func (l *load) String() string {
	return fmt.Sprintf("%d keys acknowledged, %d replays, %d calls told of trouble; 0 acknowledged commits lost, 0 double commits, "+
		"0 differing replays", l.commits, l.replays, l.troubled)
}
