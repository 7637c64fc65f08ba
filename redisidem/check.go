package redisidem

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/lua"
)

// Verdict is what [Service.Check] thinks of one finding.
type Verdict int

// The verdicts, from good to bad.
const (
	// Good: as it should be.
	Good Verdict = iota + 1
	// Undetermined: the server does not tell, as managed ones often do not. Make sure yourself.
	Undetermined
	// Warning: the promise holds, but for the case named.
	Warning
	// Failure: the promise cannot be kept on this server.
	Failure
)

// String returns the verdict in lower case.
func (v Verdict) String() string {
	names := [...]string{Good: "good", Undetermined: "undetermined", Warning: "warning", Failure: "failure"}
	if v <= 0 || int(v) >= len(names) {
		return "invalid"
	}
	return names[v]
}

// Finding is one thing that was looked at.
type Finding struct {
	// Node is the server's address.
	Node string
	// Subject is what was looked at: "version", "eviction", "persistence", "replication", "scripts".
	Subject string
	// Verdict is what to think of it, and Detail why, with what to do about it.
	Verdict Verdict
	Detail  string
}

// Report is the result of [Service.Check].
type Report struct{ Findings []Finding }

// Err returns an error that matches [ErrUnsafeServer] and tells each failure, or nil if there is none.
func (r *Report) Err() error {
	var errs []error
	for _, f := range r.Findings {
		if f.Verdict == Failure {
			errs = append(errs, fmt.Errorf("%w: %s: %s: %s", ErrUnsafeServer, f.Node, f.Subject, f.Detail))
		}
	}
	return errors.Join(errs...)
}

// Check looks whether the servers can keep the promise: their version, that they do not evict, that a restart does not
// forget, that there are replicas enough for Config.Durability, and that this client may do all that the library does,
// which it tries out on a key of its own. On a cluster it asks each master. It blocks for a few round trips: those to one
// node, and each step of the try-out, are bounded by Config.Timeout.
//
// It returns [ErrUnavailable] when a server does not answer; what it finds is in the report.
func (s *Service) Check(ctx context.Context) (*Report, error) {
	if err := s.life.enter(); err != nil {
		return nil, err
	}
	defer s.life.leave()

	report := &Report{}
	var mu sync.Mutex
	look := func(ctx context.Context, node *redis.Client) error {
		findings, err := s.checkNode(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		report.Findings = append(report.Findings, findings...)
		return err
	}
	var err error
	switch c := s.client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, look)
	case *redis.Client:
		err = look(ctx, c)
	}
	if err != nil {
		return nil, explain(ctx, "check", err)
	}
	scripts, err := s.checkScripts(ctx)
	if err != nil {
		return nil, err
	}
	report.Findings = append(report.Findings, scripts)
	if scripts.Verdict == Good {
		rights, err := s.checkRights(ctx)
		if err != nil {
			return nil, err
		}
		report.Findings = append(report.Findings, rights)
	}
	return report, nil
}

func (s *Service) checkNode(ctx context.Context, node *redis.Client) ([]Finding, error) {
	bounded, cancel := s.bounded(ctx)
	defer cancel()
	err := repeat(bounded, func(ctx context.Context) error { return node.Ping(ctx).Err() })
	if err != nil {
		return nil, err
	}
	info, err := readInfo(bounded, node)
	if err != nil {
		return nil, err
	}
	addr := node.Options().Addr
	findings := []Finding{checkVersion(info), checkEviction(info), checkPersistence(info), s.checkReplicas(info)}
	for i := range findings {
		findings[i].Node = addr
	}
	return findings, nil
}

// readInfo asks for what a server tells about itself. A server that does not tell leaves it empty.
func readInfo(ctx context.Context, node *redis.Client) (map[string]string, error) {
	info := make(map[string]string)
	for _, section := range []string{"server", "memory", "persistence", "replication"} {
		text, err := node.Info(ctx, section).Result()
		var refused redis.Error
		if err != nil && !errors.As(err, &refused) {
			return nil, err
		}
		for line := range strings.Lines(text) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				info[name] = value
			}
		}
	}
	return info, nil
}

// oldest is the first major version of Redis that has all that the scripts use; Valkey began later.
const oldest = 7

func checkVersion(info map[string]string) Finding {
	f := Finding{Subject: "version", Verdict: Good}
	name, version := "Redis", info["redis_version"]
	if v := info["valkey_version"]; v != "" {
		name, version = "Valkey", v
	}
	major, err := strconv.Atoi(strings.SplitN(version, ".", 2)[0])
	switch {
	case version == "" || err != nil:
		f.Verdict, f.Detail = Undetermined, "the server does not tell its version; Redis 7.0 is the oldest that works"
	case name == "Redis" && major < oldest:
		f.Verdict, f.Detail = Failure, fmt.Sprintf("Redis %s is too old: the scripts need 7.0", version)
	default:
		f.Detail = name + " " + version
	}
	return f
}

func checkEviction(info map[string]string) Finding {
	f := Finding{Subject: "eviction", Verdict: Good}
	policy, limit := info["maxmemory_policy"], info["maxmemory"]
	switch {
	case policy == "":
		f.Verdict = Undetermined
		f.Detail = "the server does not tell its maxmemory-policy: any but noeviction forgets keys, and work runs twice"
	case policy == "noeviction":
		f.Detail = "noeviction"
	case limit == "0":
		f.Verdict = Warning
		f.Detail = "maxmemory-policy is " + policy + ": as soon as maxmemory is set, keys are forgotten; set noeviction"
	default:
		f.Verdict = Failure
		f.Detail = "maxmemory-policy is " + policy + " with a maxmemory of " + limit +
			" bytes: keys are forgotten when memory is full, and work runs twice; set noeviction"
	}
	return f
}

func checkPersistence(info map[string]string) Finding {
	f := Finding{Subject: "persistence", Verdict: Good}
	switch aof := info["aof_enabled"]; aof {
	case "":
		f.Verdict, f.Detail = Undetermined, "the server does not tell whether it has an append-only file"
	case "1":
		f.Detail = "append-only file"
	default:
		f.Verdict = Warning
		f.Detail = "no append-only file: a restart forgets all keys since the last snapshot; set appendonly yes"
	}
	return f
}

func (s *Service) checkReplicas(info map[string]string) Finding {
	f := Finding{Subject: "replication", Verdict: Good}
	replicas, err := strconv.Atoi(info["connected_slaves"])
	wanted := s.cfg.Durability
	switch {
	case info["role"] == "slave":
		f.Verdict, f.Detail = Failure, "the server is a replica: point the client at the master"
	case err != nil:
		f.Verdict, f.Detail = Undetermined, "the server does not tell how many replicas it has"
	case replicas < wanted:
		f.Verdict, f.Detail = Failure, fmt.Sprintf("%d replicas, and Config.Durability asks for %d", replicas, wanted)
	case replicas > 0 && wanted == 0:
		f.Verdict = Warning
		f.Detail = fmt.Sprintf("%d replicas: a failover may forget what was acknowledged; set Config.Durability", replicas)
	default:
		f.Detail = fmt.Sprintf("%d replicas", replicas)
	}
	return f
}

// neededRights are commands that every service sends, or that its scripts run, and that no try-out reaches: they are for what goes
// wrong. The commands of a user's effects are checked with each commit.
var neededRights = []string{
	"eval script 1 key", "evalsha sha 1 key", "msetnx key value", "mset key value", "getrange key 0 1", "set key value", "get key",
	"getdel key", "del key", "exists key", "time", "pexpire key 1", "pexpireat key 1", "pexpiretime key", "pttl key",
	"hset key field value", "hget key field", "hmget key field", "hgetall key", "hdel key field",
}

// flowRights are commands that only flows with RecoverAfter and their completers need.
var flowRights = []string{
	"zadd key 1 member", "zrem key member", "zscore key member", "zrange key 0 1", "zrangebyscore key 0 1", "zremrangebyscore key 0 1",
}

// checkRights asks the server what this client's user may do.
func (s *Service) checkRights(ctx context.Context) (Finding, error) {
	f := Finding{Node: "all", Subject: "rights", Verdict: Good, Detail: "all commands are permitted"}
	id, err := s.Scope("redisidem/check").identify("rights")
	if err != nil {
		return f, err
	}
	missing := func(commands []string) (string, error) {
		c := newCall(lua.Rights, newToken(), len(commands), id.record)
		for _, command := range commands {
			c.add(command)
		}
		r, err := s.ask(ctx, "check", c)
		return strings.Join(r.rest, ", "), err
	}
	needed := neededRights
	if s.cfg.Durability > 0 {
		needed = append(slices.Clone(needed), "wait 1 1")
	}
	lacks, err := missing(needed)
	if err != nil {
		return f, err
	}
	if lacks != "" {
		f.Verdict, f.Detail = Failure, "the Redis user lacks a right: "+lacks
		return f, nil
	}
	if lacks, err = missing(flowRights); err != nil {
		return f, err
	}
	if lacks != "" {
		f.Verdict, f.Detail = Warning, "the Redis user lacks a right that flows with RecoverAfter need: "+lacks
	}
	return f, nil
}

// checkScripts tries the whole life of a key, to see that the scripts run and that this user may run them.
func (s *Service) checkScripts(ctx context.Context) (Finding, error) {
	f := Finding{Node: "all", Subject: "scripts", Verdict: Good, Detail: "all transitions of a key work"}
	// What a failed check leaves behind is gone after a lease or two, and no observer hears of it.
	cfg := s.cfg
	cfg.Observer, cfg.Retention = nil, cfg.Lease
	probe := &Service{
		cfg: cfg, client: s.client, transport: s.transport, life: s.life, listener: s.listener, constants: constantsOf(&cfg), flags: s.flags,
		deletions: s.deletions,
	}
	sc := &Scope{service: probe, name: "redisidem/check"}
	fail := func(step string, err error) (Finding, error) {
		var refused redis.Error
		if errors.Is(err, ErrUnavailable) && !errors.As(err, &refused) {
			return f, err
		}
		f.Verdict, f.Detail = Failure, fmt.Sprintf("%s: %v", step, err)
		return f, nil
	}
	key, err := sc.Create(ctx, Request{Method: "CHECK", Path: "/"})
	if err != nil {
		return fail("create", err)
	}
	lease, err := sc.Lock(ctx, key.Value)
	if err != nil {
		return fail("claim", err)
	}
	if err := lease.Renew(ctx); err != nil {
		_ = lease.Abandon(ctx) // or it would be renewed for ever
		return fail("renew", err)
	}
	if err := lease.Abandon(ctx); err != nil {
		return fail("abandon", err)
	}
	if key, err = sc.WorkStage(ctx, key, func(context.Context, *Stage) (Outcome, error) { return Outcome{}, nil }); err != nil {
		return fail("commit", err)
	}
	if err := sc.Delete(ctx, key); err != nil {
		return fail("delete", err)
	}
	return f, nil
}
