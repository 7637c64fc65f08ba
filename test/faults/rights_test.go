//go:build unix

package faults

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
	"github.com/redisidem/redisidem/test/internal/rung"
)

// documentedUser creates the user that docs/security.md recommends, with the command from that
// page.
func documentedUser(t *testing.T, p process) *redis.Client {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "security.md"))
	must(t, err)
	_, rest, found := strings.Cut(string(text), "ACL SETUSER app ")
	block, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("docs/security.md does not tell the user's rights")
	}
	for _, rule := range strings.Fields(block) {
		err := p.admin.Do(context.Background(), "ACL", "SETUSER", "app", rule).Err()
		// Not every server knows each of these rules. The documentation says so.
		if err != nil && !strings.HasPrefix(rule, "+client|") {
			t.Fatalf("%s: %v", rule, err)
		}
	}
	return dial(t, p.Addr(), func(o *redis.Options) { o.Username, o.Password = "app", "password" })
}

// TestRights uses keys in every way as the documented user, and tries commands that the user must
// not run.
func TestRights(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	client := documentedUser(t, p)
	ctx := context.Background()
	svc := serve(t, client, func(cfg *redisidem.Config) { cfg.CacheBytes = 1 << 20 })
	sc := svc.Scope("a")
	report, err := svc.Check(ctx)
	must(t, err)
	must(t, report.Err())
	for _, f := range report.Findings {
		if f.Verdict == redisidem.VerdictUndetermined {
			t.Errorf("%s cannot be seen: %s", f.Subject, f.Detail)
		}
	}

	key, err := sc.Create(ctx, request)
	must(t, err)
	key, err = sc.Update(ctx, key, redisidem.Advance("on"))
	must(t, err)
	held, err := sc.Lock(ctx, key.Value)
	must(t, err)
	must(t, held.Renew(ctx))
	waiter, other := make(chan error, 1), serve(t, client).Scope("a")
	go func() {
		_, err := other.Wait(patience).Do(ctx, key.Value, request, unreachable(t))
		waiter <- err
	}()
	time.Sleep(50 * time.Millisecond)
	if _, _, err = held.CommitKeep(ctx, redisidem.Advance("further")); err != nil {
		t.Error(err)
	}
	_, err = held.Commit(ctx, redisidem.Finish(redisidem.JSON(201, "done")))
	must(t, err)
	must(t, <-waiter)
	key, err = sc.Retrieve(ctx, key.Value)
	must(t, err)
	must(t, sc.Delete(ctx, key))
	_, err = sc.Retrieve(ctx, key.Value)
	if !errors.Is(err, redisidem.ErrNotFound) {
		t.Errorf("a deleted key gets %v", err)
	}
	held, err = sc.Lock(ctx, begun(t, sc))
	must(t, err)
	must(t, sc.Unlock(ctx, value))
	must(t, held.Abandon(ctx))
	complete(ctx, t, svc)
	mustBeTidy(t, p)

	forbidden := [][]any{
		{"GET", "other"},
		{"SET", "other", "1"},
		{"SET", "redisidemx", "1"},
		{"KEYS", "*"},
		{"SCAN", "0"},
		{"FLUSHALL"},
		{"FLUSHDB"},
		{"CONFIG", "SET", "maxmemory", "1"},
		{"ACL", "LIST"},
		{"SCRIPT", "FLUSH"},
		{"DEBUG", "SLEEP", "0"},
		{"REPLICAOF", "NO", "ONE"},
		{"SHUTDOWN", "NOSAVE"},
		{"EVAL", "return redis.call('GET', KEYS[1])", 1, "other"},
		{"EVAL", "return redis.call('GET', 'other')", 0},
		{"EVAL", "return redis.call('KEYS', '*')", 0},
		{"EVAL", "return redis.call('FLUSHALL')", 0},
		{"PUBLISH", "other", "1"},
		{"SUBSCRIBE", "other"},
	}
	refused := 0
	for _, command := range forbidden {
		if err := client.Do(ctx, command...).Err(); !denied(err) {
			t.Errorf("%v gets %v", command, err)
			continue
		}
		refused++
	}
	rung.Figure(t, "R13", "as the documented user the whole life of a key works, and %d of %d forbidden commands are refused",
		refused, len(forbidden))
}

// TestMissingRight removes the rights of the documented user one after the other. Check must find
// and name the missing one.
func TestMissingRight(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	client := documentedUser(t, p)
	svc := serve(t, client)
	ctx := context.Background()
	rights := []string{
		"eval", "evalsha", "msetnx", "mset", "getrange", "set", "get", "del", "exists", "time", "pexpire", "pexpireat",
		"pexpiretime", "pttl", "hset", "hget", "hmget", "hgetall", "hdel",
	}
	results := 0
	for _, right := range rights {
		must(t, p.admin.Do(ctx, "ACL", "SETUSER", "app", "-"+right).Err())
		report, err := svc.Check(ctx)
		must(t, err)
		must(t, p.admin.Do(ctx, "ACL", "SETUSER", "app", "+"+right).Err())
		if err := report.Err(); !errors.Is(err, redisidem.ErrUnsafeServer) || !strings.Contains(err.Error(), "lacks a right") {
			t.Errorf("without %s the report's error is %v", right, err)
			continue
		}
		results++
	}
	rung.Figure(t, "R13", "%d of %d missing rights were found and reported as such", results, len(rights))
}

// denied reports whether a server refused a command because a right is missing. Inside a script the
// error text differs between versions.
func denied(err error) bool {
	if err == nil {
		return false
	}
	for _, words := range []string{"NOPERM", "can't run this command", "can't access", "No permissions", "ACL failure"} {
		if strings.Contains(err.Error(), words) {
			return true
		}
	}
	return false
}

func unreachable(t *testing.T) redisidem.StageFunc {
	return func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		t.Error("the callback ran")
		return answer("never"), nil
	}
}

// begun creates the key that cells work on.
func begun(t *testing.T, sc *redisidem.Scope) string {
	t.Helper()
	key, err := sc.InitializeRequest(context.Background(), value, request)
	must(t, err)
	return key.Value
}

// complete lets a completer make a key a dead letter, requeues it and finishes it, with every kind
// of effect.
func complete(ctx context.Context, t *testing.T, svc *redisidem.Service) {
	t.Helper()
	broken := errors.New("no answer")
	fail := true
	flow, err := redisidem.NewFlow(redisidem.FlowConfig{
		Name: "orders", Version: 1, RecoverAfter: time.Millisecond, MaxAttempts: 1,
		Stages: []redisidem.FlowStage{{Point: redisidem.Started, Work: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			if fail {
				return redisidem.Outcome{}, broken
			}
			return answer("done").WithEffects(
				effect.Set(st.ShardKey("s"), "1").Expire(time.Hour), effect.IncrBy(st.ShardKey("n"), 1),
				effect.HSet(st.ShardKey("h"), "f", "1"), effect.SAdd(st.ShardKey("m"), "1"),
				effect.ZAdd(st.ShardKey("z"), 1, "1"), effect.LPush(st.ShardKey("l"), "1"),
				effect.XAdd(st.ShardKey("x"), "f", "1"), effect.Publish("redisidem:news", "1"),
			), nil
		}}},
	})
	must(t, err)
	sc := svc.Scope("a")
	if _, err := sc.DoFlow(ctx, "flow", request, flow); !errors.Is(err, broken) {
		t.Errorf("the stage gets %v", err)
	}
	completer, err := redisidem.NewCompleter(svc, []*redisidem.Flow{flow}, nil)
	must(t, err)
	sweep := func(done func(redisidem.SweepResult) bool) {
		t.Helper()
		for began := time.Now(); time.Since(began) < patience; time.Sleep(5 * time.Millisecond) {
			swept, err := completer.Sweep(ctx)
			must(t, err)
			if done(swept) {
				return
			}
		}
		t.Fatal("the completer does not come to an end")
	}
	sweep(func(s redisidem.SweepResult) bool { return s.DeadLettered == 1 })
	fail = false
	for letter, err := range svc.DeadLetters(ctx, "orders") {
		must(t, err)
		must(t, sc.Requeue(ctx, letter))
	}
	sweep(func(s redisidem.SweepResult) bool { return s.Finished == 1 })
}
