package redisidem_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// TestPreselectionLosesNoKey compares lists of filtered keys, which look at a few fields of most
// records, with the list of all keys.
func TestPreselectionLosesNoKey(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		in := e.inEveryState()
		for scope, times := range map[string]int{"failed": 1, "failed twice": 2} {
			for range times {
				_, err := in.svc.Scope(scope).Do(ctx, "key", request, fails(errStage))
				mustBe(t, err, errStage)
			}
		}
		raw := e.client()
		for scope, field := range map[string]string{"without control": "control", "without flow": "flow", "without failure": "last_failure"} {
			_, err := in.svc.Scope(scope).Do(ctx, "key", request, fails(errStage))
			mustBe(t, err, errStage)
			key, err := in.svc.Scope(scope).Retrieve(ctx, "key")
			mustBe(t, err, nil)
			record, _ := e.place(key)
			mustBe(t, raw.HSet(ctx, record, field, "damaged").Err(), nil)
		}
		for scope, age := range map[string]time.Duration{"of the future": -time.Hour, "old": time.Hour} {
			_, err := in.svc.Scope(scope).Do(ctx, "key", request, fails(errStage))
			mustBe(t, err, errStage)
			key, err := in.svc.Scope(scope).Retrieve(ctx, "key")
			mustBe(t, err, nil)
			record, _ := e.place(key)
			words := strings.Fields(raw.HGet(ctx, record, "control").Val())
			words[8] = strconv.FormatInt(key.CreatedAt.Add(-age).UnixMicro(), 10)
			mustBe(t, raw.HSet(ctx, record, "control", strings.Join(words, " ")).Err(), nil)
		}
		key := start(t, in.svc.Scope("another type"), "key")
		record, _ := e.place(key)
		mustBe(t, raw.Del(ctx, record).Err(), nil)
		mustBe(t, raw.Set(ctx, record, "a text", 0).Err(), nil)

		var all []*redisidem.KeyInfo
		for page, err := range in.List(ctx, redisidem.Filter{}, "") {
			mustBe(t, err, nil)
			all = append(all, page.Keys...)
		}
		random := rand.New(rand.NewPCG(1, 2))
		for range 300 {
			f := redisidem.Filter{
				Scope:     pick(random, "", "", "failed", "dead", "of the future", "without control"),
				Flow:      pick(random, "", "", "cart", "cart/1", "cart/2"),
				Attempts:  pick(random, 0, 0, 1, 2, 3),
				OlderThan: pick(random, 0, 0, 1, 59*time.Minute, 61*time.Minute),
				Failure:   pick(random, "", "", errStage.Error(), "no such text"),
			}
			for _, state := range redisidem.KeyStates() {
				if random.IntN(6) == 0 {
					f.States = append(f.States, state)
				}
			}
			want := make(map[string]bool)
			for _, k := range all {
				if inList(&f, k) {
					want[k.Scope] = true
				}
			}
			if got, want := in.scopes(t, f), slices.Sorted(maps.Keys(want)); !slices.Equal(got, want) {
				t.Errorf("%+v: %q, want %q", f, got, want)
			}
		}
	})
}

func pick[T any](random *rand.Rand, values ...T) T { return values[random.IntN(len(values))] }

// inList reports whether a key is in a list, as the documentation of [redisidem.Filter] says.
func inList(f *redisidem.Filter, k *redisidem.KeyInfo) bool {
	name, _, _ := strings.Cut(k.Flow, "/")
	readable := k.State != redisidem.KeyUnreadable
	return (f.States == nil || slices.Contains(f.States, k.State)) &&
		(f.Scope == "" || f.Scope == k.Scope) &&
		(f.Flow == "" || readable && (f.Flow == k.Flow || f.Flow == name)) &&
		(f.Attempts == 0 || readable && k.Attempts >= f.Attempts) &&
		(f.OlderThan == 0 || readable && k.At.Sub(k.CreatedAt) >= f.OlderThan) &&
		(f.Failure == "" || k.LastFailure != nil && strings.Contains(k.LastFailure.Text, f.Failure))
}
