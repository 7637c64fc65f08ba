//go:build unix

package topology

import (
	"net/url"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/test/internal/rung"
)

// sentinelURL returns the URL of a Sentinel group.
func sentinelURL(g *redistest.Sentinel) string {
	addrs := g.Addrs()
	return "redis+sentinel://" + addrs[0] + "?" + url.Values{"addr": addrs[1:], "master_name": {g.MasterName}}.Encode()
}

// TestSentinel loses masters: half of them are killed, half freeze, and come back when another one has their place and they do not
// know it.
func TestSentinel(t *testing.T) {
	many := count(t, *failovers, 4, 100, 100)
	r := dice(t)
	group := rediscase.Sentinel(t)
	l := newLoad(t, sentinelURL(group), 1)
	l.begin()
	var took []time.Duration
	for i := range many {
		must(t, group.AwaitReady())
		l.recovered()
		time.Sleep(time.Duration(r.Int64N(int64(300 * time.Millisecond))))
		old, err := group.Master()
		must(t, err)
		frozen := i%2 == 1
		if frozen {
			must(t, old.Pause())
		} else {
			old.Kill()
		}
		struck := time.Now()
		until(t, "there is another master", func() bool {
			master, err := group.Master()
			return err == nil && master != old
		})
		elected := time.Since(struck)
		if frozen {
			// It is thawed at once in half of the cases, and otherwise when all have gone on without it.
			if i%4 == 3 {
				l.recovered()
			}
			must(t, old.Resume())
		} else {
			must(t, old.Restart())
		}
		back := l.recovered()
		took = append(took, time.Since(struck))
		t.Logf("failover %d (frozen: %t): another master after %v, new keys %v later", i, frozen, elected.Round(time.Millisecond), back.Round(time.Millisecond))
	}
	l.end()
	must(t, group.AwaitReady())
	l.audit()
	rung.Figure(t, "R8", "%d Sentinel failovers, half kill -9, half SIGSTOP, durability 1: %v; new keys again after: %s", many, l, spread(took))
}
