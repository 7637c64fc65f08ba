package redisidem_test

import (
	"maps"
	"slices"
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
		key := start(t, in.svc.Scope("another type"), "key")
		record, _ := e.place(key)
		mustBe(t, raw.Del(ctx, record).Err(), nil)
		mustBe(t, raw.Set(ctx, record, "a text", 0).Err(), nil)

		var all []*redisidem.KeyInfo
		for page, err := range in.List(ctx, redisidem.Filter{}, "") {
			mustBe(t, err, nil)
			all = append(all, page.Keys...)
		}
		for _, state := range append(redisidem.KeyStates(), -1) {
			for _, flow := range []string{"", "cart", "cart/1", "cart/2"} {
				for attempts := range 6 { // and each once with an age, which all have
					for _, failure := range []string{"", errStage.Error(), "no such text"} {
						f := redisidem.Filter{Flow: flow, Attempts: attempts % 3, OlderThan: time.Duration(attempts / 3), Failure: failure}
						if state >= 0 {
							f.States = []redisidem.KeyState{state}
						}
						want := make(map[string]bool)
						for _, k := range all {
							name, _, _ := strings.Cut(k.Flow, "/")
							unreadable := k.State == redisidem.KeyUnreadable
							if (state < 0 || k.State == state) && (flow == "" || !unreadable && (flow == k.Flow || flow == name)) &&
								(attempts == 0 || !unreadable && k.Attempts >= attempts%3) &&
								(failure == "" || k.LastFailure != nil && strings.Contains(k.LastFailure.Text, failure)) {
								want[k.Scope] = true
							}
						}
						if got, want := in.scopes(t, f), slices.Sorted(maps.Keys(want)); !slices.Equal(got, want) {
							t.Errorf("%+v: %q, want %q", f, got, want)
						}
					}
				}
			}
		}
	})
}
