package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
)

// checked returns what Check finds on the server behind a client.
func checked(t *testing.T, client redis.UniversalClient, cfg redisidem.Config) *redisidem.Report {
	t.Helper()
	t.Cleanup(func() { _ = client.Close() })
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	svc, err := redisidem.New(client, &cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustBe(t, svc.Close(ctx), nil) })
	report, err := svc.Check(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// found returns the finding about a subject, and fails the test unless there is exactly one.
func found(t *testing.T, report *redisidem.Report, subject string) redisidem.Finding {
	t.Helper()
	var all []redisidem.Finding
	for _, f := range report.Findings {
		if f.Subject == subject {
			all = append(all, f)
		}
	}
	if len(all) != 1 {
		t.Fatalf("%d findings about %s in %+v", len(all), subject, report.Findings)
	}
	if all[0].Detail == "" || all[0].Node == "" {
		t.Errorf("finding %+v lacks a text", all[0])
	}
	return all[0]
}

// mustFind checks one finding: its verdict, and that its text contains each of the words.
func mustFind(t *testing.T, report *redisidem.Report, subject string, want redisidem.Verdict, words ...string) {
	t.Helper()
	f := found(t, report, subject)
	if f.Verdict != want {
		t.Errorf("%s is %v: %s; want %v", subject, f.Verdict, f.Detail, want)
	}
	for _, w := range words {
		if !strings.Contains(f.Detail, w) {
			t.Errorf("%s: %q does not contain %q", subject, f.Detail, w)
		}
	}
	err := report.Err()
	if bad := errors.Is(err, redisidem.ErrUnsafeServer); want == redisidem.VerdictFailure && !bad {
		t.Errorf("the report's error is %v in spite of a failure", err)
	}
	if named := err != nil && strings.Contains(err.Error(), subject+": "); named != (want == redisidem.VerdictFailure) {
		t.Errorf("%s is %v, and the report's error is %v", subject, want, err)
	}
}

func TestCheckOfAServerThatReportsNothing(t *testing.T) {
	t.Parallel()
	client, err := embedded.client(3)
	mustBe(t, err, nil)
	report := checked(t, client, redisidem.Config{Namespace: freshNamespace()})
	for _, subject := range []string{"version", "eviction", "persistence", "replication"} {
		mustFind(t, report, subject, redisidem.VerdictUndetermined)
	}
	mustFind(t, report, "scripts", redisidem.VerdictGood)
	mustBe(t, report.Err(), nil)
}

func TestCheckLeavesNothingBehind(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		rec := &recorder{}
		svc := e.service(func(c *redisidem.Config) { c.Observer = rec })
		report, err := svc.Check(ctx)
		mustBe(t, err, nil)
		mustBe(t, report.Err(), nil)
		mustFind(t, report, "scripts", redisidem.VerdictGood)
		if keys := e.everything(e.client()); len(keys) != 0 {
			t.Errorf("left: %q", keys)
		}
		if kinds := rec.kinds(); len(kinds) != 0 {
			t.Errorf("the observer received %v, want no event", kinds)
		}
	})
}

func TestCheckOfEviction(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy, memory string
		want           redisidem.Verdict
		words          []string
	}{
		{"noeviction", "100mb", redisidem.VerdictGood, []string{"noeviction"}},
		{"volatile-lru", "0", redisidem.VerdictWarning, []string{"volatile-lru", "set noeviction"}},
		{"allkeys-lru", "0", redisidem.VerdictWarning, []string{"allkeys-lru", "set noeviction"}},
		{"volatile-ttl", "100mb", redisidem.VerdictFailure, []string{"volatile-ttl", "104857600", "set noeviction"}},
		{"allkeys-lru", "100mb", redisidem.VerdictFailure, []string{"allkeys-lru", "104857600", "set noeviction"}},
	} {
		t.Run(c.policy+" "+c.memory, func(t *testing.T) {
			t.Parallel()
			server := rediscase.Server(t, redistest.Args("--maxmemory", c.memory, "--maxmemory-policy", c.policy))
			report := checked(t, server.Client(), redisidem.Config{})
			mustFind(t, report, "eviction", c.want, c.words...)
			mustFind(t, report, "scripts", redisidem.VerdictGood)

			svc, err := redisidem.Open(ctx, "redis://"+server.Addr(), &redisidem.Config{Timeout: 5 * time.Second})
			if c.want != redisidem.VerdictFailure {
				mustBe(t, err, nil)
				mustBe(t, svc.Close(ctx), nil)
				return
			}
			mustBe(t, err, redisidem.ErrUnsafeServer)
			if svc != nil || !strings.Contains(err.Error(), c.policy) || !strings.Contains(err.Error(), server.Addr()) {
				t.Errorf("Open returned %v, %v", svc, err)
			}
		})
	}
}

func TestCheckOfVersionAndPersistence(t *testing.T) {
	t.Parallel()
	report := checked(t, rediscase.Server(t).Client(), redisidem.Config{})
	mustFind(t, report, "version", redisidem.VerdictGood)
	mustFind(t, report, "persistence", redisidem.VerdictWarning, "appendonly yes")
	report = checked(t, rediscase.Server(t, redistest.Args("--appendonly", "yes")).Client(), redisidem.Config{})
	mustFind(t, report, "persistence", redisidem.VerdictGood)
}

func TestCheckOfFsync(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t, redistest.Args("--appendonly", "yes", "--appendfsync", "no"))
	mustFind(t, checked(t, server.Client(), redisidem.Config{}), "persistence", redisidem.VerdictWarning, "appendfsync is no", "everysec")
	admin := server.Client()
	t.Cleanup(func() { _ = admin.Close() })
	for _, policy := range []string{"everysec", "always"} {
		mustBe(t, admin.ConfigSet(ctx, "appendfsync", policy).Err(), nil)
		mustFind(t, checked(t, server.Client(), redisidem.Config{}), "persistence", redisidem.VerdictGood, policy)
	}
	mustBe(t, admin.Do(ctx, "ACL", "SETUSER", "app", "on", ">s3cret", "~*", "&*", "+@all", "-config").Err(), nil)
	opt := options(server.Addr(), 3)
	opt.Username, opt.Password = "app", "s3cret"
	mustFind(t, checked(t, redis.NewClient(opt), redisidem.Config{}), "persistence", redisidem.VerdictUndetermined, "appendfsync", "+config|get")
}

// TestCheckOfFailedSaves puts a folder in the place of the file that a server saves to.
func TestCheckOfFailedSaves(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		args  []string
		want  redisidem.Verdict
		words []string
	}{
		{"snapshots", []string{"--appendonly", "no"}, redisidem.VerdictWarning, []string{"snapshot failed", "rdb_last_bgsave_status", "appendonly yes"}},
		{"with an append-only file", []string{"--appendonly", "yes"}, redisidem.VerdictWarning, []string{"append-only file", "rdb_last_bgsave_status err"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := rediscase.Server(t, redistest.Args(c.args...))
			admin := server.Client()
			t.Cleanup(func() { _ = admin.Close() })
			mustBe(t, os.Mkdir(filepath.Join(server.Dir(), "dump.rdb"), 0o700), nil)
			mustBe(t, admin.Do(ctx, "BGSAVE").Err(), nil)
			for range 500 {
				if strings.Contains(admin.Info(ctx, "persistence").Val(), "rdb_last_bgsave_status:err") {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			report := checked(t, server.Client(), redisidem.Config{})
			mustFind(t, report, "persistence", c.want, c.words...)
			mustFind(t, report, "scripts", redisidem.VerdictGood)
			// A server with settings for snapshots then refuses all writes.
			mustBe(t, admin.ConfigSet(ctx, "save", "3600 1").Err(), nil)
			mustFind(t, checked(t, server.Client(), redisidem.Config{}), "scripts", redisidem.VerdictFailure, "MISCONF")
		})
	}
}

// TestCheckDetectsTheKindOfServer opens a URL for a single server on a cluster and on a sentinel.
func TestCheckDetectsTheKindOfServer(t *testing.T) {
	t.Parallel()
	mustFind(t, checked(t, rediscase.Server(t).Client(), redisidem.Config{}), "mode", redisidem.VerdictGood, "standalone")
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		shared(t, &cluster)
		for _, node := range cluster.server.Nodes[:2] { // the key of the try-out is on one of the masters only
			report := checked(t, node.Client(), redisidem.Config{})
			mustFind(t, report, "mode", redisidem.VerdictFailure, "redis+cluster://", "redis.ClusterClient")
			_, err := redisidem.Open(ctx, "redis://"+node.Addr(), &redisidem.Config{Timeout: 2 * time.Second})
			mustBe(t, err, redisidem.ErrUnsafeServer)
			if !strings.Contains(err.Error(), "redis+cluster://") {
				t.Errorf("Open returned %v", err)
			}
		}
	})
	t.Run("sentinel", func(t *testing.T) {
		t.Parallel()
		shared(t, &sentinel)
		_, err := redisidem.Open(ctx, "redis://"+sentinel.server.Addrs()[0], &redisidem.Config{Timeout: 2 * time.Second})
		mustBe(t, err, redisidem.ErrUnsafeServer)
		if !strings.Contains(err.Error(), "redis+sentinel://") {
			t.Errorf("Open returned %v", err)
		}
	})
}

// TestCheckOfSlots removes slots from a cluster that does not require full coverage.
func TestCheckOfSlots(t *testing.T) {
	t.Parallel()
	group := rediscase.Cluster(t)
	open := func() *redisidem.Report {
		client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: group.Addrs(), ContextTimeoutEnabled: true, MaxRetries: -1})
		return checked(t, client, redisidem.Config{Timeout: 3 * time.Second})
	}
	report := open()
	mustFind(t, report, "slots", redisidem.VerdictGood)
	for _, node := range group.Nodes {
		admin := node.Client()
		mustBe(t, admin.ConfigSet(ctx, "cluster-require-full-coverage", "no").Err(), nil)
		mustBe(t, admin.Do(ctx, "CLUSTER", "DELSLOTS", 7, 8, 9, 100).Err(), nil)
		mustBe(t, admin.Close(), nil)
	}
	mustFind(t, open(), "slots", redisidem.VerdictFailure, "4 of 16384", "7-9", "100-100", "unassigned")
}

// answers is a hook that answers for a server: INFO with a text, or the server's own answer changed
// by it, and CONFIG GET appendfsync with a value.
type answers struct {
	info  func(own string) string
	fsync string
}

func (answers) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a answers) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		switch cmd := cmd.(type) {
		case *redis.StringCmd:
			if cmd.Name() == "info" {
				cmd.SetVal(a.info(cmd.Val()))
				cmd.SetErr(nil)
				return nil
			}
		case *redis.MapStringStringCmd:
			if cmd.Name() == "config" && a.fsync != "" {
				cmd.SetVal(map[string]string{"appendfsync": a.fsync})
				cmd.SetErr(nil)
				return nil
			}
		}
		return err
	}
}

func (answers) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// saying returns a client with a hook that answers for its server.
func saying(t *testing.T, client redis.UniversalClient, fsync string, info map[string]string) redis.UniversalClient {
	t.Helper()
	client.AddHook(answers{fsync: fsync, info: func(string) string {
		var text strings.Builder
		for name, value := range info {
			if value != "" {
				fmt.Fprintf(&text, "%s:%s\r\n", name, value)
			}
		}
		return text.String()
	}})
	return client
}

func TestCheckOfFailedPersistence(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		aof, write, snapshot, rewrite, fsync string
		want                                 redisidem.Verdict
		word                                 string
	}{
		{"1", "ok", "ok", "ok", "everysec", redisidem.VerdictGood, "appendfsync everysec"},
		{"1", "err", "ok", "ok", "everysec", redisidem.VerdictFailure, "aof_last_write_status"},
		{"1", "ok", "err", "ok", "always", redisidem.VerdictWarning, "rdb_last_bgsave_status err"},
		{"1", "ok", "ok", "err", "everysec", redisidem.VerdictWarning, "aof_last_bgrewrite_status err"},
		{"1", "ok", "err", "ok", "no", redisidem.VerdictWarning, "appendfsync is no"},
		{"1", "", "", "", "", redisidem.VerdictUndetermined, "appendfsync"},
		{"0", "ok", "err", "ok", "", redisidem.VerdictWarning, "last snapshot failed"},
		{"0", "ok", "ok", "ok", "", redisidem.VerdictWarning, "no append-only file"},
		{"", "", "", "", "", redisidem.VerdictUndetermined, "does not report"},
	} {
		client, err := embedded.client(3)
		mustBe(t, err, nil)
		report := checked(t, saying(t, client, c.fsync, map[string]string{
			"aof_enabled": c.aof, "aof_last_write_status": c.write, "rdb_last_bgsave_status": c.snapshot, "aof_last_bgrewrite_status": c.rewrite,
		}), redisidem.Config{Namespace: freshNamespace()})
		mustFind(t, report, "persistence", c.want, c.word)
	}
}

func TestReplicasThatFallBehindDoNotCount(t *testing.T) {
	t.Parallel()
	needServer(t)
	info := map[string]string{
		"role": "master", "connected_slaves": "4", "slave_expires_tracked_keys": "0",
		"slave0": "ip=127.0.0.1,port=1,state=online,offset=14,lag=0", "slave1": "ip=127.0.0.1,port=2,state=online,offset=14,lag=11",
		"slave2": "ip=127.0.0.1,port=3,state=wait_bgsave,offset=0,lag=0", "slave3": "ip=127.0.0.1,port=4,state=online,offset=14,lag=10",
	}
	for durability, want := range []redisidem.Verdict{
		redisidem.VerdictWarning, redisidem.VerdictWarning, redisidem.VerdictWarning, redisidem.VerdictFailure,
	} {
		client, err := standalone.client(3)
		mustBe(t, err, nil)
		report := checked(t, saying(t, client, "", info), redisidem.Config{
			Namespace: freshNamespace(), Durability: durability, Timeout: time.Second,
		})
		mustFind(t, report, "replication", want, "2 of 4 replicas in step")
	}
}

func TestNamesOfVerdicts(t *testing.T) {
	t.Parallel()
	for verdict, want := range map[redisidem.Verdict]string{
		-1: "invalid", 0: "invalid", redisidem.VerdictFailure + 1: "invalid", redisidem.VerdictGood: "good",
		redisidem.VerdictUndetermined: "undetermined", redisidem.VerdictWarning: "warning", redisidem.VerdictFailure: "failure",
	} {
		if got := verdict.String(); got != want {
			t.Errorf("verdict %d is %q, want %q", int(verdict), got, want)
		}
	}
}

// TestCheckCountsReplicasInStep freezes one of two replicas. A replica is out of step after 10 s
// without a sign, of which the test waits for 3.
func TestCheckCountsReplicasInStep(t *testing.T) {
	t.Parallel()
	group := rediscase.Replicated(t, 2)
	cfg := redisidem.Config{Durability: 2, Timeout: 5 * time.Second}
	mustFind(t, checked(t, group.Master.Client(), cfg), "replication", redisidem.VerdictGood, "2 replicas")
	mustBe(t, group.Replicas[0].Pause(), nil)
	t.Cleanup(func() { _ = group.Replicas[0].Resume() })
	admin := group.Master.Client()
	t.Cleanup(func() { _ = admin.Close() })
	until(t, "a replica is silent for 3 s", func() bool {
		return strings.Contains(admin.Info(ctx, "replication").Val(), "lag=3")
	})
	client := group.Master.Client()
	lag := regexp.MustCompile(`lag=\d+`)
	client.AddHook(answers{info: func(own string) string { // as it will be 8 s later
		return lag.ReplaceAllStringFunc(own, func(found string) string {
			seconds, _ := strconv.Atoi(strings.TrimPrefix(found, "lag="))
			return fmt.Sprintf("lag=%d", seconds+8)
		})
	}})
	mustFind(t, checked(t, client, cfg), "replication", redisidem.VerdictFailure, "1 of 2 replicas in step", "asks for 2")
}

func TestCheckOfReplicas(t *testing.T) {
	t.Parallel()
	group := rediscase.Replicated(t, 1)
	mustFind(t, checked(t, group.Master.Client(), redisidem.Config{}), "replication", redisidem.VerdictWarning, "Config.Durability")

	report := checked(t, group.Master.Client(), redisidem.Config{Durability: 1})
	mustFind(t, report, "replication", redisidem.VerdictGood)
	mustFind(t, report, "scripts", redisidem.VerdictGood)

	short := redisidem.Config{Durability: 2, Timeout: 3 * time.Second} // half of which it waits, and the machine may be busy
	report = checked(t, group.Master.Client(), short)
	mustFind(t, report, "replication", redisidem.VerdictFailure, "1 replicas", "asks for 2")
	mustFind(t, report, "scripts", redisidem.VerdictFailure)

	short.Durability = 0
	mustFind(t, checked(t, group.Replicas[0].Client(), short), "replication", redisidem.VerdictFailure, "master")

	short.Durability = 1
	report = checked(t, rediscase.Server(t).Client(), short)
	mustFind(t, report, "replication", redisidem.VerdictFailure, "0 replicas", "asks for 1")
}

func TestCheckNamesTheRightThatIsMissing(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	admin := server.Client()
	defer func() { _ = admin.Close() }()
	for _, c := range []struct {
		user, word string
		rules      []any
	}{
		{"noscripts", "evalsha", []any{"~*", "+@all", "-eval", "-evalsha"}},
		{"nohashes", "create", []any{"~*", "+@all", "-hset"}},
		{"nodelete", "abandon", []any{"~*", "+@all", "-del"}},
		{"norenewal", "renew", []any{"~*", "+@all", "-hget"}}, // the service can be closed all the same
		{"otherkeys", "create", []any{"~other:*", "+@all"}},
	} {
		t.Run(c.user, func(t *testing.T) {
			mustBe(t, admin.Do(ctx, append([]any{"ACL", "SETUSER", c.user, "on", ">s3cret"}, c.rules...)...).Err(), nil)
			opt := options(server.Addr(), 3)
			opt.Username, opt.Password = c.user, "s3cret"
			report := checked(t, redis.NewClient(opt), redisidem.Config{Namespace: c.user})
			mustFind(t, report, "scripts", redisidem.VerdictFailure, c.word)
			mustFind(t, report, "eviction", redisidem.VerdictGood)

			svc, err := redisidem.Open(ctx, "redis://"+c.user+":s3cret@"+server.Addr(), &redisidem.Config{Timeout: 5 * time.Second})
			mustBe(t, err, redisidem.ErrUnsafeServer)
			if svc != nil || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("Open returned %v, %v", svc, err)
			}
		})
	}
	t.Run("noinfo", func(t *testing.T) {
		mustBe(t, admin.Do(ctx, "ACL", "SETUSER", "noinfo", "on", ">s3cret", "~*", "+@all", "-info").Err(), nil)
		opt := options(server.Addr(), 3)
		opt.Username, opt.Password = "noinfo", "s3cret"
		report := checked(t, redis.NewClient(opt), redisidem.Config{})
		mustFind(t, report, "eviction", redisidem.VerdictUndetermined)
		mustFind(t, report, "scripts", redisidem.VerdictGood)
	})
}

// TestMissingRightIsReportedAsSuch removes one right after the other. No missing right may look
// like a damaged record, a lost lease or an outage, and no operation is repeated in vain.
func TestMissingRightIsReportedAsSuch(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	admin := server.Client()
	t.Cleanup(func() { _ = admin.Close() })
	opt := options(server.Addr(), 3)
	opt.Username, opt.Password = "app", "s3cret"
	allow := func(rules ...any) {
		t.Helper()
		mustBe(t, admin.Do(ctx, append([]any{"ACL", "SETUSER", "app", "on", ">s3cret"}, rules...)...).Err(), nil)
	}
	allow("~*", "&*", "+@all")
	sc := serviceOn(t, opt, redisidem.Config{Timeout: 10 * time.Second, CommitRetry: -1}).Scope("a")
	const wait = 5 * time.Second // much less than the timeout, and much more than one answer takes

	for i, c := range []struct {
		operation string
		denied    []any
		allowed   []any
		do        func(lease *redisidem.Lease, value string) error
		want      error // ErrUnavailable if nil
	}{
		{"claim", []any{"-evalsha"}, []any{"+evalsha"}, nil, nil},
		{"claim", []any{"-hgetall"}, []any{"+hgetall"}, nil, nil},
		{"claim", []any{"-set"}, []any{"+set"}, nil, nil},
		{"claim", []any{"resetkeys", "~other"}, []any{"~*"}, nil, nil},
		{"initialize request", []any{"-hset"}, []any{"+hset"}, func(_ *redisidem.Lease, value string) error {
			_, err := sc.InitializeRequest(ctx, value+" new", request)
			return err
		}, nil},
		{"renew", []any{"-hget"}, []any{"+hget"}, func(lease *redisidem.Lease, _ string) error { return lease.Renew(ctx) }, nil},
		{"renew", []any{"-pexpire"}, []any{"+pexpire"}, func(lease *redisidem.Lease, _ string) error { return lease.Renew(ctx) }, nil},
		{"abandon", []any{"-hmget"}, []any{"+hmget"}, func(lease *redisidem.Lease, _ string) error { return lease.Abandon(ctx) }, nil},
		{"commit", []any{"-hmget"}, []any{"+hmget"}, func(lease *redisidem.Lease, _ string) error {
			_, err := lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, "done")))
			return err
		}, redisidem.ErrOutcomeUnknown},
	} {
		value := fmt.Sprint("k", i)
		lease := lockedKey(t, sc, value)
		if c.do == nil {
			start(t, sc, value+" free")
			c.do = func(_ *redisidem.Lease, value string) error {
				_, err := sc.Do(ctx, value+" free", request, never(t))
				return err
			}
		}
		allow(c.denied...)
		began := time.Now()
		err := c.do(lease, value)
		took := time.Since(began)
		allow(c.allowed...)
		mustBe(t, err, redisidem.ErrNotPermitted)
		prefix := "redisidem: " + c.operation + ": the Redis user lacks a right: "
		if c.want == nil {
			c.want = redisidem.ErrUnavailable
		} else {
			prefix = c.want.Error() + ": the Redis user lacks a right: "
		}
		mustBe(t, err, c.want)
		if !strings.HasPrefix(err.Error(), prefix) {
			t.Errorf("%s with %v returns %q, want the prefix %q", c.operation, c.denied, err, prefix)
		}
		if unknown := errors.Is(err, redisidem.ErrOutcomeUnknown); unknown == errors.Is(err, redisidem.ErrUnavailable) {
			t.Errorf("%s with %v: %q does not say whether the callback may have run", c.operation, c.denied, err)
		}
		if errors.Is(err, redisidem.ErrDamaged) || errors.Is(err, redisidem.ErrLeaseLost) || took > wait {
			t.Errorf("%s with %v returns %q after %v", c.operation, c.denied, err, took)
		}
		if err := lease.Abandon(ctx); err != nil && !errors.Is(err, redisidem.ErrLeaseEnded) {
			t.Error(err)
		}
	}
}

func TestCheckAfterClose(t *testing.T) {
	t.Parallel()
	client, err := embedded.client(3)
	mustBe(t, err, nil)
	defer func() { _ = client.Close() }()
	svc, err := redisidem.New(client, nil)
	mustBe(t, err, nil)
	mustBe(t, svc.Close(ctx), nil)
	_, err = svc.Check(ctx)
	mustBe(t, err, redisidem.ErrClosed)
}

// leastRights returns the rules of the Redis user in docs/security.md, for another namespace.
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

// TestS14_LeastRightsAreEnough runs everything that the library does as a user with only those
// rights.
func TestS14_LeastRightsAreEnough(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	admin := server.Client()
	t.Cleanup(func() { _ = admin.Close() })
	for _, right := range leastRights(t, "s14") {
		// Some servers do not know each subcommand.
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

	// Other keys and harmful commands are refused.
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
	// An effect without its right is not applied, and neither is its outcome.
	mustBe(t, admin.Do(ctx, "ACL", "SETUSER", "app", "-sadd").Err(), nil)
	key, err = sc.Do(ctx, "denied", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Finish(redisidem.JSON(200, "done")).WithEffects(
			effect.IncrBy(st.ShardKey("denied"), 1), effect.SAdd(st.ShardKey("m"), "1")), nil
	})
	mustBe(t, err, redisidem.ErrEffect)
	if !key.Response.IsZero() || admin.Keys(ctx, "s14:*:x:denied").Val() != nil && len(admin.Keys(ctx, "s14:*:x:denied").Val()) > 0 {
		t.Errorf("something was written: %+v", key)
	}
}
