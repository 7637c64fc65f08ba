package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
)

// stageOf returns the stage that the work of a key receives, without doing any work.
func stageOf(t testing.TB, sc *redisidem.Scope, value string) (st *redisidem.Stage) {
	t.Helper()
	_, err := sc.Do(ctx, value, request, func(_ context.Context, s *redisidem.Stage) (redisidem.Outcome, error) {
		st = s
		return redisidem.NothingDone(), nil
	})
	mustBe(t, err, nil)
	return st
}

func TestEffectsAreAppliedWithTheirCommit(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, raw := e.service().Scope("a"), e.client()
		channel := e.namespace + ":news"
		sub := raw.Subscribe(ctx, channel)
		defer func() { _ = sub.Close() }()
		_, err := sub.Receive(ctx)
		mustBe(t, err, nil)

		st := stageOf(t, sc, "k")
		k := func(name string) string { return st.ShardKey(name) }
		_, err = sc.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Finish(redisidem.JSON(200, "done")).WithEffects(
				effect.Set(k("set"), "a\x00\xff"),
				effect.Set(k("lapsing"), "b").Expire(time.Hour),
				effect.IncrBy(k("count"), -7),
				effect.IncrBy(k("count"), 2),
				effect.HSet(k("hash"), "f", "1", "g", "2"),
				effect.SAdd(k("members"), "x", "y"),
			).WithEffects(
				effect.ZAdd(k("scores"), 1.5, "m"),
				effect.LPush(k("list"), "1", "2"),
				effect.XAdd(k("outbox"), "event", "ordered", "cart", "1").MaxLen(1000).Expire(time.Hour),
				effect.Publish(channel, "ordered"),
			), nil
		})
		mustBe(t, err, nil)
		got := []any{
			raw.Get(ctx, k("set")).Val(), raw.TTL(ctx, k("set")).Val(), raw.Get(ctx, k("count")).Val(),
			raw.HGetAll(ctx, k("hash")).Val(), raw.SIsMember(ctx, k("members"), "y").Val(), raw.ZScore(ctx, k("scores"), "m").Val(),
			raw.LRange(ctx, k("list"), 0, -1).Val(), raw.XLen(ctx, k("outbox")).Val(),
			raw.XRange(ctx, k("outbox"), "-", "+").Val()[0].Values,
		}
		want := []any{
			"a\x00\xff", time.Duration(-1), "-5",
			map[string]string{"f": "1", "g": "2"},
			true, 1.5,
			[]string{"2", "1"},
			int64(1),
			map[string]any{"event": "ordered", "cart": "1"},
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("the effects are\n%v, want\n%v", got, want)
		}
		for _, name := range []string{"lapsing", "outbox"} {
			if ttl := raw.TTL(ctx, k(name)).Val(); ttl <= 59*time.Minute || ttl > time.Hour {
				t.Errorf("%s lapses in %v", name, ttl)
			}
		}
		message, err := sub.ReceiveTimeout(ctx, 10*time.Second)
		mustBe(t, err, nil)
		if m, ok := message.(*redis.Message); !ok || m.Payload != "ordered" {
			t.Errorf("received %v", message)
		}

		// A replay applies nothing.
		_, err = sc.Do(ctx, "k", request, never(t))
		mustBe(t, err, nil)
		if n := raw.Get(ctx, k("count")).Val(); n != "-5" {
			t.Errorf("the replay counted: %s, want %q", n, "-5")
		}
	})
}

func TestFailedEffectStoresNothingOfItsOutcome(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc, raw := e.service().Scope("a"), e.client()
		st := stageOf(t, sc, "k")
		k := st.ShardKey("k")
		number := st.ShardKey("number")
		for _, c := range []struct {
			name   string
			effect effect.Effect
			has    func() error
			words  string
		}{
			{"XAdd", effect.XAdd(k, "f", "v"), func() error { return raw.LPush(ctx, k, "v").Err() }, "list, not a stream"},
			{"Set", effect.Set(k, "v"), func() error { return raw.SAdd(ctx, k, "v").Err() }, "set, not a string"},
			{"HSet", effect.HSet(k, "f", "v"), func() error { return raw.Set(ctx, k, "v", 0).Err() }, "string, not a hash"},
			{"SAdd", effect.SAdd(k, "v"), func() error { return raw.Set(ctx, k, "v", 0).Err() }, "string, not a set"},
			{"ZAdd", effect.ZAdd(k, 1, "v"), func() error { return raw.Set(ctx, k, "v", 0).Err() }, "string, not a zset"},
			{"LPush", effect.LPush(k, "v"), func() error { return raw.Set(ctx, k, "v", 0).Err() }, "string, not a list"},
			{"IncrBy", effect.IncrBy(k, 1), func() error { return raw.HSet(ctx, k, "f", "v").Err() }, "hash, not a string"},
			{"IncrBy of text", effect.IncrBy(k, 1), func() error { return raw.Set(ctx, k, "1.5", 0).Err() }, "no whole number"},
			{"IncrBy of 007", effect.IncrBy(k, 1), func() error { return raw.Set(ctx, k, "007", 0).Err() }, "no whole number"},
			{"IncrBy of -0", effect.IncrBy(k, 1), func() error { return raw.Set(ctx, k, "-0", 0).Err() }, "no whole number"},
			{"IncrBy near the end", effect.IncrBy(k, 1), func() error { return raw.Set(ctx, k, "9223372036854775807", 0).Err() }, "no whole number"},
		} {
			mustBe(t, raw.Del(ctx, k, number).Err(), nil)
			mustBe(t, c.has(), nil)
			before := raw.Dump(ctx, k).Val()
			for _, run := range []func() (*redisidem.Key, error){
				func() (*redisidem.Key, error) {
					return sc.Do(ctx, "k", request, outcome(redisidem.Finish(redisidem.JSON(200, "done")).WithEffects(effect.IncrBy(number, 1), c.effect)))
				},
				func() (*redisidem.Key, error) { // a commit that keeps the lease
					return sc.DoFlow(ctx, "k", request, mustFlow(t, cart(func(cfg *redisidem.FlowConfig) {
						cfg.Stages[0].Work = outcome(redisidem.Next().WithEffects(effect.IncrBy(number, 1), c.effect))
					})))
				},
			} {
				key, err := run()
				var refused *redisidem.EffectError
				if !errors.As(err, &refused) || !errors.Is(err, redisidem.ErrEffect) || refused.Index != 1 || refused.Key != k ||
					!strings.Contains(refused.Reason, c.words) {
					t.Fatalf("%s: error is %v", c.name, err)
				}
				mustBe(t, err, redisidem.ErrNotKept)
				if !key.Finished() || !key.Response.IsZero() || raw.Exists(ctx, number).Val() != 0 || raw.Dump(ctx, k).Val() != before {
					t.Errorf("%s: something of the outcome was written: %+v", c.name, key)
				}
				mustBe(t, sc.Delete(ctx, key), nil)
			}
		}
		mustBe(t, raw.Del(ctx, k).Err(), nil)
		key, err := sc.DoFlow(ctx, "k", request, mustFlow(t, cart()))
		mustBe(t, err, nil)
		if !key.Finished() {
			t.Errorf("the key is %+v", key)
		}
	})
}

func TestInvalidEffectsAreRefusedBeforeSending(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{MaxValueBytes: 5000}).Scope("a")
		st := stageOf(b, sc, "k")
		k := st.ShardKey("k")
		effects := func(n int) (list []effect.Effect) {
			for i := range n {
				list = append(list, effect.Set(st.ShardKey(fmt.Sprint(i)), ""))
			}
			return list
		}
		if !strings.HasSuffix(k, "}:x:k") || k == stageOf(b, sc, "another shard").ShardKey("k") {
			b.Errorf("the key is %q", k)
		}
		record := strings.TrimSuffix(k, "x:k") + st.Key().ID()
		_, err := sc.Do(ctx, "first", request, outcome(redisidem.Finish(redisidem.JSON(200, "done")))) // which loads the commit's script
		mustBe(b, err, nil)
		for _, c := range []struct {
			effects []effect.Effect
			field   string
			words   []string
		}{
			{[]effect.Effect{{}}, "Outcome.Effects[0]", []string{"made by"}},
			{[]effect.Effect{effect.Set("orders", "1")}, "Outcome.Effects[0]", []string{`"orders"`, "shard", "ShardKey"}},
			{[]effect.Effect{effect.Set(k, "1"), effect.Set(strings.Replace(k, "{", "{0", 1), "1")}, "Outcome.Effects[1]", []string{"shard"}},
			{[]effect.Effect{effect.HSet(record, "recovery_point", "finished")}, "Outcome.Effects[0]", []string{"shard"}},
			{[]effect.Effect{effect.Set(k, "1"), effect.IncrBy(k, 1)}, "Outcome.Effects[1]", []string{"SET"}},
			{[]effect.Effect{effect.HSet(k)}, "Outcome.Effects[0]", []string{"pairs"}},
			{[]effect.Effect{effect.HSet(k, "f")}, "Outcome.Effects[0]", []string{"pairs"}},
			{[]effect.Effect{effect.XAdd(k, "f")}, "Outcome.Effects[0]", []string{"pairs"}},
			{[]effect.Effect{effect.SAdd(k)}, "Outcome.Effects[0]", []string{"at least one"}},
			{[]effect.Effect{effect.LPush(k)}, "Outcome.Effects[0]", []string{"at least one"}},
			{[]effect.Effect{effect.ZAdd(k, math.NaN(), "m")}, "Outcome.Effects[0]", []string{"NaN"}},
			{[]effect.Effect{effect.ZAdd(k, math.Inf(1), "m")}, "Outcome.Effects[0]", []string{"Inf"}},
			{[]effect.Effect{effect.IncrBy(k, math.MinInt64)}, "Outcome.Effects[0]", []string{"15 digits"}},
			{[]effect.Effect{effect.Set(k, "1").Expire(0)}, "Outcome.Effects[0]", []string{"1ms"}},
			{[]effect.Effect{effect.Publish("news", "1").Expire(time.Hour)}, "Outcome.Effects[0]", []string{"expire"}},
			{[]effect.Effect{effect.Set(k, "1").MaxLen(1)}, "Outcome.Effects[0]", []string{"XAdd"}},
			{[]effect.Effect{effect.XAdd(k, "f", "v").MaxLen(0)}, "Outcome.Effects[0]", []string{"at least 1"}},
			{[]effect.Effect{effect.SAdd(k, make([]string, 1001)...)}, "Outcome.Effects[0]", []string{"1000"}},
			{effects(65), "Outcome.Effects", []string{"64"}},
			{[]effect.Effect{effect.Set(k, strings.Repeat("x", 5001))}, "Outcome.Effects", []string{"5000"}},
		} {
			before := b.sent()
			key, err := sc.Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				before = b.sent()
				return redisidem.Finish(redisidem.JSON(200, "done")).WithEffects(c.effects...), nil
			})
			mustBeInvalid(b, err, c.field, c.words...)
			if !key.Finished() || !key.Response.IsZero() || b.sent()-before != 1 { // which says that the result is not kept
				b.Errorf("%v: %d requests, %+v", err, b.sent()-before, key)
			}
			mustBe(b, sc.Delete(ctx, key), nil)
		}
		key, err := sc.InitializeRequest(ctx, "k", request)
		mustBe(b, err, nil)
		_, err = sc.Update(ctx, key, redisidem.Advance("on").WithEffects(effect.Set(k, "1")))
		mustBeInvalid(b, err, "Outcome.Effects", "update")
		_, err = sc.Do(ctx, "k", request, outcome(redisidem.Finish(redisidem.JSON(200, "done")).WithEffects(effects(64)...)))
		mustBe(b, err, nil)
		if got := b.server.Keys(); !slices.ContainsFunc(got, func(k string) bool { return strings.HasSuffix(k, ":x:63") }) {
			b.Errorf("the keys are %q", got)
		}
	})
}

// TestRepeatedCommitDoesNotRepeatItsEffects loses the replies to commits, which the library
// repeats.
func TestRepeatedCommitDoesNotRepeatItsEffects(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		var count string
		_, err := sc.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			count = st.ShardKey("count")
			b.mute()
			return redisidem.Finish(redisidem.JSON(200, "done")).WithEffects(effect.IncrBy(count, 1)), nil
		})
		mustBe(b, err, redisidem.ErrOutcomeUnknown)
		time.Sleep(5 * time.Second)
		b.thaw()
		time.Sleep(5 * time.Second)
		_, err = sc.Do(ctx, "k", request, never(b))
		mustBe(b, err, nil)
		if n, _ := b.server.Get(count); n != "1" {
			b.Errorf("counted %s times, want %q", n, "1")
		}
	})
}

// TestMissingRightStoresNothingOrAll checks that a missing right does not separate a commit from
// its effects.
func TestMissingRightStoresNothingOrAll(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	admin := server.Client()
	t.Cleanup(func() { _ = admin.Close() })
	for _, right := range []string{"set", "pexpire", "zadd"} {
		t.Run(right, func(t *testing.T) {
			allow := func(rules ...any) {
				t.Helper()
				mustBe(t, admin.Do(ctx, append([]any{"ACL", "SETUSER", right}, rules...)...).Err(), nil)
			}
			allow("on", ">s3cret", "~*", "&*", "+@all")
			opt := options(server.Addr(), 3)
			opt.Username, opt.Password = right, "s3cret"
			sc := serviceOn(t, opt, redisidem.Config{Timeout: 5 * time.Second, CommitRetry: -1}).Scope(right)
			var counter string
			flow := mustFlow(t, cart(func(cfg *redisidem.FlowConfig) {
				cfg.RecoverAfter = time.Minute
				cfg.Stages[0].Work = func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
					allow("-" + right)
					counter = st.ShardKey("counter")
					return redisidem.Next().WithEffects(effect.IncrBy(counter, 1)), nil
				}
			}))
			_, err := sc.DoFlow(ctx, "k", request, flow)
			mustBe(t, err, redisidem.ErrNotPermitted)
			allow("+" + right)
			key, err := sc.Retrieve(ctx, "k")
			mustBe(t, err, nil)
			if count, _ := admin.Get(ctx, counter).Int64(); count != key.Revision {
				t.Errorf("%d commits have %d effects, want %v", key.Revision, count, key.Revision)
			}
		})
	}
}
