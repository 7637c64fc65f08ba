package redisidem_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
)

// The tests of what docs/security.md lists under these numbers and has no test elsewhere.

// TestS3_KeysCannotRunTogether is about what the place of a record is made of.
func TestS3_KeysCannotRunTogether(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		seen := make(map[string]string)
		texts := []string{"a", "b", "ab", "a:b", ":b", "a:", "{a}", "}{", "*", "?", "[a]", "a\x00", "\x00", "a\n", "\xff", "\U0001f511", "lock", "a:lock"}
		for _, scope := range texts {
			for _, value := range texts {
				key, err := svc.Scope(scope).InitializeRequest(ctx, value, request)
				mustBe(b, err, nil)
				what := fmt.Sprintf("%q in %q", value, scope)
				if other, taken := seen[key.ID()]; taken {
					b.Errorf("%s is %s", what, other)
				}
				seen[key.ID()] = what
			}
		}
		for _, name := range b.server.Keys() {
			if strings.Count(name, "{") != 1 || strings.Count(name, "}") != 1 || strings.ContainsAny(name, "*?[]\x00\n") || !utf8.ValidString(name) {
				b.Errorf("the name is %q", name)
			}
		}
	})
}

// TestS12_TokensAreRandom looks for one that comes twice.
func TestS12_TokensAreRandom(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		seen := make(map[string]bool)
		const leases = 1000
		for range leases {
			start(b, sc, "k")
			lease, err := sc.Lock(ctx, "k")
			mustBe(b, err, nil)
			for _, name := range b.server.Keys() {
				if strings.HasSuffix(name, ":lock") {
					token, err := b.server.Get(name)
					mustBe(b, err, nil)
					if len(token) != 22 {
						b.Errorf("the token %q is not 128 bits long", token)
					}
					seen[token] = true
				}
			}
			mustBe(b, lease.Abandon(ctx), nil)
		}
		if len(seen) != leases {
			b.Errorf("%d leases had %d tokens", leases, len(seen))
		}
	})
}

// TestS13_ScriptsAreConstant counts the scripts on a server of its own.
func TestS13_ScriptsAreConstant(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	e := &env{t: t, namespace: "s13", client: func() redis.UniversalClient {
		client := redis.NewClient(options(server.Addr(), 3))
		t.Cleanup(func() { _ = client.Close() })
		return client
	}}
	sc := e.service().Scope("a")
	scripts := func() int {
		text, err := e.client().Info(ctx, "memory").Result()
		mustBe(t, err, nil)
		for line := range strings.Lines(text) {
			var n int
			if _, err := fmt.Sscanf(line, "number_of_cached_scripts:%d", &n); err == nil {
				return n
			}
		}
		t.Fatal("the server does not tell how many scripts it has")
		return 0
	}
	run := func(n int) {
		for i := range n {
			_, err := sc.Do(ctx, fmt.Sprintf("k%d", i), request, finish(fmt.Sprint(i)))
			mustBe(t, err, nil)
		}
	}
	run(1)
	before := scripts()
	run(10_000)
	if after := scripts(); after != before || after > 12 {
		t.Errorf("%d scripts, and %d after 10 000 operations", before, after)
	}
}

// leastRights are the rules of the Redis user in docs/security.md, for another namespace.
func leastRights(t *testing.T, namespace string) (rules []any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", "security.md"))
	mustBe(t, err, nil)
	_, block, found := strings.Cut(string(text), "ACL SETUSER app on >password ")
	block, _, closed := strings.Cut(block, "```")
	if !found || !closed {
		t.Fatal("docs/security.md does not list the user's rights")
	}
	for _, rule := range strings.Fields(block) {
		rules = append(rules, strings.Replace(rule, "redisidem:", namespace+":", 1))
	}
	return rules
}

// TestS14_LeastRightsAreEnough runs all that the library does as a user with just those rights.
func TestS14_LeastRightsAreEnough(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	admin := server.Client()
	t.Cleanup(func() { _ = admin.Close() })
	for _, right := range leastRights(t, "s14") {
		// Not each server knows each subcommand.
		if err := admin.Do(ctx, "ACL", "SETUSER", "app", right).Err(); err != nil && !strings.Contains(fmt.Sprint(right), "client|") {
			t.Fatalf("%v: %v", right, err)
		}
	}
	mustBe(t, admin.Do(ctx, "ACL", "SETUSER", "app", "on", ">s3cret").Err(), nil)
	e := &env{t: t, namespace: "s14", client: func() redis.UniversalClient {
		opt := options(server.Addr(), 3)
		opt.Username, opt.Password = "app", "s3cret"
		client := redis.NewClient(opt)
		t.Cleanup(func() { _ = client.Close() })
		return client
	}}
	svc := e.service(func(c *redisidem.Config) { c.CacheBytes, c.Wait = 1<<20, 5*time.Second })
	sc := svc.Scope("a")
	report, err := svc.Check(ctx)
	mustBe(t, err, nil)
	mustBe(t, report.Err(), nil)

	key := start(t, sc, "k")
	_, err = sc.Update(ctx, key, redisidem.Advance("on"))
	mustBe(t, err, nil)
	lease, err := sc.Lock(ctx, "k")
	mustBe(t, err, nil)
	mustBe(t, lease.Renew(ctx), nil)
	answers := make(chan error, 1)
	go func() {
		_, err := sc.Do(ctx, "k", request, finish("done"))
		answers <- err
	}()
	time.Sleep(100 * time.Millisecond)
	_, held, err := lease.CommitKeep(ctx, redisidem.Advance("further"))
	mustBe(t, err, nil)
	if !held {
		t.Error("the lease is gone")
	}
	mustBe(t, lease.Abandon(ctx), nil)
	mustBe(t, <-answers, nil)
	mustBe(t, sc.Unlock(ctx, "k"), nil)
	key, err = sc.Retrieve(ctx, "k")
	mustBe(t, err, nil)
	mustBe(t, sc.Delete(ctx, key), nil)

	broken := true
	flow := mustFlow(t, cart(func(c *redisidem.FlowConfig) {
		c.RecoverAfter, c.MaxAttempts = time.Millisecond, 1
		c.Stages[1].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			if broken {
				return redisidem.Outcome{}, errStage
			}
			return redisidem.Next().WithEffects(
				effect.Set(st.ShardKey("s"), "1").Expire(time.Hour), effect.IncrBy(st.ShardKey("n"), 1), effect.HSet(st.ShardKey("h"), "f", "1"),
				effect.SAdd(st.ShardKey("m"), "1"), effect.ZAdd(st.ShardKey("z"), 1, "1"), effect.LPush(st.ShardKey("l"), "1"),
				effect.XAdd(st.ShardKey("x"), "f", "1"), effect.Publish("s14:news", "1"),
			), nil
		}
	}))
	_, err = sc.DoFlow(ctx, "flow", request, flow)
	mustBe(t, err, errStage)
	completer := mustCompleter(t, svc, flow)
	var swept redisidem.SweepResult
	for range 100 {
		if swept, err = completer.Sweep(ctx); err != nil || swept.DeadLettered > 0 {
			break
		}
	}
	mustBe(t, err, nil)
	broken = false
	for letter, err := range svc.DeadLetters(ctx, "cart") {
		mustBe(t, err, nil)
		mustBe(t, sc.Requeue(ctx, letter), nil)
	}
	for range 100 {
		if swept, err = completer.Sweep(ctx); err != nil || swept.Finished > 0 {
			break
		}
	}
	mustBe(t, err, nil)
	if swept.Finished != 1 {
		t.Errorf("the sweep did %+v", swept)
	}

	// And no more: other keys, and commands that harm.
	raw := e.client()
	for _, command := range [][]any{
		{"GET", "other"},
		{"SET", "other", "1"},
		{"KEYS", "*"},
		{"FLUSHALL"},
		{"CONFIG", "GET", "*"},
		{"SCRIPT", "FLUSH"},
		{"EVAL", "return redis.call('GET', KEYS[1])", 1, "other"},
		{"PUBLISH", "other", "1"},
	} {
		if err := raw.Do(ctx, command...).Err(); err == nil || !strings.Contains(err.Error(), "NOPERM") &&
			!strings.Contains(err.Error(), "ermission") && !strings.Contains(err.Error(), "ACL") {
			t.Errorf("%v: %v", command, err)
		}
	}
	// An effect that the user may not have is not applied, nor is what came with it.
	mustBe(t, admin.Do(ctx, "ACL", "SETUSER", "app", "-sadd").Err(), nil)
	key, err = sc.Do(ctx, "denied", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Finish(redisidem.JSON(200, "done")).WithEffects(
			effect.IncrBy(st.ShardKey("denied"), 1), effect.SAdd(st.ShardKey("m"), "1")), nil
	})
	mustBe(t, err, redisidem.ErrEffect)
	if key.Response != nil || admin.Keys(ctx, "s14:*:x:denied").Val() != nil && len(admin.Keys(ctx, "s14:*:x:denied").Val()) > 0 {
		t.Errorf("something was written: %+v", key)
	}
}

// TestS15_PasswordsAreNotTold looks at what is said of a URL that does not work.
func TestS15_PasswordsAreNotTold(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"redis://app:s3cret@127.0.0.1:1", "rediss://app:s3cret@127.0.0.1:1", "redis://app:s3cret@127.0.0.1:1/x", "http://app:s3cret@127.0.0.1:1",
		"redis://app:s3cret@127.0.0.1:1?nonsense=1", "redis+cluster://app:s3cret@127.0.0.1:1", "redis+sentinel://app:s3cret@127.0.0.1:1",
		"redis://app:s3cret@%zz",
	} {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		_, err := redisidem.Open(short, url, &redisidem.Config{Timeout: 50 * time.Millisecond})
		cancel()
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestS15_CertificatesAreChecked lets a server show one that nobody vouches for.
func TestS15_CertificatesAreChecked(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	t.Cleanup(server.Close)
	redisServer := miniredis.NewMiniRedis()
	mustBe(t, redisServer.StartTLS(&tls.Config{MinVersion: tls.VersionTLS12, Certificates: server.TLS.Certificates}), nil)
	t.Cleanup(redisServer.Close)
	_, err := redisidem.Open(ctx, "rediss://"+redisServer.Addr(), &redisidem.Config{Timeout: 5 * time.Second})
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("error is %v", err)
	}
}
