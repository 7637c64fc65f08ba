package redisidem_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// TestOneFaultOnTheWireChangesNothing runs each operation once as ever and once with a fault that strikes its script, and
// compares what the caller is told and what Redis holds then.
func TestOneFaultOnTheWireChangesNothing(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	// Each operation prepares its key, and then calls arm just before what is to be struck.
	operations := []struct {
		name   string
		script *lua.Script
		do     func(sc *redisidem.Scope, value string, arm func()) (any, error)
	}{
		{"create", lua.Create, func(sc *redisidem.Scope, value string, arm func()) (any, error) {
			arm()
			key, err := sc.InitializeRequest(ctx, value, request)
			return keyState(key), err
		}},
		{"claim", lua.Claim, func(sc *redisidem.Scope, value string, arm func()) (any, error) {
			arm()
			key, err := sc.Do(ctx, value, request, finish("done"))
			return keyState(key), err
		}},
		{"commit", lua.Commit, func(sc *redisidem.Scope, value string, arm func()) (any, error) {
			key, err := sc.Do(ctx, value, request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				arm()
				return redisidem.Finish(redisidem.JSON(200, "done")), nil
			})
			return keyState(key), err
		}},
		{"commit kept", lua.Commit, func(sc *redisidem.Scope, value string, arm func()) (any, error) {
			lease := lockedKey(t, sc, value)
			arm()
			key, held, err := lease.CommitKeep(ctx, redisidem.Advance("next"))
			mustBe(t, lease.Abandon(ctx), nil)
			return fmt.Sprint(keyState(key), held), err
		}},
		{"renew", lua.Renew, func(sc *redisidem.Scope, value string, arm func()) (any, error) {
			lease := lockedKey(t, sc, value)
			arm()
			err := lease.Renew(ctx)
			mustBe(t, lease.Abandon(ctx), nil)
			return nil, err
		}},
		{"abandon", lua.Abandon, func(sc *redisidem.Scope, value string, arm func()) (any, error) {
			lease := lockedKey(t, sc, value)
			arm()
			return nil, lease.Abandon(ctx)
		}},
		{"update", lua.Update, func(sc *redisidem.Scope, value string, arm func()) (any, error) {
			key := start(t, sc, value)
			arm()
			key, err := sc.Update(ctx, key, redisidem.Advance("next"))
			return keyState(key), err
		}},
		{"delete", lua.Delete, func(sc *redisidem.Scope, value string, arm func()) (any, error) {
			key := start(t, sc, value)
			arm()
			return nil, sc.Delete(ctx, key)
		}},
		{"unlock", lua.Unlock, func(sc *redisidem.Scope, value string, arm func()) (any, error) {
			lease := lockedKey(t, sc, value)
			arm()
			err := sc.Unlock(ctx, value)
			mustBe(t, lease.Abandon(ctx), nil)
			return nil, err
		}},
	}
	for _, auto := range []bool{false, true} {
		for _, fault := range []redistest.Fault{
			redistest.LoseRequest, redistest.LoseReply, redistest.MuteReply, redistest.Duplicate,
		} {
			for _, op := range operations {
				t.Run(fmt.Sprintf("%v/%s/auto=%t", fault, op.name, auto), func(t *testing.T) {
					t.Parallel()
					proxy := rediscase.Proxy(t, server.Addr())
					e := &env{t: t, auto: auto, namespace: freshNamespace(), client: func() redis.UniversalClient {
						opt := options(proxy.Addr(), 3)
						opt.MaxRetries, opt.ReadTimeout = -1, 200*time.Millisecond
						client := redis.NewClient(opt)
						t.Cleanup(func() { _ = client.Close() })
						return client
					}}
					sc := e.service().Scope("a")
					client := e.client().(*redis.Client)
					e.load(client)

					want, wantErr := op.do(sc, "calm", func() {})
					var struck <-chan struct{}
					got, gotErr := op.do(sc, "struck", func() { struck = proxy.Once(fault, op.script.SHA) })
					select {
					case <-struck:
					case <-time.After(5 * time.Second):
						t.Fatal("the fault did not strike")
					}
					if fmt.Sprint(got, gotErr) != fmt.Sprint(want, wantErr) || wantErr != nil {
						t.Errorf("the caller got %v, %v; without the fault %v, %v", got, gotErr, want, wantErr)
					}
					calm, shaken := recordOf(e, client, "calm"), recordOf(e, client, "struck")
					if !maps.Equal(calm, shaken) {
						t.Errorf("Redis holds %v; without the fault %v", shaken, calm)
					}
					e.mustBeTidy(client)
				})
			}
		}
	}
}

func lockedKey(t *testing.T, sc *redisidem.Scope, value string) *redisidem.Lease {
	t.Helper()
	start(t, sc, value)
	lease, err := sc.Lock(ctx, value)
	mustBe(t, err, nil)
	return lease
}

// keyState is what a key tells, without what differs from key to key.
func keyState(key *redisidem.Key) string {
	if key == nil {
		return "none"
	}
	body := ""
	if key.Response != nil {
		body = string(key.Response.Body)
	}
	return fmt.Sprint(key.RecoveryPoint, key.Revision, key.Attempts, key.Replayed(), body)
}

// recordOf reads a record, without what differs from key to key.
func recordOf(e *env, client *redis.Client, value string) map[string]string {
	e.t.Helper()
	for _, k := range e.keys(client) {
		if strings.HasSuffix(k, ":lock") {
			continue
		}
		record := client.HGetAll(ctx, k).Val()
		if record["idempotency_key"] != value {
			continue
		}
		control := readControl(client, k)
		for _, word := range []int{controlToken, controlSpent} {
			if control[word] != "-" {
				control[word] = "set"
			}
		}
		control[controlFence] = ""
		record["control"] = strings.Join(control, " ")
		for _, field := range []string{"idempotency_key", "created_at", "locked_at"} {
			delete(record, field)
		}
		for field := range record {
			if strings.HasPrefix(field, "j:") {
				words := strings.SplitN(record[field], " ", 5)
				record[field] = words[2] + " " + words[4]
			}
		}
		return record
	}
	return nil
}
