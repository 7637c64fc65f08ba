package redisidem_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

// TestForgedFieldsOfAKeyHaveNoEffect passes on a key whose fields the caller has changed.
func TestForgedFieldsOfAKeyHaveNoEffect(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		for name, forge := range map[string]func(*redisidem.Key){
			"point":    func(k *redisidem.Key) { k.RecoveryPoint = "elsewhere" },
			"finished": func(k *redisidem.Key) { k.RecoveryPoint = redisidem.Finished },
			"revision": func(k *redisidem.Key) { k.Revision = 7 },
		} {
			key, err := sc.InitializeRequest(ctx, name, request)
			mustBe(t, err, nil)
			forge(key)
			key, err = sc.WorkStage(ctx, key, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				t.Errorf("%s: a stage runs at %q", name, st.Key().RecoveryPoint)
				return redisidem.Advance("two"), nil
			})
			mustBe(t, err, nil)
			if key.RecoveryPoint != redisidem.Started || key.Revision != 0 {
				t.Errorf("%s: the key returned is at %q", name, key.RecoveryPoint)
			}
			forge(key)
			_, err = sc.Update(ctx, key, redisidem.Advance("two"))
			mustBe(t, err, redisidem.ErrStale)
		}
		key, err := sc.InitializeRequest(ctx, "params", redisidem.Request{Params: "real"})
		mustBe(t, err, nil)
		key.Params, key.Path, key.Method = []byte(`"forged"`), "/forged", "FORGED"
		key, err = sc.WorkStage(ctx, key, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			if k := st.Key(); string(k.Params) != `"real"` || k.Path != "" || k.Method != "" {
				t.Errorf("a stage sees %s %s %s", k.Method, k.Path, k.Params)
			}
			return redisidem.Advance("two"), nil
		})
		mustBe(t, err, nil)
		if key.Journal[0].Stage != redisidem.Started {
			t.Errorf("the journal has %q", key.Journal[0].Stage)
		}
	})
}

// TestKeyOfAReplayCostsNoRoundTrip passes replayed keys on, from replies and from copies. A key
// that the caller changed would cost a round trip.
func TestKeyOfAReplayCostsNoRoundTrip(t *testing.T) {
	inBubble(t, func(b *bubble) {
		for name, size := range map[string]int64{"reply": 0, "copy": 1 << 20} {
			sc := b.service(redisidem.Config{CacheBytes: size}).Scope(name)
			_, err := sc.Do(ctx, "k", request, finish("done"))
			mustBe(b, err, nil)
			for range 2 {
				key, err := sc.InitializeRequest(ctx, "k", request)
				mustBe(b, err, nil)
				before := b.sent()
				_, err = sc.WorkStage(ctx, key, never(b))
				mustBe(b, err, nil)
				if n := b.sent() - before; n != 0 {
					b.Errorf("a finished key from a %s costs %d requests, want 0", name, n)
				}
			}
		}
	})
}

func TestSeedM15ReplaysAndAttemptsAreVisible(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		rec := &recorder{}
		sc := e.service(func(c *redisidem.Config) { c.Observer = rec }).Scope("a")
		_, err := sc.Do(ctx, "k", request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
			return redisidem.Outcome{}, errUpstream
		})
		mustBe(t, err, errUpstream)
		first, err := sc.Do(ctx, "k", request, finish("done"))
		mustBe(t, err, nil)
		again, err := sc.Do(ctx, "k", request, never(t))
		mustBe(t, err, nil)
		if first.Replayed() || !again.Replayed() {
			t.Errorf("replayed: first %v, again %v", first.Replayed(), again.Replayed())
		}
		if again.Attempts != 2 || len(again.Journal) != 1 || again.Journal[0].Attempt != 2 || again.Journal[0].Stage != redisidem.Started {
			t.Errorf("%d attempts, journal %+v", again.Attempts, again.Journal)
		}
		for kind, want := range map[redisidem.EventKind]int{
			redisidem.EventClaimed: 2, redisidem.EventAbandoned: 1, redisidem.EventCommitted: 1, redisidem.EventReplayed: 1,
		} {
			if got := rec.count(kind); got != want {
				t.Errorf("%d times %v, want %d", got, kind, want)
			}
		}
	})
}

// TestViewFromJSONRunsNothingOnTheSuccessor encodes a key and decodes it again. It still belongs to
// one record.
func TestViewFromJSONRunsNothingOnTheSuccessor(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		sc := e.service().Scope("a")
		text, err := json.Marshal(start(t, sc, "k"))
		mustBe(t, err, nil)
		view := new(redisidem.Key)
		mustBe(t, json.Unmarshal(text, view), nil)
		mustBe(t, sc.Delete(ctx, view), nil)
		second, err := sc.InitializeRequest(ctx, "k", redisidem.Request{Method: "POST", Path: "/another"})
		mustBe(t, err, nil)

		got, err := sc.WorkStage(ctx, view, never(t))
		mustBe(t, err, nil)
		if got.Path != "/another" || !got.CreatedAt.Equal(second.CreatedAt) {
			t.Errorf("got %+v", got)
		}
		_, err = sc.Update(ctx, view, redisidem.Advance("on"))
		mustBe(t, err, redisidem.ErrStale)
		mustBe(t, sc.Delete(ctx, view), nil) // the record that it is of is gone
		_, err = sc.Retrieve(ctx, "k")
		mustBe(t, err, nil)
	})
}
