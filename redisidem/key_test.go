package redisidem_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

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

func TestInvalidInputChangesNothing(t *testing.T) {
	onEveryServer(t, func(t *testing.T, e *env) {
		svc := e.service()
		sc, raw := svc.Scope("a"), e.client()
		key := start(t, sc, "k")
		long := strings.Repeat("x", 256)
		big := strings.Repeat("x", 1<<20+1)

		type operation struct {
			name string
			run  func(sc *redisidem.Scope, value string) error
		}
		byValue := []operation{
			{"Do", func(sc *redisidem.Scope, value string) error {
				_, err := sc.Do(ctx, value, request, never(t))
				return err
			}},
			{"Do[T]", func(sc *redisidem.Scope, value string) error {
				_, _, err := redisidem.Do(ctx, sc, value, request, func(context.Context, *redisidem.Stage) (int, error) {
					t.Error("the callback ran")
					return 0, nil
				})
				return err
			}},
			{"Lock", func(sc *redisidem.Scope, value string) error { _, err := sc.Lock(ctx, value); return err }},
			{"Retrieve", func(sc *redisidem.Scope, value string) error { _, err := sc.Retrieve(ctx, value); return err }},
			{"Unlock", func(sc *redisidem.Scope, value string) error { return sc.Unlock(ctx, value) }},
			{"Update", func(sc *redisidem.Scope, value string) error {
				_, err := sc.Update(ctx, &redisidem.Key{Scope: sc.Name(), Value: value}, redisidem.Advance("x"))
				return err
			}},
			{"Delete", func(sc *redisidem.Scope, value string) error {
				return sc.Delete(ctx, &redisidem.Key{Scope: sc.Name(), Value: value})
			}},
			{"WorkStage", func(sc *redisidem.Scope, value string) error {
				_, err := sc.WorkStage(ctx, &redisidem.Key{Scope: sc.Name(), Value: value}, never(t))
				return err
			}},
			{"InitializeRequest", func(sc *redisidem.Scope, value string) error {
				_, err := sc.InitializeRequest(ctx, value, request)
				return err
			}},
		}
		e.mustNotChange(raw, "keys and scopes", func() {
			for _, op := range byValue {
				mustBeInvalid(t, op.run(sc, long), "key", "256", "255")
				mustBeInvalid(t, op.run(svc.Scope(""), "k"), "scope", "empty")
				mustBeInvalid(t, op.run(svc.Scope(long), "k"), "scope", "256", "255")
				if op.name != "InitializeRequest" { // where an empty value asks for a fresh key
					mustBeInvalid(t, op.run(sc, ""), "key", "empty")
				}
			}
			_, err := svc.Scope("").Create(ctx, request)
			mustBeInvalid(t, err, "scope", "empty")
		})

		e.mustNotChange(raw, "requests", func() {
			for _, c := range []struct {
				field, word string
				request     redisidem.Request
			}{
				{"Request.Params", "chan", redisidem.Request{Params: make(chan int)}},
				{"Request.Params", "1048576", redisidem.Request{Params: []byte(big)}},
				{"Request.Method", "1048576", redisidem.Request{Method: big}},
				{"Request.Path", "1048576", redisidem.Request{Path: big}},
			} {
				_, err := sc.InitializeRequest(ctx, "new", c.request)
				mustBeInvalid(t, err, c.field, c.word)
				_, err = sc.Create(ctx, c.request)
				mustBeInvalid(t, err, c.field, c.word)
				_, err = sc.Do(ctx, "new", c.request, never(t))
				mustBeInvalid(t, err, c.field, c.word)
			}
		})

		e.mustNotChange(raw, "nil", func() {
			_, err := sc.Do(ctx, "k", request, nil)
			mustBeInvalid(t, err, "work", "nil")
			_, _, err = redisidem.Do[int](ctx, sc, "k", request, nil)
			mustBeInvalid(t, err, "work", "nil")
			_, err = sc.WorkStage(ctx, key, nil)
			mustBeInvalid(t, err, "work", "nil")
			_, err = sc.WorkStage(ctx, nil, never(t))
			mustBeInvalid(t, err, "key", "nil")
			_, err = sc.Update(ctx, nil, redisidem.Advance("x"))
			mustBeInvalid(t, err, "key", "nil")
			mustBeInvalid(t, sc.Delete(ctx, nil), "key", "nil")
		})

		e.mustNotChange(raw, "another scope's key", func() {
			other := svc.Scope("b")
			_, err := other.WorkStage(ctx, key, never(t))
			mustBeInvalid(t, err, "key", "scope")
			_, err = other.Update(ctx, key, redisidem.Advance("x"))
			mustBeInvalid(t, err, "key", "scope")
			mustBeInvalid(t, other.Delete(ctx, key), "key", "scope")
		})
	})
}

// TestNoKeyReachesTheRecordOfAnother runs work for many pairs of scope and key that look alike when
// they are joined carelessly, and then asks for each answer.
func TestNoKeyReachesTheRecordOfAnother(t *testing.T) {
	onTwoServers(t, func(t *testing.T, e *env) {
		svc, raw := e.service(), e.client()
		parts := []string{
			"a", "b:c", "a:b", "c", "A", "a ", "{a}", "}{", "a\x00", "\x00a", "a\nb", "a\r\nb", "\xff", "\xfe\xff",
			"e\u0301", "\u00e9", ":lock", "*", strings.Repeat("a", 255),
		}
		answer := func(scope, value string) string { return fmt.Sprintf("%q of %q", value, scope) }
		for _, scope := range parts {
			for _, value := range parts {
				want := answer(scope, value)
				key, err := svc.Scope(scope).Do(ctx, value, request, finish(want))
				if err != nil || key.Replayed() || key.Scope != scope || key.Value != value {
					t.Fatalf("%s: %+v, %v", want, key, err)
				}
			}
		}
		records := e.keys(raw)
		slices.Sort(records)
		if n := len(slices.Compact(records)); n != len(parts)*len(parts) {
			t.Errorf("%d pairs have %d records", len(parts)*len(parts), n)
		}
		ids := make(map[string]bool)
		for _, scope := range parts {
			for _, value := range parts {
				want := answer(scope, value)
				got, replayed, err := redisidem.Do(ctx, svc.Scope(scope), value, request,
					func(context.Context, *redisidem.Stage) (string, error) { return "", errors.New("it ran again") })
				if err != nil || !replayed || got != want {
					t.Errorf("%s has the answer %q, %v", want, got, err)
				}
				ids[svc.Scope(scope).ID(value)] = true
			}
		}
		if len(ids) != len(parts)*len(parts) {
			t.Errorf("%d pairs have %d IDs", len(parts)*len(parts), len(ids))
		}
	})
}

func TestIDIsTheKeysName(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		key := start(b, svc.Scope("a"), "k")
		if got := svc.Scope("a").ID("k"); got != key.ID() || got == svc.Scope("b").ID("k") {
			b.Errorf("the key's name is %q, and %q", key.ID(), got)
		}
	})
}

// TestS3_KeysCannotRunTogether checks how the name of a record is made of its parts.
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
