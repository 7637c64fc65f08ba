package redisidem_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// deadOnly lists dead letters by their indexes.
var deadOnly = redisidem.Filter{States: []redisidem.KeyState{redisidem.KeyDead}}

func TestListOfDeadLettersReadsTheirIndexes(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		in := e.inEveryState()
		want := []string{in.keys[redisidem.KeyDead].ID()}
		const many = 120
		for i := range many {
			sc, value := in.svc.Scope("many"), fmt.Sprint(i)
			_, err := sc.DoFlow(ctx, value, request, in.flow)
			mustBe(t, err, errStage)
			want = append(want, sc.ID(value))
		}
		time.Sleep(5 * time.Millisecond)
		mustSweep(t, mustCompleter(t, in.svc, in.flow), redisidem.SweepResult{Due: many + 1, DeadLettered: many + 1}) // and the due one
		want = append(want, in.svc.Scope("due").ID("key"))
		slices.Sort(want)
		for _, flow := range []string{"", "cart", "cart/1"} {
			f := deadOnly
			f.Flow = flow
			var got []string
			records, pages := 0, 0
			for cursor, first := "", true; first || cursor != ""; first = false {
				for page, err := range in.List(ctx, f, cursor) { // each page by a list of its own
					mustBe(t, err, nil)
					for _, k := range page.Keys {
						got = append(got, k.ID)
					}
					records, pages, cursor = records+page.Records, pages+1, page.Next
					break
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) || records != len(want) || pages != 2 {
				t.Errorf("flow %q: %d keys in %d records and %d pages, want each of %d once", flow, len(got), records, pages, len(want))
			}
		}
		if got := in.scopes(t, redisidem.Filter{States: deadOnly.States, Flow: "cart/2"}); len(got) > 0 {
			t.Errorf("another version has the dead letters %q", got)
		}
		if got := in.scopes(t, redisidem.Filter{States: deadOnly.States, Scope: "due"}); !slices.Equal(got, []string{"due"}) {
			t.Errorf("the dead letters of a scope are of %q", got)
		}
	})
}

func TestListOfDeadLettersWithoutTheirIndex(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		in := e.inEveryState()
		raw := e.client()
		record, _ := e.place(in.keys[redisidem.KeyDead])
		index := record[:len(record)-len(in.keys[redisidem.KeyDead].ID())] + "dead:cart"
		mustBe(t, raw.Del(ctx, index).Err(), nil)
		if got := in.scopes(t, deadOnly); len(got) > 0 {
			t.Errorf("without its index there is %q", got)
		}
		further := redisidem.Filter{States: []redisidem.KeyState{redisidem.KeyDead, redisidem.KeyUnreadable}}
		if got := in.scopes(t, further); !slices.Equal(got, []string{"dead", "unreadable"}) {
			t.Errorf("by their records there are %q", got)
		}
		for _, err := range in.Reindex(ctx, "cart", time.Hour, "", act) {
			mustBe(t, err, nil)
		}
		if got := in.scopes(t, deadOnly); !slices.Equal(got, []string{"dead"}) {
			t.Errorf("after the rebuild there is %q", got)
		}
		mustBe(t, raw.Del(ctx, index).Err(), nil)
		mustBe(t, raw.Set(ctx, index, "x", 0).Err(), nil)
		for _, err := range in.List(ctx, deadOnly, "") {
			mustBe(t, err, redisidem.ErrDamaged)
		}
		for _, cursor := range []string{"x", "0@", "dead:", "dead:0:cart:x", "dead:1024:cart:" + in.keys[redisidem.KeyDead].ID(), "dead:-1:cart:" + in.keys[redisidem.KeyDead].ID()} {
			for _, err := range in.List(ctx, deadOnly, cursor) {
				mustBeInvalid(t, err, "cursor", "dead letters")
			}
		}
	})
}
