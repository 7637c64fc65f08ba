package redisidem_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

// mustBeInvalid checks that err refuses the input of that name, and tells each of the words.
func mustBeInvalid(t testing.TB, err error, field string, words ...string) {
	t.Helper()
	var refused *redisidem.InvalidError
	if !errors.As(err, &refused) || !errors.Is(err, redisidem.ErrInvalid) {
		t.Fatalf("error is %v, want a refusal of %s", err, field)
	}
	if refused.Field != field {
		t.Errorf("%q is refused, want %q: %v", refused.Field, field, err)
	}
	for _, w := range append(words, field) {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not tell %q", err, w)
		}
	}
}

// dump returns all that Redis holds of the test's, with what is to be the same before and after: contents and expiry.
func (e *env) dump(client redis.UniversalClient) map[string]string {
	e.t.Helper()
	all := make(map[string]string)
	for _, k := range e.keys(client) {
		var what any
		switch kind := client.Type(ctx, k).Val(); kind {
		case "hash":
			what = client.HGetAll(ctx, k).Val()
		case "string":
			what = client.Get(ctx, k).Val()
		case "list":
			what = client.LRange(ctx, k, 0, -1).Val()
		default:
			e.t.Fatalf("%s is a %s", k, kind)
		}
		expiry := client.PExpireTime(ctx, k).Val()
		if !e.real {
			expiry = expiry.Round(time.Minute) // the embedded server computes it anew each time
		}
		all[k] = fmt.Sprintf("%q until %v", what, expiry)
	}
	return all
}

// mustNotChange checks that Redis holds the same after an operation as before it.
func (e *env) mustNotChange(client redis.UniversalClient, what string, operation func()) {
	e.t.Helper()
	before := e.dump(client)
	operation()
	if after := e.dump(client); !maps.Equal(before, after) {
		e.t.Errorf("%s: Redis held\n%v\nand now\n%v", what, before, after)
	}
}

// never is a callback that must not run.
func never(t testing.TB) redisidem.StageFunc {
	return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		t.Error("the callback ran")
		return redisidem.Outcome{}, nil
	}
}

func TestInputThatIsRefusedChangesNothing(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc := e.service()
		sc, raw := svc.Scope("a"), e.client()
		key := start(t, sc, "k")
		long := strings.Repeat("x", 256)
		big := strings.Repeat("x", 1<<20+1)

		type operation struct {
			name string
			run  func(sc *redisidem.Scope, value string) error
		}
		byValue := []operation{
			{"Do", func(sc *redisidem.Scope, value string) error {
				_, err := sc.Do(ctx, value, request, never(t))
				return err
			}},
			{"Do[T]", func(sc *redisidem.Scope, value string) error {
				_, _, err := redisidem.Do(ctx, sc, value, request, func(context.Context, *redisidem.Stage) (int, error) {
					t.Error("the callback ran")
					return 0, nil
				})
				return err
			}},
			{"Lock", func(sc *redisidem.Scope, value string) error { _, err := sc.Lock(ctx, value); return err }},
			{"Retrieve", func(sc *redisidem.Scope, value string) error { _, err := sc.Retrieve(ctx, value); return err }},
			{"Unlock", func(sc *redisidem.Scope, value string) error { return sc.Unlock(ctx, value) }},
			{"Update", func(sc *redisidem.Scope, value string) error {
				_, err := sc.Update(ctx, &redisidem.Key{Scope: sc.Name(), Value: value}, redisidem.Advance("x"))
				return err
			}},
			{"Delete", func(sc *redisidem.Scope, value string) error {
				return sc.Delete(ctx, &redisidem.Key{Scope: sc.Name(), Value: value})
			}},
			{"WorkStage", func(sc *redisidem.Scope, value string) error {
				_, err := sc.WorkStage(ctx, &redisidem.Key{Scope: sc.Name(), Value: value}, never(t))
				return err
			}},
			{"InitializeRequest", func(sc *redisidem.Scope, value string) error {
				_, err := sc.InitializeRequest(ctx, value, request)
				return err
			}},
		}
		e.mustNotChange(raw, "keys and scopes", func() {
			for _, op := range byValue {
				mustBeInvalid(t, op.run(sc, long), "key", "256", "255")
				mustBeInvalid(t, op.run(svc.Scope(""), "k"), "scope", "empty")
				mustBeInvalid(t, op.run(svc.Scope(long), "k"), "scope", "256", "255")
				if op.name != "InitializeRequest" { // where an empty value asks for a fresh key
					mustBeInvalid(t, op.run(sc, ""), "key", "empty")
				}
			}
			_, err := svc.Scope("").Create(ctx, request)
			mustBeInvalid(t, err, "scope", "empty")
		})

		e.mustNotChange(raw, "requests", func() {
			for _, c := range []struct {
				field, word string
				request     redisidem.Request
			}{
				{"Request.Params", "chan", redisidem.Request{Params: make(chan int)}},
				{"Request.Params", "1048576", redisidem.Request{Params: []byte(big)}},
				{"Request.Method", "1048576", redisidem.Request{Method: big}},
				{"Request.Path", "1048576", redisidem.Request{Path: big}},
			} {
				_, err := sc.InitializeRequest(ctx, "new", c.request)
				mustBeInvalid(t, err, c.field, c.word)
				_, err = sc.Create(ctx, c.request)
				mustBeInvalid(t, err, c.field, c.word)
				_, err = sc.Do(ctx, "new", c.request, never(t))
				mustBeInvalid(t, err, c.field, c.word)
			}
		})

		e.mustNotChange(raw, "nil", func() {
			_, err := sc.Do(ctx, "k", request, nil)
			mustBeInvalid(t, err, "work", "nil")
			_, _, err = redisidem.Do[int](ctx, sc, "k", request, nil)
			mustBeInvalid(t, err, "work", "nil")
			_, err = sc.WorkStage(ctx, key, nil)
			mustBeInvalid(t, err, "work", "nil")
			_, err = sc.WorkStage(ctx, nil, never(t))
			mustBeInvalid(t, err, "key", "nil")
			_, err = sc.Update(ctx, nil, redisidem.Advance("x"))
			mustBeInvalid(t, err, "key", "nil")
			mustBeInvalid(t, sc.Delete(ctx, nil), "key", "nil")
		})

		e.mustNotChange(raw, "another scope's key", func() {
			other := svc.Scope("b")
			_, err := other.WorkStage(ctx, key, never(t))
			mustBeInvalid(t, err, "key", "scope")
			_, err = other.Update(ctx, key, redisidem.Advance("x"))
			mustBeInvalid(t, err, "key", "scope")
			mustBeInvalid(t, other.Delete(ctx, key), "key", "scope")
		})
	})
}

// badOutcomes are outcomes that cannot be stored, under a limit of 1 MiB.
func badOutcomes() map[string]struct {
	field, word string
	outcome     redisidem.Outcome
} {
	type bad = struct {
		field, word string
		outcome     redisidem.Outcome
	}
	header := func(name, value string) redisidem.Outcome {
		return redisidem.Finish(redisidem.Response{Code: 200, Header: map[string][]string{name: {"good", value}}})
	}
	big := strings.Repeat("x", 1<<20+1)
	all := map[string]bad{
		"body too long":        {"Response.Body", "1048576", redisidem.Finish(redisidem.Response{Body: []byte(big)})},
		"body no JSON":         {"Response.Body", "chan", redisidem.Finish(redisidem.JSON(200, make(chan int)))},
		"header too long":      {"Response.Header", "1048576", header("X", big)},
		"CR LF in a value":     {"Response.Header", "line break", header("X", "a\r\nSet-Cookie: b")},
		"CR in a value":        {"Response.Header", "line break", header("X", "a\rb")},
		"LF in a value":        {"Response.Header", "line break", header("X", "a\nb")},
		"NUL in a value":       {"Response.Header", "NUL", header("X", "a\x00b")},
		"line break in a name": {"Response.Header", "name", header("X\r\nY", "a")},
		"colon in a name":      {"Response.Header", "name", header("X:", "a")},
		"space in a name":      {"Response.Header", "name", header("X Y", "a")},
		"no name":              {"Response.Header", "name", header("", "a")},
		"interim without":      {"Outcome.Response", "interim", redisidem.Outcome{RecoveryPoint: "x", Interim: true}},
		"interim with nothing": {"Outcome.Response", "interim", redisidem.Interim("x", redisidem.Response{})},
		"interim and finished": {"Outcome.Interim", "finished", redisidem.Interim("finished", redisidem.JSON(202, 1))},
		"interim and empty":    {"Outcome.Interim", "finished", redisidem.Interim("", redisidem.JSON(202, 1))},
		"state no JSON":        {"Outcome.State", "func", redisidem.Advance("x").WithState(func() {})},
		"state too long":       {"Outcome.State", "1048576", redisidem.Advance("x").WithState([]byte(big))},
		"point too long":       {"Outcome.RecoveryPoint", "1048576", redisidem.Advance(big)},
	}
	for _, code := range []int{99, 600, -1, 1} {
		all[fmt.Sprint("code ", code)] = bad{"Response.Code", fmt.Sprint(code), redisidem.Finish(redisidem.Response{Code: code})}
	}
	return all
}

func TestOutcomeThatIsRefusedChangesNothing(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		// No renewal changes anything in the meantime.
		sc := e.service(func(c *redisidem.Config) { c.Lease = time.Hour }).Scope("a")
		raw := e.client()
		free := start(t, sc, "free")
		start(t, sc, "leased")
		lease, err := sc.Lock(ctx, "leased")
		mustBe(t, err, nil)
		for name, c := range badOutcomes() {
			e.mustNotChange(raw, name, func() {
				_, err := lease.Commit(ctx, c.outcome)
				mustBeInvalid(t, err, c.field, c.word)
				_, held, err := lease.CommitKeep(ctx, c.outcome)
				mustBeInvalid(t, err, c.field, c.word)
				if !held {
					t.Errorf("%s: the lease is gone", name)
				}
				_, err = sc.Update(ctx, free, c.outcome)
				mustBeInvalid(t, err, c.field, c.word)
			})
		}
		e.mustNotChange(raw, "no progress", func() {
			_, err := lease.Commit(ctx, redisidem.Advance(redisidem.Started))
			mustBe(t, err, redisidem.ErrNoProgress)
			_, err = sc.Update(ctx, free, redisidem.Advance(redisidem.Started))
			mustBe(t, err, redisidem.ErrNoProgress)
		})
		_, err = lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "good")))
		mustBe(t, err, nil)
	})
}

func TestStageWhoseOutcomeIsRefusedDoesNotRunAgain(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		for name, c := range badOutcomes() {
			key := start(t, sc, name)
			runs := 0
			work := func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				runs++
				return c.outcome, nil
			}
			got, err := sc.WorkStage(ctx, key, work)
			mustBeInvalid(t, err, c.field, c.word)
			mustBe(t, err, redisidem.ErrNotKept)
			if got == nil || !got.Finished() || got.Response != nil {
				t.Errorf("%s: the key is %+v", name, got)
			}
			for range 2 {
				_, err = sc.WorkStage(ctx, key, work)
				mustBe(t, err, redisidem.ErrNotKept)
			}
			now, err := sc.Retrieve(ctx, name)
			mustBe(t, err, nil)
			if runs != 1 || now.Revision != 1 || now.Attempts != 1 || !now.Finished() || now.Response != nil {
				t.Errorf("%s: stored after %d runs is %+v", name, runs, now)
			}
		}
		e.mustBeTidy(e.client())
	})
}

func TestOutcomesAtTheirBounds(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service(func(c *redisidem.Config) { c.MaxValueBytes = 10; c.MaxKeyBytes = 40 }).Scope("a")
		req := redisidem.Request{Method: "0123456789", Path: "0123456789", Params: []byte("0123456789")}
		do := func(value string, r redisidem.Response) error {
			_, err := sc.Do(ctx, value, req, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Finish(r), nil
			})
			return err
		}
		mustBeInvalid(t, do("k", redisidem.Response{Body: []byte("0123456789a")}), "Response.Body", "11", "(10)")
		mustBeInvalid(t, do(strings.Repeat("k", 41), redisidem.Response{}), "key", "41", "(40)")
		for value, r := range map[string]redisidem.Response{
			strings.Repeat("k", 40): {Code: 0, Body: []byte("0123456789")},
			"header":                {Code: 100, Header: map[string][]string{"X": {"012345"[:5]}}},
			"599":                   {Code: 599, Body: []byte("\xff\x00\r\n")},
			"nothing":               {},
		} {
			mustBe(t, do(value, r), nil)
			key, err := sc.Retrieve(ctx, value)
			mustBe(t, err, nil)
			if value == "nothing" {
				if key.Response != nil {
					t.Errorf("the response is %+v", key.Response)
				}
				continue
			}
			if got := key.Response; got == nil || got.Code != r.Code || !bytes.Equal(got.Body, r.Body) ||
				!maps.EqualFunc(got.Header, r.Header, slices.Equal) {
				t.Errorf("%+v came back as %+v", r, got)
			}
		}
	})
}

func TestUpdateAndDeleteThatAreRefusedChangeNothing(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service(func(c *redisidem.Config) { c.Lease = time.Hour }).Scope("a") // which is not renewed in the meantime
		raw := e.client()
		missing := start(t, sc, "missing")
		mustBe(t, sc.Delete(ctx, missing), nil)
		finished := start(t, sc, "finished")
		_, err := sc.WorkStage(ctx, finished, finish("done"))
		mustBe(t, err, nil)
		known, err := sc.Retrieve(ctx, "finished")
		mustBe(t, err, nil)
		stale := start(t, sc, "stale")
		_, err = sc.Update(ctx, stale, redisidem.Advance("moved"))
		mustBe(t, err, nil)
		leased := start(t, sc, "leased")
		lease, err := sc.Lock(ctx, "leased")
		mustBe(t, err, nil)

		for _, c := range []struct {
			name           string
			key            *redisidem.Key
			update, delete error
		}{
			{"finished meanwhile", finished, redisidem.ErrFinished, redisidem.ErrStale},
			{"stale", stale, redisidem.ErrStale, redisidem.ErrStale},
			{"leased", leased, redisidem.ErrLocked, redisidem.ErrLocked},
		} {
			e.mustNotChange(raw, c.name, func() {
				if _, err := sc.Update(ctx, c.key, redisidem.Advance("new")); !errors.Is(err, c.update) {
					t.Errorf("%s: Update returns %v, want %v", c.name, err, c.update)
				}
				if err := sc.Delete(ctx, c.key); !errors.Is(err, c.delete) {
					t.Errorf("%s: Delete returns %v, want %v", c.name, err, c.delete)
				}
			})
		}
		e.mustNotChange(raw, "missing", func() {
			_, err := sc.Update(ctx, missing, redisidem.Advance("new"))
			mustBe(t, err, redisidem.ErrNotFound)
		})
		e.mustNotChange(raw, "known to be finished", func() {
			_, err := sc.Update(ctx, known, redisidem.Advance("new"))
			mustBe(t, err, redisidem.ErrFinished)
		})
		if err := lease.Abandon(ctx); err != nil {
			t.Error(err)
		}
		mustBe(t, sc.Delete(ctx, leased), nil)
		mustBe(t, sc.Delete(ctx, known), nil)
	})
}

// TestNoKeyReachesAnothersRecord runs work for many pairs of scope and key that look alike when they are put together
// carelessly, and then asks for each answer.
func TestNoKeyReachesAnothersRecord(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc, raw := e.service(), e.client()
		parts := []string{
			"a", "b:c", "a:b", "c", "A", "a ", "{a}", "}{", "a\x00", "\x00a", "a\nb", "a\r\nb", "\xff", "\xfe\xff",
			"e\u0301", "\u00e9", ":lock", "*", strings.Repeat("a", 255),
		}
		answer := func(scope, value string) string { return fmt.Sprintf("%q of %q", value, scope) }
		for _, scope := range parts {
			for _, value := range parts {
				want := answer(scope, value)
				key, err := svc.Scope(scope).Do(ctx, value, request, finish(want))
				if err != nil || key.Replayed() || key.Scope != scope || key.Value != value {
					t.Fatalf("%s: %+v, %v", want, key, err)
				}
			}
		}
		records := e.keys(raw)
		slices.Sort(records)
		if n := len(slices.Compact(records)); n != len(parts)*len(parts) {
			t.Errorf("%d pairs have %d records", len(parts)*len(parts), n)
		}
		ids := make(map[string]bool)
		for _, scope := range parts {
			for _, value := range parts {
				want := answer(scope, value)
				got, replayed, err := redisidem.Do(ctx, svc.Scope(scope), value, request,
					func(context.Context, *redisidem.Stage) (string, error) { return "", errors.New("it ran again") })
				if err != nil || !replayed || got != want {
					t.Errorf("%s has the answer %q, %v", want, got, err)
				}
				key, err := svc.Scope(scope).Retrieve(ctx, value)
				mustBe(t, err, nil)
				ids[key.ID()] = true
			}
		}
		if len(ids) != len(parts)*len(parts) {
			t.Errorf("%d pairs have %d IDs", len(parts)*len(parts), len(ids))
		}
	})
}

func TestConfigBounds(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(options("127.0.0.1:1", 3))
	defer func() { _ = client.Close() }()
	for _, c := range []struct {
		field, word string
		cfg         redisidem.Config
	}{
		{"Config.Namespace", "braces", redisidem.Config{Namespace: "{orders}"}},
		{"Config.Namespace", "braces", redisidem.Config{Namespace: "orders}"}},
		{"Config.Namespace", "255", redisidem.Config{Namespace: strings.Repeat("x", 256)}},
		{"Config.Lease", "10ms", redisidem.Config{Lease: 10*time.Millisecond - 1}},
		{"Config.Lease", "10ms", redisidem.Config{Lease: 9 * time.Millisecond}},
		{"Config.Lease", "10ms", redisidem.Config{Lease: -time.Second}},
		// Its server would let it lapse before its worker stops.
		{"Config.Lease", "whole milliseconds", redisidem.Config{Lease: 10*time.Millisecond + 900*time.Microsecond}},
		{"Config.Lease", "876000h", redisidem.Config{Lease: 1 << 62, Retention: 1 << 62}},
		{"Config.Timeout", "1ms", redisidem.Config{Timeout: time.Microsecond}},
		{"Config.Timeout", "1ms", redisidem.Config{Timeout: -time.Second}},
		{"Config.Retention", "1ms", redisidem.Config{Retention: -time.Hour}},
		{"Config.Retention", "876000h", redisidem.Config{Retention: 1 << 62}},
		{"Config.Retention", "10s", redisidem.Config{Retention: 9 * time.Second}}, // the default lease is longer
		{"Config.Retention", "1m0s", redisidem.Config{Retention: time.Second, Lease: time.Minute}},
		{"Config.MaxHold", "1ms", redisidem.Config{MaxHold: 1}},
		{"Config.Durability", "-1", redisidem.Config{Durability: -1}},
		{"Config.MaxKeyBytes", "-1", redisidem.Config{MaxKeyBytes: -1}},
		{"Config.MaxKeyBytes", "36", redisidem.Config{MaxKeyBytes: 35}}, // Create's keys would be refused
		{"Config.MaxValueBytes", "-1", redisidem.Config{MaxValueBytes: -1}},
		{"Config.MaxValueBytes", "512", redisidem.Config{MaxValueBytes: 512<<20 + 1}},
	} {
		svc, err := redisidem.New(client, &c.cfg)
		mustBeInvalid(t, err, c.field, c.word)
		if svc != nil {
			t.Errorf("%+v makes a service", c.cfg)
		}
	}
	for _, cfg := range []redisidem.Config{
		{Lease: 10 * time.Millisecond, Retention: 10 * time.Millisecond, Timeout: time.Millisecond},
		{MaxHold: -1, CommitRetry: -1, Wait: -1},
		{Namespace: "a:b*?\x00\xff"},
		{MaxKeyBytes: 36, MaxValueBytes: 1},
	} {
		if _, err := redisidem.New(client, &cfg); err != nil {
			t.Errorf("%+v is refused: %v", cfg, err)
		}
	}
}

func TestIDIsTheKeysName(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		key := start(b, svc.Scope("a"), "k")
		if got := svc.Scope("a").ID("k"); got != key.ID() || got == svc.Scope("b").ID("k") {
			b.Errorf("the key's name is %q, and %q", key.ID(), got)
		}
	})
}

func TestConfigDefaults(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(options("127.0.0.1:1", 3))
	defer func() { _ = client.Close() }()
	for _, cfg := range []*redisidem.Config{nil, {}} {
		svc, err := redisidem.New(client, cfg)
		mustBe(t, err, nil)
		got := svc.Config()
		got.Logger = nil
		host, err := os.Hostname()
		mustBe(t, err, nil)
		want := redisidem.Config{
			Namespace: "redisidem", Retention: 24 * time.Hour, Lease: 10 * time.Second, MaxHold: 15 * time.Minute,
			Timeout: 500 * time.Millisecond, CommitRetry: time.Minute, MaxKeyBytes: 255,
			MaxValueBytes: 1 << 20, CacheLife: time.Minute, Owner: host + "/" + strconv.Itoa(os.Getpid()),
		}
		if got != want {
			t.Errorf("the defaults are %+v, want %+v", got, want)
		}
	}
}

func TestClientsOnWhichThePromiseCannotBeKept(t *testing.T) {
	t.Parallel()
	var noClient *redis.Client
	var noCluster *redis.ClusterClient
	for name, client := range map[string]redis.UniversalClient{"untyped": nil, "client": noClient, "cluster": noCluster} {
		t.Run("nil "+name, func(t *testing.T) {
			_, err := redisidem.New(client, nil)
			mustBeInvalid(t, err, "client", "nil")
		})
	}
	single := redis.NewClient(options("127.0.0.1:1", 3))
	addrs := []string{"127.0.0.1:1"}
	ofCluster := func(change func(*redis.ClusterOptions)) redis.UniversalClient {
		opt := &redis.ClusterOptions{Addrs: addrs, ContextTimeoutEnabled: true}
		change(opt)
		return redis.NewClusterClient(opt)
	}
	for _, c := range []struct {
		word   string
		client redis.UniversalClient
	}{
		{"redis.Ring", redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": addrs[0]}, ContextTimeoutEnabled: true})},
		{"ReadOnly", ofCluster(func(o *redis.ClusterOptions) { o.ReadOnly = true })},
		{"RouteByLatency", ofCluster(func(o *redis.ClusterOptions) { o.RouteByLatency = true })},
		{"RouteRandomly", ofCluster(func(o *redis.ClusterOptions) { o.RouteRandomly = true })},
		{
			"ContextTimeoutEnabled: true in redis.ClusterOptions",
			ofCluster(func(o *redis.ClusterOptions) { o.ContextTimeoutEnabled = false }),
		},
		{"ContextTimeoutEnabled: true in redis.Options", redis.NewClient(&redis.Options{Addr: addrs[0]})},
		{"ContextTimeoutEnabled: true", redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "x", SentinelAddrs: addrs})},
		{"struct", struct{ redis.UniversalClient }{single}},
	} {
		svc, err := redisidem.New(c.client, nil)
		mustBe(t, err, redisidem.ErrUnsafeClient)
		if svc != nil || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%q is not told by %v", c.word, err)
		}
		_ = c.client.Close()
	}
}

// bookkeeping are the fields in which a lease that was given and taken back leaves a trace.
var bookkeeping = []string{"control", "locked_at"}

// TestS8_DamagedRecordIsNeitherAbsentNorOverwritten damages a record in each way that there is. Work on it must be refused
// at once and leave it to whoever repairs it.
func TestS8_DamagedRecordIsNeitherAbsentNorOverwritten(t *testing.T) {
	const record, lock = 0, 1
	set := func(field, value string) func(redis.UniversalClient, [2]string) error {
		return func(c redis.UniversalClient, place [2]string) error {
			return c.HSet(ctx, place[record], field, value).Err()
		}
	}
	del := func(field string) func(redis.UniversalClient, [2]string) error {
		return func(c redis.UniversalClient, place [2]string) error { return c.HDel(ctx, place[record], field).Err() }
	}
	word := func(number int, value string) func(redis.UniversalClient, [2]string) error {
		return func(c redis.UniversalClient, place [2]string) error {
			return setControl(c, place[record], number, value)
		}
	}
	for _, d := range []struct {
		name   string
		damage func(c redis.UniversalClient, place [2]string) error
		// late: only those who read the record see it, so that a lease was given until then.
		late bool
		// unread: a replay does not read what is damaged.
		unread bool
	}{
		{name: "a string", damage: func(c redis.UniversalClient, place [2]string) error {
			return errors.Join(c.Del(ctx, place[record]).Err(), c.Set(ctx, place[record], "x", time.Hour).Err())
		}},
		{name: "a list", damage: func(c redis.UniversalClient, place [2]string) error {
			return errors.Join(c.Del(ctx, place[record]).Err(), c.RPush(ctx, place[record], "x").Err())
		}},
		{name: "another hash", damage: func(c redis.UniversalClient, place [2]string) error {
			return errors.Join(c.Del(ctx, place[record]).Err(), c.HSet(ctx, place[record], "x", "y").Err())
		}},
		{name: "no control", damage: del("control")},
		{name: "empty control", damage: set("control", "")},
		{name: "newer version", damage: word(controlVersion, "2")},
		{name: "longer version", damage: word(controlVersion, "10")},
		{name: "empty version", damage: word(controlVersion, "")},
		{name: "revision", damage: word(controlRevision, "x")},
		{name: "negative revision", damage: word(controlRevision, "-1")},
		{name: "broken revision", damage: word(controlRevision, "1.5")},
		{name: "empty token", damage: word(controlToken, "")},
		{name: "a word too many", damage: word(controlSpent, "- -")},
		{name: "no fingerprint", damage: del("fingerprint")},
		{name: "no recovery point", damage: del("recovery_point")},
		{name: "empty recovery point", damage: set("recovery_point", ""), late: true},
		{name: "fence", damage: word(controlFence, "x")},
		{name: "attempts of the revision", damage: word(controlStageAttempts, "x")},
		{name: "attempts", damage: word(controlAttempts, "x")},
		{name: "lease", damage: word(controlLease, "-1")},
		{name: "response code", damage: set("response_code", "x"), late: true},
		{name: "response code 99", damage: set("response_code", "99"), late: true},
		{name: "response code 600", damage: set("response_code", "600"), late: true},
		{name: "headers", damage: set("response_headers", "X: a\nb\r\n"), late: true},
		{name: "half a header", damage: set("response_headers", "X"), late: true},
		{name: "created at", damage: set("created_at", "yesterday"), late: true},
		{name: "no created at", damage: del("created_at"), late: true},
		{name: "journal entry", damage: set("j:0", "x"), late: true},
		{name: "journal fence", damage: set("j:0", "t x 1 1 started"), late: true},
		{name: "journal number", damage: set("j:x", "t 1 1 1 started"), late: true, unread: true},
		{name: "another scope", damage: set("scope", "b"), late: true},
		{name: "another key", damage: set("idempotency_key", "other"), late: true},
	} {
		for _, stored := range []string{"advanced", "finished"} {
			t.Run(d.name+" "+stored, func(t *testing.T) {
				onEveryServer(t, func(t *testing.T, e *env) {
					svc := e.service(func(c *redisidem.Config) { c.Timeout = 10 * time.Second })
					sc, raw := svc.Scope("a"), e.client()
					key := start(t, sc, "k")
					outcome := redisidem.Advance("next")
					if stored == "finished" {
						outcome = redisidem.Finish(redisidem.JSON(201, "done"))
					}
					_, err := sc.WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
						return outcome, nil
					})
					mustBe(t, err, nil)
					var place [2]string
					place[record], place[lock] = e.place(key)
					mustBe(t, d.damage(raw, place), nil)
					before := contents(raw, place[record])

					refused := func(what string, err error) {
						t.Helper()
						if !errors.Is(err, redisidem.ErrDamaged) {
							t.Errorf("%s: error is %v", what, err)
						}
						if errors.Is(err, redisidem.ErrUnavailable) || errors.Is(err, redisidem.ErrNotFound) {
							t.Errorf("%s: error matches more than ErrDamaged: %v", what, err)
						}
					}
					began := time.Now()
					replays := d.unread && stored == "finished"
					if _, err = sc.Do(ctx, "k", request, never(t)); !replays {
						refused("Do", err)
					}
					// What read the record only under a lease is still giving that back.
					lease, err := sc.Wait(5*time.Second).Lock(ctx, "k")
					if !replays {
						refused("Lock", err)
					}
					if lease != nil {
						t.Error("there is a lease")
					}
					_, err = sc.Retrieve(ctx, "k")
					refused("Retrieve", err)
					if _, err = sc.InitializeRequest(ctx, "k", request); !replays {
						refused("InitializeRequest", err)
					}
					if !d.late {
						got, err := sc.WorkStage(ctx, key, never(t)) // a view from before the damage
						refused("WorkStage", err)
						if got == nil {
							t.Error("WorkStage returns no key")
						}
					}
					if took := time.Since(began); took > 5*time.Second {
						t.Errorf("refused after %v", took)
					}

					mustBe(t, svc.Close(ctx), nil) // what goes on in the background is done then
					after := contents(raw, place[record])
					if d.late && (stored != "finished" || d.name == "empty recovery point") {
						for _, f := range bookkeeping {
							delete(before, f)
							delete(after, f)
						}
					}
					if !maps.Equal(before, after) {
						t.Errorf("the record was\n%q\nand is\n%q", before, after)
					}
					if n := raw.Exists(ctx, place[lock]).Val(); n != 0 {
						t.Error("a lock is left")
					}
				})
			})
		}
	}
}

// contents returns what a Redis key holds, of whatever type it is.
func contents(client redis.UniversalClient, key string) map[string]string {
	switch kind := client.Type(ctx, key).Val(); kind {
	case "hash":
		return client.HGetAll(ctx, key).Val()
	case "string":
		return map[string]string{kind: client.Get(ctx, key).Val()}
	default:
		return map[string]string{kind: fmt.Sprint(client.LRange(ctx, key, 0, -1).Val())}
	}
}

func TestLockOfAnotherTypeIsDamage(t *testing.T) {
	onRealServers(t, func(t *testing.T, e *env) {
		svc := e.service(func(c *redisidem.Config) { c.Timeout = 10 * time.Second })
		sc, raw := svc.Scope("a"), e.client()
		_, lock := e.place(start(t, sc, "k"))
		mustBe(t, raw.RPush(ctx, lock, "x").Err(), nil)
		began := time.Now()
		e.mustNotChange(raw, "a list for a lock", func() {
			_, err := sc.Do(ctx, "k", request, never(t))
			mustBe(t, err, redisidem.ErrDamaged)
			_, err = sc.Lock(ctx, "k")
			mustBe(t, err, redisidem.ErrDamaged)
		})
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("refused after %v", took)
		}
	})
}
