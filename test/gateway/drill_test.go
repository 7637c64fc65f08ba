//go:build unix

package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/test/internal/rung"
)

// lease is that of the gateways.
const lease = time.Second

// maxOverlap is how long two runs of a request that may run again may overlap, if the first one
// lost its lease. The gateway ends its call before the lease does, and the upstream then has to
// notice that, on a machine that may be busy.
const maxOverlap = lease / 2

// drill is two gateways with everything that they stand on.
type drill struct {
	*testing.T
	redis    *redistest.Server
	raw      *redis.Client
	upstream *upstream
	issuer   *issuer
	ca       *authority
	folder   string
	balancer *balancer
	gateways []*process
	load     *load

	publishes bool           // the routes publish the retention
	counts    map[string]int // of steps, by name
}

// config is the configuration file of the gateways. %[1]s is the folder, %[2]s the upstream, %[3]v
// whether each answer says how long it is kept, and %[4]s a further route.
const config = `
upstream: %[2]s
scope: jwt:sub
jwt_jwks: %[1]s/jwks.json
tls_cert: %[1]s/cert.pem
tls_key: %[1]s/key.pem
lease: 1s
max_hold: 3s
redis_timeout: 800ms
drain_delay: 500ms
defaults: {key: required, publish_retention: %[3]v}
routes:
  - {match: "POST /{kind}", key_prefix: load-, interrupted: refuse}
  - {match: POST /orders, key_prefix: load-, interrupted: run}
  - {match: POST /bookings, key_prefix: load-, interrupted: ask, ask: "/bookings/by-key/{key}"}
  - {match: /open/, protect: false}
  %[4]s
`

// Routes for the requests that have the route POST /{kind} otherwise. Under the second one their
// keys have other names in Redis, and their retries would run again.
const (
	samePlace  = "- {match: POST /charges, key_prefix: load-, interrupted: refuse}"
	otherPlace = "- {match: POST /charges, interrupted: refuse}"
)

func newDrill(t *testing.T, seed uint64) *drill {
	t.Helper()
	d := &drill{
		T: t, redis: rediscase.Server(t, redistest.Args("--appendonly", "yes", "--appendfsync", "no")), upstream: newUpstream(t),
		ca: newAuthority(t), folder: t.TempDir(), counts: make(map[string]int),
	}
	d.raw = d.redis.Client()
	t.Cleanup(func() { _ = d.raw.Close() })
	d.issuer = &issuer{file: filepath.Join(d.folder, "jwks.json")}
	first := newSigningKey(t)
	d.issuer.publish(t, first)
	d.issuer.current.Store(first)
	d.ca.issue(t, d.path("cert.pem"), d.path("key.pem"))
	d.configure(false, "")
	d.balancer = newBalancer(t)
	for range 2 {
		d.gateways = append(d.gateways, d.start())
	}
	d.load = startLoad(t, d.balancer.url("https"), d.issuer, d.ca.pool, seed)
	return d
}

func (d *drill) path(name string) string { return filepath.Join(d.folder, name) }

// configure writes the configuration file, with a further route.
func (d *drill) configure(publishes bool, route string) {
	d.Helper()
	d.publishes = publishes
	write(d, d.path("gateway.yaml"), fmt.Appendf(nil, config, d.folder, d.upstream.URL, publishes, route))
}

// start starts a gateway, and blocks until the balancer sends it requests.
func (d *drill) start() *process {
	d.Helper()
	p := start(d, d.redis.Addr(), d.path("gateway.yaml"))
	d.balancer.add(d, p)
	return p
}

// TestDrill runs all steps in a random order while the load runs.
func TestDrill(t *testing.T) {
	t.Parallel()
	seed, rounds := rung.Seed(t), rung.Size(t, 2, 20, 200)
	d := newDrill(t, seed)
	defer d.load.stop()
	steps := map[string]func(*drill){
		"Redis restarted": (*drill).restartRedis, "Redis frozen": (*drill).freezeRedis, "Redis full": (*drill).fillRedis,
		"Redis read-only": (*drill).makeRedisReadOnly, "Redis without its replica": (*drill).takeReplica,
		"Redis unable to save": (*drill).breakSaves, "gateways replaced": (*drill).replaceGateways, "gateway killed": (*drill).killGateway,
		"routes changed": (*drill).changeRoutes, "certificate changed": (*drill).changeCertificate, "keys of tokens changed": (*drill).changeTokenKeys,
	}
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // not a secret
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range steps {
			if !yield(name) {
				return
			}
		}
	})
	for range rounds {
		random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, name := range names {
			began := time.Now()
			steps[name](d)
			d.counts[name]++
			if d.Failed() {
				d.Fatalf("this was during or after the step %q", name)
			}
			d.Logf("%s: %v", name, time.Since(began).Round(10*time.Millisecond))
		}
	}
	d.load.turn()
	d.load.stop()
	d.settle()
}

// redisFault breaks Redis until enough requests with keys were refused and enough others served,
// and then mends it.
func (d *drill) redisFault(state string, begin, end func() error) {
	d.Helper()
	const refused, served = 5, 50
	d.load.tolerate(redisAway)
	refusals, open := d.load.refusals.Load(), d.load.open.Load()
	if err := begin(); err != nil {
		d.Fatal(err)
	}
	until(d, "requests are refused, and those to other routes served", func() bool {
		return d.load.refusals.Load() >= refusals+refused && d.load.open.Load() >= open+served || d.Failed()
	})
	for _, g := range d.gateways {
		status, text, err := g.page("/readyz")
		if err != nil || status != http.StatusOK || !strings.Contains(text, state) {
			d.Errorf("while Redis reports %q, /readyz is %d, %q, %v", state, status, text, err)
		}
	}
	if err := end(); err != nil {
		d.Fatal(err)
	}
	d.load.turn()
	d.load.tolerate(0)
}

func (d *drill) restartRedis() {
	d.redisFault("connection refused", func() error {
		d.redis.Kill()
		return nil
	}, d.redis.Restart)
}

func (d *drill) freezeRedis() {
	d.redisFault("", d.redis.Pause, d.redis.Resume)
}

func (d *drill) fillRedis() {
	d.redisFault("OOM", d.set("maxmemory", "1"), d.set("maxmemory", "0"))
}

// makeRedisReadOnly makes Redis the replica of a master that is away. It keeps its data.
func (d *drill) makeRedisReadOnly() {
	follow := func(host, port string) func() error {
		return func() error { return d.raw.ReplicaOf(context.Background(), host, port).Err() }
	}
	d.redisFault("READONLY", follow("127.0.0.1", "1"), follow("NO", "ONE"))
}

func (d *drill) takeReplica() {
	d.redisFault("NOREPLICAS", d.set("min-replicas-to-write", "1"), d.set("min-replicas-to-write", "0"))
}

// breakSaves puts a folder in the place of the snapshot, so that Redis cannot write it.
func (d *drill) breakSaves() {
	snapshot := filepath.Join(d.redis.Dir(), "dump.rdb")
	save := func(want string) error {
		if err := d.raw.BgSave(context.Background()).Err(); err != nil {
			return err
		}
		until(d, "the snapshot is "+want, func() bool {
			info := d.raw.Info(context.Background(), "persistence").Val()
			return strings.Contains(info, "rdb_bgsave_in_progress:0") && strings.Contains(info, "rdb_last_bgsave_status:"+want)
		})
		return nil
	}
	d.redisFault("MISCONF", func() error {
		if err := os.RemoveAll(snapshot); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(snapshot, "x"), 0o700); err != nil {
			return err
		}
		if err := d.set("save", "3600 1000000")(); err != nil {
			return err
		}
		return save("err")
	}, func() error {
		if err := os.RemoveAll(snapshot); err != nil {
			return err
		}
		if err := save("ok"); err != nil {
			return err
		}
		return d.set("save", "")()
	})
}

// set returns a function that sets a parameter of Redis.
func (d *drill) set(name, value string) func() error {
	return func() error { return d.raw.ConfigSet(context.Background(), name, value).Err() }
}

// replaceGateways replaces the gateways one by one, as a rolling update does. Nothing is tolerated.
func (d *drill) replaceGateways() {
	refused, unserved := d.balancer.refused.Load(), d.balancer.unserved.Load()
	for i, old := range d.gateways {
		d.gateways[i] = d.start()
		old.signal(d, syscall.SIGTERM)
		old.wait(d)
	}
	d.load.turn()
	if now := d.balancer.refused.Load(); now != refused {
		d.Errorf("%d connections were refused", now-refused)
	}
	if now := d.balancer.unserved.Load(); now != unserved {
		d.Errorf("%d connections were not served", now-unserved)
	}
}

func (d *drill) killGateway() {
	d.load.tolerate(connectionsBreak)
	i := d.counts["gateway killed"] % len(d.gateways)
	d.gateways[i].kill()
	d.load.turn() // with the other gateway alone
	d.gateways[i] = d.start()
	d.load.turn()
	d.load.tolerate(0)
}

// reload sends SIGHUP to the gateways, and blocks until a condition holds for each of them.
func (d *drill) reload(what string, holds func(*process) bool) {
	d.Helper()
	for _, g := range d.gateways {
		g.signal(d, syscall.SIGHUP)
	}
	for _, g := range d.gateways {
		until(d, what, func() bool { return holds(g) })
	}
}

// ask sends a request with a new key to one gateway.
func (d *drill) ask(g *process, key *signingKey) (header http.Header, status int, state *tls.ConnectionState) {
	d.Helper()
	client := newClient(d.ca.pool, false)
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(d.Context(), http.MethodPost, g.url+"/orders", strings.NewReader("{}"))
	if err != nil {
		d.Fatal(err)
	}
	r.Header.Set("Idempotency-Key", fmt.Sprintf("%q", fmt.Sprint("probe-", time.Now().UnixNano())))
	r.Header.Set("Authorization", key.token(d, "prober"))
	res, err := client.Do(r)
	if err != nil {
		d.Fatal(err)
	}
	_ = res.Body.Close()
	return res.Header, res.StatusCode, res.TLS
}

// changeRoutes changes the routes, of which it adds or removes one. It then breaks the file, and
// adds a route that would give keys other names. The gateways keep the routes that they have.
func (d *drill) changeRoutes() {
	const successful = "redisidem_config_last_reload_successful"
	want, route := !d.publishes, ""
	if want {
		route = samePlace
	}
	d.configure(want, route)
	d.reload("the routes change", func(g *process) bool {
		header, _, _ := d.ask(g, d.issuer.current.Load())
		return (header.Get("Idempotency-Retention") != "") == want
	})
	d.load.turn()
	write(d, d.path("gateway.yaml"), []byte("routes: [{match: /, protekt: false}]\n"))
	d.reload("a broken file is reported", func(g *process) bool { return g.metric(successful) == "0" })
	d.load.turn()
	d.configure(want, route)
	d.reload("the file is accepted again", func(g *process) bool { return g.metric(successful) == "1" })
	d.configure(want, otherPlace)
	d.reload("a route of another place is refused", func(g *process) bool { return g.metric(successful) == "0" })
	d.load.turn()
	d.configure(want, route)
	d.reload("the file is accepted again", func(g *process) bool { return g.metric(successful) == "1" })
}

func (d *drill) changeCertificate() {
	serial := d.ca.issue(d, d.path("cert.pem"), d.path("key.pem"))
	d.reload("new connections get the new certificate", func(g *process) bool {
		_, _, state := d.ask(g, d.issuer.current.Load())
		return state.PeerCertificates[0].SerialNumber.Cmp(serial) == 0
	})
	d.load.turn()
}

// changeTokenKeys adds a key for tokens, uses it, and withdraws the old one.
func (d *drill) changeTokenKeys() {
	old, next := d.issuer.current.Load(), newSigningKey(d)
	is := func(key *signingKey, want int) func(*process) bool {
		return func(g *process) bool {
			_, status, _ := d.ask(g, key)
			return status == want
		}
	}
	d.issuer.publish(d, old, next)
	d.reload("the new key is accepted", is(next, http.StatusCreated))
	d.issuer.current.Store(next)
	d.load.turn()
	d.issuer.publish(d, next)
	d.reload("the old key is refused", is(old, http.StatusUnauthorized))
	d.load.turn()
}

// settle asks for each key again, and compares all answers with what the upstream has done.
func (d *drill) settle() {
	client := newClient(d.ca.pool, true)
	defer client.CloseIdleConnections()
	var workers sync.WaitGroup
	queue := make(chan *request)
	for range 8 {
		workers.Go(func() {
			for r := range queue {
				d.check(client, r)
			}
		})
	}
	charges, bookings, unknown, repeated, overlap := 0, 0, 0, 0, time.Duration(0)
	for _, r := range d.load.keys {
		queue <- r
		done := d.upstream.done(r.key)
		switch {
		case done.overlap > maxOverlap || done.oldFences > 0:
			d.Errorf("%s %s: runs overlapped for %v, and %d had an old fence", r.path, r.key, done.overlap, done.oldFences)
		case r.path == "/charges":
			charges++
			if done.runs > 1 {
				d.Errorf("%s %s ran %d times", r.path, r.key, done.runs)
			}
		case r.path == "/bookings":
			bookings++
			if len(done.answers) != 1 {
				d.Errorf("%s %s was done %d times", r.path, r.key, len(done.answers))
			}
		case done.runs > 1:
			repeated++
		}
		overlap = max(overlap, done.overlap)
		if r.unknown {
			unknown++
		}
	}
	close(queue)
	workers.Wait()
	l := d.load
	if l.replays.Load() == 0 || unknown == 0 || repeated == 0 || charges == 0 || l.broken.Load() == 0 {
		d.Errorf("too little has happened for this to show anything: %d charges, %d unknown, %d repeated, %d replays, %d broken",
			charges, unknown, repeated, l.replays.Load(), l.broken.Load())
	}
	steps := 0
	for _, n := range d.counts {
		steps += n
	}
	rung.Figure(d, "R18", "%d steps; %d keys; %d charges: 0 ran twice, %d ended unknown; %d bookings: each done once; %d orders ran again after an interruption, "+
		"and overlapped for %v at most; %d answers, %d of them replays: 0 differ; %d refusals while Redis was away; %d answers of other routes, 0 interrupted by "+
		"Redis; 0 connections refused by %d gateways that were replaced", steps, len(l.keys), charges, unknown, bookings, repeated, overlap.Round(time.Millisecond), l.answers.Load(),
		l.replays.Load(), l.refusals.Load(), l.open.Load(), 2*d.counts["gateways replaced"])
}

// check asks for a key that is settled.
func (d *drill) check(client *http.Client, r *request) {
	before := d.upstream.done(r.key)
	got, err := do(client, http.MethodPost, d.balancer.url("https")+r.path, r.key, d.issuer.current.Load().token(d, r.caller))
	switch {
	case err != nil:
		d.Errorf("%s %s at the end: %v", r.path, r.key, err)
	case r.body != "":
		if got.body != r.body || !got.replayed {
			d.Errorf("%s %s: the answer was %q, and is %+v at the end", r.path, r.key, r.body, got)
		}
	case got.problem != "outcome-unknown":
		d.Errorf("%s %s: the outcome was unknown, and is %+v at the end", r.path, r.key, got)
	}
	if after := d.upstream.done(r.key); after.runs != before.runs {
		d.Errorf("%s %s ran once more at the end", r.path, r.key)
	}
}
