//go:build unix

package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
)

// TestEffectOnAKeyOfTheWrongTypeWritesNothing puts the bad effect last, behind two effects that
// could be applied.
func TestEffectOnAKeyOfTheWrongTypeWritesNothing(t *testing.T) {
	t.Parallel()
	onEachSite(t, func(t *testing.T, where *site) {
		ctx, client := context.Background(), where.direct(t)
		sc := open(t, client).Scope("outbox").Wait(patience)
		var counter, text, stream string // the names of the keys
		var fences []int64
		flow, err := redisidem.NewFlow(redisidem.FlowConfig{Name: "orders", Version: 1, Stages: []redisidem.FlowStage{
			{Point: redisidem.Started, Work: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				counter, text, stream = st.ShardKey("counter"), st.ShardKey("text"), st.ShardKey("outbox")
				return redisidem.Next().WithState("early").WithEffects(effect.IncrBy(counter, 1)), nil
			}},
			{Point: "charged", Work: func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				fences = append(fences, st.Fence())
				return redisidem.Finish(redisidem.JSON(201, "late")).WithState("late").WithEffects(
					effect.IncrBy(counter, 1), effect.Set(text, "written"), effect.XAdd(stream, "key", "k"),
				), nil
			}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		// A first run finds the names of a key's neighbours, and creates a key of the wrong type
		// for the second stage.
		_, err = sc.Do(ctx, "k", request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.NothingDone(), client.SAdd(ctx, st.ShardKey("outbox"), "a set").Err()
		})
		if err != nil {
			t.Fatal(err)
		}

		_, err = sc.DoFlow(ctx, "k", request, flow)
		var refused *redisidem.EffectError
		if !errors.As(err, &refused) || refused.Index != 2 || refused.Key != stream || !errors.Is(err, redisidem.ErrEffect) {
			t.Fatalf("the error is %v", err)
		}
		if n := client.Exists(ctx, text).Val(); n != 0 {
			t.Error("an effect before the refused one was applied")
		}
		if got := client.Get(ctx, counter).Val(); got != "1" {
			t.Errorf("the counter is %q", got)
		}
		if got := client.SMembers(ctx, stream).Val(); !slices.Equal(got, []string{"a set"}) {
			t.Errorf("the key of the wrong type holds %q", got)
		}
		// The second stage has done its work, so its callback does not run again.
		for range 2 {
			key, err := sc.Retrieve(ctx, "k")
			if err != nil || !key.Finished() || key.Revision != 2 || len(key.Journal) != 2 || !key.Response.IsZero() || key.NotKept() == nil {
				t.Errorf("the record is %+v, %v", key, err)
			}
			if err := client.Del(ctx, stream).Err(); err != nil { // the cause is removed, and the key stays finished
				t.Fatal(err)
			}
			if _, err = sc.DoFlow(ctx, "k", request, flow); !errors.Is(err, redisidem.ErrNotKept) {
				t.Errorf("a retry gets %v", err)
			}
		}
		if len(fences) != 1 {
			t.Errorf("the second stage ran under the fences %v", fences)
		}
		if client.Get(ctx, counter).Val() != "1" || client.Exists(ctx, text, stream).Val() != 0 {
			t.Error("an effect of the second stage was applied")
		}
	})
}

// commandRecorder records the commands that a client sends.
type commandRecorder struct {
	mu   sync.Mutex
	sent []string
}

func (w *commandRecorder) DialHook(next redis.DialHook) redis.DialHook { return next }

func (w *commandRecorder) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		w.note(cmd)
		return next(ctx, cmd)
	}
}

func (w *commandRecorder) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			w.note(cmd)
		}
		return next(ctx, cmds)
	}
}

func (w *commandRecorder) note(cmd redis.Cmder) {
	w.mu.Lock()
	defer w.mu.Unlock()
	words := slices.Clone(cmd.Args())
	for i, word := range words {
		if text, ok := word.(*string); ok { // as the library sends texts
			words[i] = *text
		}
	}
	w.sent = append(w.sent, fmt.Sprint(words...))
}

// take returns the commands that were sent since the last call.
func (w *commandRecorder) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.sent
	w.sent = nil
	return sent
}

func TestEffectOnAnotherSlotIsRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	onEachSite(t, func(t *testing.T, where *site) {
		ctx, client, tap := context.Background(), where.direct(t), &commandRecorder{}
		client.AddHook(tap)
		// The lease is long, so that no renewal is sent during the test.
		svc, err := redisidem.New(client, &redisidem.Config{Lease: time.Minute, Timeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { shut(t, svc) })
		sc := svc.Scope("outbox")
		own, elsewhere := "", ""
		names := make(map[string]string)
		for i := range 100 { // enough keys for more than one of the 1024 shards
			_, err := sc.Do(ctx, fmt.Sprint(i), request, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				own = st.ShardKey("outbox")
				names[own] = fmt.Sprint(i)
				return redisidem.NothingDone(), nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(names) > 1 {
				break
			}
		}
		for name := range names {
			if name != own {
				elsewhere = name
			}
		}
		if own == "" || elsewhere == "" {
			t.Fatal("all keys are in one shard")
		}

		foreign := map[string]string{
			"another shard": elsewhere, "no shard": "outbox", "a record's place": strings.TrimSuffix(own, "x:outbox") + "due:orders",
		}
		for what, name := range foreign {
			outcome := redisidem.Finish(redisidem.JSON(201, "")).WithEffects(
				effect.XAdd(own, "key", "k"), effect.XAdd(name, "key", "k"))
			if _, err := sc.InitializeRequest(ctx, names[own], request); err != nil {
				t.Fatal(err)
			}
			lease, err := sc.Lock(ctx, names[own])
			if err != nil {
				t.Fatal(err)
			}
			tap.take()
			_, err = lease.Commit(ctx, outcome)
			var invalid *redisidem.InvalidError
			if !errors.As(err, &invalid) || invalid.Field != "Outcome.Effects[1]" {
				t.Errorf("%s: the error is %v", what, err)
			}
			if sent := tap.take(); len(sent) != 0 {
				t.Errorf("%s: sent %q", what, sent)
			}
			if err := lease.Abandon(ctx); err != nil {
				t.Errorf("%s: the lease did not stand: %v", what, err)
			}

			// With Do, the key is finished without the outcome's effects, since the callback has
			// done its work.
			_, err = sc.Do(ctx, names[own], request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				tap.take()
				return outcome, nil
			})
			if !errors.Is(err, redisidem.ErrInvalid) || !errors.Is(err, redisidem.ErrNotKept) {
				t.Errorf("%s: the error is %v", what, err)
			}
			sent := tap.take()
			if len(sent) == 0 || !strings.Contains(sent[len(sent)-1], "startedfinished2not_kept") {
				t.Errorf("%s: sent %q", what, sent)
			}
			key, err := sc.Retrieve(ctx, names[own])
			if err != nil || !key.Finished() || key.NotKept() == nil {
				t.Errorf("%s: the record is %+v, %v", what, key, err)
			}
			if err := sc.Delete(ctx, key); err != nil {
				t.Fatal(err)
			}
		}
		if n := client.Exists(ctx, own).Val() + client.Exists(ctx, elsewhere).Val(); n != 0 {
			t.Error("an effect was applied")
		}
	})
}
