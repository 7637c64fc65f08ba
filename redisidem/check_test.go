package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
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

// found returns the only finding about a subject.
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

// mustFind checks one finding: its verdict, and that it tells each of the words.
func mustFind(t *testing.T, report *redisidem.Report, subject string, want redisidem.Verdict, words ...string) {
	t.Helper()
	f := found(t, report, subject)
	if f.Verdict != want {
		t.Errorf("%s is %v: %s; want %v", subject, f.Verdict, f.Detail, want)
	}
	for _, w := range words {
		if !strings.Contains(f.Detail, w) {
			t.Errorf("%s: %q does not tell %q", subject, f.Detail, w)
		}
	}
	err := report.Err()
	if bad := errors.Is(err, redisidem.ErrUnsafeServer); want == redisidem.VerdictFailure && !bad {
		t.Errorf("the report's error is %v in spite of a failure", err)
	}
	if told := err != nil && strings.Contains(err.Error(), subject+": "); told != (want == redisidem.VerdictFailure) {
		t.Errorf("%s is %v, and the report's error is %v", subject, want, err)
	}
}

func TestCheckOfAServerThatTellsNothing(t *testing.T) {
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
			t.Errorf("the observer was told %v", kinds)
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

// TestCheckOfFailedSaves has a folder in the place of the file that a server saves to.
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
			// As a server with its own settings for snapshots does it, which then refuses all writes.
			mustBe(t, admin.ConfigSet(ctx, "save", "3600 1").Err(), nil)
			mustFind(t, checked(t, server.Client(), redisidem.Config{}), "scripts", redisidem.VerdictFailure, "MISCONF")
		})
	}
}

// TestCheckTellsKindsOfServersApart opens a URL for a single server on servers of other kinds.
func TestCheckTellsKindsOfServersApart(t *testing.T) {
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

// TestCheckOfSlots takes slots from a cluster, with and without full coverage asked for.
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

// TestOpenLogsWarnings looks for what Open does not refuse.
func TestOpenLogsWarnings(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	var log strings.Builder
	svc, err := redisidem.Open(ctx, "redis://"+server.Addr(), &redisidem.Config{Timeout: 5 * time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	mustBe(t, err, nil)
	mustBe(t, svc.Close(ctx), nil)
	for _, words := range []string{"level=WARN", "subject=persistence", "set appendonly yes", server.Addr()} {
		if !strings.Contains(log.String(), words) {
			t.Errorf("the log lacks %q: %s", words, log.String())
		}
	}
}

// aged is a hook that adds to the seconds for which INFO says that a replica was silent.
type aged int

func (aged) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a aged) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	lag := regexp.MustCompile(`lag=\d+`)
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if info, ok := cmd.(*redis.StringCmd); ok && cmd.Name() == "info" {
			info.SetVal(lag.ReplaceAllStringFunc(info.Val(), func(found string) string {
				seconds, _ := strconv.Atoi(strings.TrimPrefix(found, "lag="))
				return fmt.Sprintf("lag=%d", seconds+int(a))
			}))
		}
		return err
	}
}

func (aged) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestCheckCountsReplicasInStep freezes one of two. A replica is out of step after 10 s of silence,
// of which the test waits for 3.
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
	client.AddHook(aged(8))
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
		user, told string
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
			mustFind(t, report, "scripts", redisidem.VerdictFailure, c.told)
			mustFind(t, report, "eviction", redisidem.VerdictGood)

			svc, err := redisidem.Open(ctx, "redis://"+c.user+":s3cret@"+server.Addr(), nil)
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

// TestRightThatIsMissingIsToldAsSuch takes one right after the other. None may look like a damaged record, a lost lease or an
// outage, and no operation asks again in vain.
func TestRightThatIsMissingIsToldAsSuch(t *testing.T) {
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
		told      error // ErrUnavailable if nil
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
		if c.told == nil {
			c.told = redisidem.ErrUnavailable
		} else {
			prefix = c.told.Error() + ": the Redis user lacks a right: "
		}
		mustBe(t, err, c.told)
		if !strings.HasPrefix(err.Error(), prefix) {
			t.Errorf("%s with %v is told %q", c.operation, c.denied, err)
		}
		if unknown := errors.Is(err, redisidem.ErrOutcomeUnknown); unknown == errors.Is(err, redisidem.ErrUnavailable) {
			t.Errorf("%s with %v: nobody can tell from %q whether the callback has run", c.operation, c.denied, err)
		}
		if errors.Is(err, redisidem.ErrDamaged) || errors.Is(err, redisidem.ErrLeaseLost) || took > wait {
			t.Errorf("%s with %v is told %q after %v", c.operation, c.denied, err, took)
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

func TestOpenGivesUpOnAServerThatIsAway(t *testing.T) {
	t.Parallel()
	addrs := map[string]string{"refused": "127.0.0.1:1"}
	if hole, err := redistest.StartBlackHole(); err == nil {
		t.Cleanup(hole.Stop)
		addrs["silent"] = hole.Addr()
	} else if !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
	for name, addr := range addrs {
		for _, form := range []string{"redis://%s", "redis+cluster://%s", "redis+sentinel://%s?master_name=x"} {
			t.Run(name+" "+form, func(t *testing.T) {
				t.Parallel()
				const timeout = 400 * time.Millisecond
				began := time.Now()
				svc, err := redisidem.Open(ctx, fmt.Sprintf(form, addr), &redisidem.Config{Timeout: timeout})
				mustBe(t, err, redisidem.ErrUnavailable)
				if took := time.Since(began); took > timeout+time.Second {
					t.Errorf("took %v with a timeout of %v", took, timeout)
				}
				if svc != nil {
					t.Error("there is a service")
				}
			})
		}
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := redisidem.Open(ended, "redis://127.0.0.1:1", nil)
	mustBe(t, err, redisidem.ErrUnavailable)
	mustBe(t, err, context.Canceled)
}

func TestOpenRefusesURLs(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"", "127.0.0.1:6379", "http://127.0.0.1:6379", "redis+ring://127.0.0.1:6379", "unix:///tmp/redis.sock",
		"redis://127.0.0.1:6379/notanumber", "redis://127.0.0.1:6379?nosuchoption=1", "redis+sentinel://127.0.0.1:26379",
		"redis://127.0.0.1:port",
	} {
		svc, err := redisidem.Open(ctx, raw, nil)
		mustBeInvalid(t, err, "url")
		if svc != nil {
			t.Errorf("%q makes a service", raw)
		}
	}
	_, err := redisidem.Open(ctx, "redis://127.0.0.1:1", &redisidem.Config{Lease: time.Microsecond})
	mustBeInvalid(t, err, "Config.Lease", "10ms")
}

func TestOpenKeepsThePasswordToItself(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{"s3cret", "s3cr@t", "s3 cr%t"} {
		text := url.QueryEscape(secret)
		user := "u:" + url.PathEscape(secret) + "@"
		for _, raw := range []string{
			"redis://" + user + "127.0.0.1:1",
			"redis://" + user + "127.0.0.1:1/notanumber",
			"redis://" + user + "127.0.0.1:1/1/2",
			"redis://" + user + "127.0.0.1:1?nosuchoption=1",
			"redis://" + user + "127.0.0.1:1?read_timeout=never",
			"redis://" + user + "127.0.0.1:port",
			"redis://" + user + "ho st:1",
			"redis://" + user + "\x7f",
			"ftp://" + user + "127.0.0.1:1",
			"redis+ring://" + user + "127.0.0.1:1",
			"redis+cluster://" + user + "127.0.0.1:1",
			"redis+cluster://" + user + "127.0.0.1:1?addr=" + user + "::",
			"redis+cluster://" + user + "127.0.0.1:1?read_timeout=never",
			"redis+sentinel://" + user + "127.0.0.1:1",
			"redis+sentinel://" + user + "127.0.0.1:1?master_name=x",
			"redis+sentinel://" + user + "127.0.0.1:1/notanumber?master_name=x",
			"redis+sentinel://127.0.0.1:1?master_name=x&sentinel_password=" + text + "&db=x",
			"redis://u:" + secret + "/@127.0.0.1:1",
		} {
			_, err := redisidem.Open(ctx, raw, &redisidem.Config{Timeout: 50 * time.Millisecond})
			if err == nil {
				t.Errorf("%q was opened", raw)
				continue
			}
			for _, form := range []string{secret, url.PathEscape(secret), url.QueryEscape(secret)} {
				if strings.Contains(err.Error(), form) {
					t.Errorf("the error for %q is %q", raw, err)
				}
			}
		}
	}
}

func TestOpenWithPassword(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t, redistest.Args("--requirepass", "s3cret"))
	svc, err := redisidem.Open(ctx, "redis://:s3cret@"+server.Addr(), &redisidem.Config{Timeout: 5 * time.Second})
	mustBe(t, err, nil)
	mustBe(t, svc.Close(ctx), nil)
	for _, user := range []string{"", ":wr0ng@"} {
		_, err := redisidem.Open(ctx, "redis://"+user+server.Addr(), nil)
		if err == nil || strings.Contains(err.Error(), "wr0ng") {
			t.Errorf("with %q: %v", user, err)
		}
	}
}

func TestOpenEachForm(t *testing.T) {
	t.Parallel()
	shared(t, &standalone)
	shared(t, &cluster)
	shared(t, &sentinel)
	more := func(addrs []string, with ...string) string {
		for _, a := range addrs[1:] {
			with = append(with, "addr="+a)
		}
		return addrs[0] + "?" + strings.Join(with, "&")
	}
	for form, nodes := range map[string]int{
		"redis://" + standalone.server.Addr() + "/0":                                                           1,
		"redis+cluster://" + more(cluster.server.Addrs()):                                                      3,
		"redis+sentinel://" + more(sentinel.server.Addrs(), "master_name="+sentinel.server.MasterName, "db=0"): 1,
	} {
		svc, err := redisidem.Open(ctx, form, &redisidem.Config{Namespace: freshNamespace(), Timeout: 5 * time.Second})
		if err != nil {
			t.Errorf("%s: %v", form, err)
			continue
		}
		if _, err := svc.Scope("a").Do(ctx, "k", request, finish("done")); err != nil {
			t.Errorf("%s: %v", form, err)
		}
		report, err := svc.Check(ctx)
		mustBe(t, err, nil)
		var seen []string
		for _, f := range report.Findings {
			if f.Subject == "eviction" {
				seen = append(seen, f.Node)
			}
		}
		slices.Sort(seen)
		if len(slices.Compact(seen)) != nodes {
			t.Errorf("%s: looked at %q, want %d nodes", form, seen, nodes)
		}
		mustBe(t, svc.Close(ctx), nil)
		_, err = svc.Scope("a").Retrieve(ctx, "k")
		mustBe(t, err, redisidem.ErrClosed)
	}
}
