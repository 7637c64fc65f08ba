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

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Verdict is the judgement of [Service.Check] on one finding.
type Verdict int

// The verdicts, from good to bad.
const (
	// VerdictGood means that the setting is safe.
	VerdictGood Verdict = iota + 1
	// VerdictUndetermined means that the server does not report the setting, as is common with
	// managed servers. Check it by hand.
	VerdictUndetermined
	// VerdictWarning means that the guarantees hold except in the case that Detail names.
	VerdictWarning
	// VerdictFailure means that this server cannot keep the guarantees.
	VerdictFailure
)

// String returns the verdict in lower case, or "invalid" for any other value.
func (v Verdict) String() string {
	names := [...]string{VerdictGood: "good", VerdictUndetermined: "undetermined", VerdictWarning: "warning", VerdictFailure: "failure"}
	if v <= 0 || int(v) >= len(names) {
		return "invalid"
	}
	return names[v]
}

// Finding is the result of one check.
type Finding struct {
	// Node is the server's address, or "all" for a finding about all servers.
	Node string
	// Subject names the check: "mode", "version", "eviction", "persistence", "replication",
	// "slots", "scripts", "rights".
	Subject string
	// Verdict is the judgement. Detail gives the reason and the remedy.
	Verdict Verdict
	Detail  string
}

// Report is the result of [Service.Check]: one finding for each check of each server.
type Report struct{ Findings []Finding }

// Err returns an error that matches [ErrUnsafeServer] and names each failure. It returns nil if the
// report has no failure.
func (r *Report) Err() error {
	var errs []error
	for _, f := range r.Findings {
		if f.Verdict == VerdictFailure {
			errs = append(errs, fmt.Errorf("%w: %s: %s: %s", ErrUnsafeServer, f.Node, f.Subject, f.Detail))
		}
	}
	return errors.Join(errs...)
}

// Check checks that the servers can keep the guarantees. On a cluster it asks each master. It
// examines:
//
//   - the mode: whether the server is of the kind that the client is made for;
//   - the version;
//   - eviction: whether the server may remove keys when memory is full;
//   - persistence: whether a restart loses keys, and whether saving works;
//   - replication: whether Config.Durability has enough replicas;
//   - the slots: whether each slot of a cluster has a master;
//   - the scripts: it runs through the life of a key of its own;
//   - the rights of the Redis user. A missing right that every key or Config.Durability needs is a
//     VerdictFailure. A missing right that only flows, effects, Wait or CacheBytes need is a
//     VerdictWarning.
//
// Check blocks for a few round trips. Config.Timeout bounds the round trips to one node together,
// and each step of the key's life. It is safe for concurrent use.
//
// It returns [ErrUnavailable] if a server does not answer, and [ErrClosed] after Close. The report
// has everything else.
func (s *Service) Check(ctx context.Context) (*Report, error) {
	if err := s.inFlight.enter(); err != nil {
		return nil, err
	}
	defer s.inFlight.leave()

	report := &Report{}
	var rights []Finding
	var mu sync.Mutex
	look := func(ctx context.Context, node *redis.Client) error {
		bounded, cancel := s.bounded(ctx)
		defer cancel()
		findings, err := s.checkNode(bounded, node)
		if err != nil {
			return err
		}
		allowed, err := s.checkRights(bounded, node)
		mu.Lock()
		defer mu.Unlock()
		report.Findings = append(report.Findings, findings...)
		rights = append(rights, allowed)
		return err
	}
	var err error
	switch c := s.client.(type) {
	case *redis.ClusterClient:
		var slots Finding
		if slots, err = s.checkSlots(ctx, c); err == nil {
			report.Findings = append(report.Findings, slots)
			err = c.ForEachMaster(ctx, look)
		}
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
	report.Findings = append(append(report.Findings, scripts), rights...)
	return report, nil
}

// checkNode checks the settings that one server reports.
func (s *Service) checkNode(ctx context.Context, node *redis.Client) ([]Finding, error) {
	info, err := readInfo(ctx, node)
	if err != nil {
		return nil, err
	}
	fsync := ""
	if info["aof_enabled"] == "1" {
		if fsync, err = readFsync(ctx, node); err != nil {
			return nil, err
		}
	}
	findings := []Finding{checkVersion(info), checkEviction(info), checkPersistence(info, fsync), s.checkReplicas(info)}
	if _, cluster := s.client.(*redis.ClusterClient); !cluster {
		findings = append(checkMode(info), findings...)
	}
	for i := range findings {
		findings[i].Node = node.Options().Addr
	}
	return findings, nil
}

// readInfo reads the server's INFO. The result is empty if the server reports nothing.
func readInfo(ctx context.Context, node *redis.Client) (map[string]string, error) {
	info := make(map[string]string)
	for _, section := range []string{"server", "memory", "persistence", "replication"} {
		var text string
		err := protocol.Repeat(ctx, func(ctx context.Context) (err error) {
			text, err = node.Info(ctx, section).Result()
			return err
		})
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

// readFsync reads when the server writes its append-only file to disk. It returns "" if the server
// does not report it, for example because the user lacks the right to ask.
func readFsync(ctx context.Context, node *redis.Client) (string, error) {
	settings, err := node.ConfigGet(ctx, "appendfsync").Result()
	var refused redis.Error
	if err != nil && !errors.As(err, &refused) {
		return "", err
	}
	return settings["appendfsync"], nil
}

// toCluster is the remedy when a client for a single server meets a cluster.
const toCluster = "the server is a node of a cluster: open redis+cluster:// (rediss+cluster:// with TLS), or use a redis.ClusterClient"

// checkMode finds servers that a client for a single server cannot use.
func checkMode(info map[string]string) []Finding {
	mode := info["redis_mode"]
	if mode == "" {
		mode = info["server_mode"] // Valkey
	}
	f := Finding{Subject: "mode", Verdict: VerdictGood, Detail: mode}
	switch mode {
	case "":
		return nil // checkScripts finds the limits of such a server
	case "cluster":
		f.Verdict, f.Detail = VerdictFailure, toCluster
	case "sentinel":
		f.Verdict = VerdictFailure
		f.Detail = "the server is a sentinel, which keeps no keys: open redis+sentinel:// (rediss+sentinel:// with TLS) with master_name, or use redis.NewFailoverClient"
	}
	return []Finding{f}
}

// clusterSlots is the number of slots of every cluster.
const clusterSlots = 16384

// checkSlots checks that each slot of a cluster has a master.
func (s *Service) checkSlots(ctx context.Context, cluster *redis.ClusterClient) (Finding, error) {
	f := Finding{Node: "all", Subject: "slots", Verdict: VerdictGood, Detail: "each slot has a master"}
	bounded, cancel := s.bounded(ctx)
	defer cancel()
	var ranges []redis.ClusterSlot
	err := protocol.Repeat(bounded, func(ctx context.Context) (err error) {
		ranges, err = cluster.ClusterSlots(ctx).Result() //nolint:staticcheck // It is what go-redis routes by.
		return err
	})
	if err != nil {
		return f, err
	}
	slices.SortFunc(ranges, func(a, b redis.ClusterSlot) int { return a.Start - b.Start })
	var gaps []string
	free, next := 0, 0
	for _, r := range append(ranges, redis.ClusterSlot{Start: clusterSlots, End: clusterSlots}) {
		if r.Start > next {
			gaps = append(gaps, fmt.Sprintf("%d-%d", next, r.Start-1))
			free += r.Start - next
		}
		next = max(next, r.End+1)
	}
	if free > 0 {
		f.Verdict = VerdictFailure
		f.Detail = fmt.Sprintf("%d of %d slots are unassigned (%s): keys there, or all of them, are unavailable; assign them with "+
			"redis-cli --cluster fix", free, clusterSlots, strings.Join(gaps[:min(len(gaps), 8)], ", "))
	}
	return f, nil
}

// oldest is the first major version of Redis with everything that the scripts use. All versions of
// Valkey have it.
const oldest = 7

func checkVersion(info map[string]string) Finding {
	f := Finding{Subject: "version", Verdict: VerdictGood}
	name, version := "Redis", info["redis_version"]
	if v := info["valkey_version"]; v != "" {
		name, version = "Valkey", v
	}
	major, err := strconv.Atoi(strings.SplitN(version, ".", 2)[0])
	switch {
	case version == "" || err != nil:
		f.Verdict, f.Detail = VerdictUndetermined, "the server does not report its version; Redis 7.0 is the oldest that works"
	case name == "Redis" && major < oldest:
		f.Verdict, f.Detail = VerdictFailure, fmt.Sprintf("Redis %s is too old: the scripts need 7.0", version)
	default:
		f.Detail = name + " " + version
	}
	return f
}

func checkEviction(info map[string]string) Finding {
	f := Finding{Subject: "eviction", Verdict: VerdictGood}
	policy, limit := info["maxmemory_policy"], info["maxmemory"]
	switch {
	case policy == "":
		f.Verdict = VerdictUndetermined
		f.Detail = "the server does not report its maxmemory-policy: any but noeviction forgets keys, and work runs twice"
	case policy == "noeviction":
		f.Detail = "noeviction"
	case limit == "0":
		f.Verdict = VerdictWarning
		f.Detail = "maxmemory-policy is " + policy + ": as soon as maxmemory is set, keys are forgotten; set noeviction"
	default:
		f.Verdict = VerdictFailure
		f.Detail = "maxmemory-policy is " + policy + " with a maxmemory of " + limit +
			" bytes: keys are forgotten when memory is full, and work runs twice; set noeviction"
	}
	return f
}

func checkPersistence(info map[string]string, fsync string) Finding {
	f := Finding{Subject: "persistence", Verdict: VerdictGood}
	failed := func(field string) bool { return info[field] != "" && info[field] != "ok" }
	switch aof := info["aof_enabled"]; {
	case aof == "":
		f.Verdict, f.Detail = VerdictUndetermined, "the server does not report whether it has an append-only file"
	case aof == "1" && failed("aof_last_write_status"):
		f.Verdict = VerdictFailure
		f.Detail = "the last write to the append-only file failed (aof_last_write_status): writes are refused, or forgotten by a restart; " +
			"see to the server's disk"
	case aof != "1" && failed("rdb_last_bgsave_status"):
		f.Verdict = VerdictWarning
		f.Detail = "the last snapshot failed (rdb_last_bgsave_status), and the server has no append-only file: writes are refused, or forgotten " +
			"by a restart; see to the server's disk and memory, and set appendonly yes"
	case aof != "1":
		f.Verdict = VerdictWarning
		f.Detail = "no append-only file: a restart forgets all keys since the last snapshot; set appendonly yes"
	case fsync == "no":
		f.Verdict = VerdictWarning
		f.Detail = "appendfsync is no: when the machine fails, all that the system had not yet written is forgotten, and work runs " +
			"twice; set appendfsync everysec or always"
	case failed("rdb_last_bgsave_status"), failed("aof_last_bgrewrite_status"):
		f.Verdict = VerdictWarning
		f.Detail = "append-only file, but the last save in the background failed (rdb_last_bgsave_status " + info["rdb_last_bgsave_status"] +
			", aof_last_bgrewrite_status " + info["aof_last_bgrewrite_status"] + "): writes may be refused; see to the server's disk and memory"
	case fsync == "":
		f.Verdict = VerdictUndetermined
		f.Detail = "append-only file, and the server does not report its appendfsync (the Redis user may lack +config|get): make sure that " +
			"it is everysec or always"
	default:
		f.Detail = "append-only file, appendfsync " + fsync
	}
	return f
}

// maxLag is the number of seconds for which a replica in step may be silent: the default of the
// server's min-replicas-max-lag.
const maxLag = 10

// inStep counts the replicas that are online and not too far behind.
func inStep(info map[string]string) (n int) {
	for field, value := range info {
		if number, ok := strings.CutPrefix(field, "slave"); !ok || strings.Trim(number, "0123456789") != "" {
			continue
		}
		online, lag := false, 0
		for part := range strings.SplitSeq(value, ",") {
			online = online || part == "state=online"
			if seconds, ok := strings.CutPrefix(part, "lag="); ok {
				lag, _ = strconv.Atoi(seconds)
			}
		}
		if online && lag <= maxLag {
			n++
		}
	}
	return n
}

func (s *Service) checkReplicas(info map[string]string) Finding {
	f := Finding{Subject: "replication", Verdict: VerdictGood}
	connected, err := strconv.Atoi(info["connected_slaves"])
	replicas, wanted := inStep(info), s.cfg.Durability
	f.Detail = fmt.Sprintf("%d replicas", replicas)
	if replicas < connected {
		f.Detail = fmt.Sprintf("%d of %d replicas in step", replicas, connected)
	}
	switch {
	case info["role"] == "slave":
		f.Verdict, f.Detail = VerdictFailure, "the server is a replica: point the client at the master"
	case err != nil:
		f.Verdict, f.Detail = VerdictUndetermined, "the server does not report how many replicas it has"
	case replicas < wanted:
		f.Verdict = VerdictFailure
		f.Detail += fmt.Sprintf(", and Config.Durability asks for %d", wanted)
	case connected > 0 && wanted == 0:
		f.Verdict = VerdictWarning
		f.Detail += ": a failover may forget what was acknowledged; set Config.Durability"
	case replicas < connected:
		f.Verdict = VerdictWarning
	}
	return f
}

// checkScripts runs through the whole life of a key. This shows that the scripts work and that the
// user may run them.
func (s *Service) checkScripts(ctx context.Context) (Finding, error) {
	f := Finding{Node: "all", Subject: "scripts", Verdict: VerdictGood, Detail: "all transitions of a key work"}
	sc := s.probeScope("redisidem/check") // its record expires after a lease or two if the check fails half-way
	fail := func(step string, err error) (Finding, error) {
		var refused redis.Error
		if errors.Is(err, ErrUnavailable) && !errors.As(err, &refused) {
			return f, err
		}
		f.Verdict, f.Detail = VerdictFailure, fmt.Sprintf("%s: %v", step, err)
		if _, moved := redis.IsMovedError(err); moved {
			f.Detail += ": " + toCluster
		}
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
		_ = lease.Abandon(ctx) // or its renewals would never end
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
	bounded, cancel := sc.service.bounded(ctx)
	defer cancel()
	if err := sc.service.client.Del(bounded, key.id.Record).Err(); err != nil { // the tombstone
		return fail("delete", err)
	}
	return f, nil
}
