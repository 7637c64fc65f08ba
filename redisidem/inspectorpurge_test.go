package redisidem_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

// TestPurgeDeletesDamagedRecords has records that cannot be read: of the scope, of another one, and
// one whose scope is damaged too.
func TestPurgeDeletesDamagedRecords(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		svc, raw := e.service(), e.client()
		in := &inspected{Inspector: redisidem.NewInspector(svc), svc: svc}
		damage := func(scope, value, field string) {
			t.Helper()
			record, _ := e.place(start(t, svc.Scope(scope), value))
			mustBe(t, raw.HSet(ctx, record, field, "?").Err(), nil)
		}
		damage("gone", "damaged", "control")
		damage("kept", "damaged", "control")
		damage("gone", "unknown", "request")
		start(t, svc.Scope("gone"), "whole")
		mustBe(t, svc.Scope("gone").Delete(ctx, start(t, svc.Scope("gone"), "deleted")), nil)
		var p redisidem.Purged
		var err error
		for p, err = range in.Purge(ctx, "gone", "", act) {
			mustBe(t, err, nil)
		}
		if p.Deleted != 2 || p.Unknown != 1 || p.Locked != 0 {
			t.Errorf("purged %+v", p)
		}
		if got := in.scopes(t, redisidem.Filter{}); !slices.Equal(got, []string{"", "kept"}) {
			t.Errorf("the scopes left are %q", got)
		}
		if got := in.scopes(t, redisidem.Filter{Scope: "kept"}); !slices.Equal(got, []string{"kept"}) {
			t.Errorf("the scopes left are %q", got)
		}
	})
}

func TestPurgeDeletesAScope(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		svc := e.service()
		in := &inspected{Inspector: redisidem.NewInspector(svc), svc: svc}
		gone, kept := svc.Scope("gone"), svc.Scope("kept")
		keys := e.many(1200)
		for i := range keys {
			start(t, gone, fmt.Sprint(i))
			if i%10 == 0 {
				start(t, kept, fmt.Sprint(i))
			}
		}
		lease, err := gone.Lock(ctx, "0")
		mustBe(t, err, nil)
		// It is left and continued after the first step.
		var total redisidem.Purged
		for calls := 0; ; calls++ {
			var p redisidem.Purged
			for p, err = range in.Purge(ctx, "gone", total.Next, act) {
				mustBe(t, err, nil)
				if calls == 0 {
					break
				}
			}
			total.Deleted, total.Locked, total.Next = total.Deleted+p.Deleted, total.Locked+p.Locked, p.Next
			if p.Next == "" {
				break
			}
		}
		mustBe(t, lease.Abandon(ctx), nil)
		if total.Deleted != keys-1 || total.Locked != 1 {
			t.Errorf("purged %+v", total)
		}
		var p redisidem.Purged
		for p, err = range in.Purge(ctx, "gone", "", act) {
			mustBe(t, err, nil)
		}
		if p.Deleted != 1 || p.Locked != 0 || p.Records < keys/10 {
			t.Errorf("the second purge: %+v", p)
		}
		if got := in.scopes(t, redisidem.Filter{}); len(got) != 1 || got[0] != "kept" {
			t.Errorf("the scopes left are %q", got)
		}
		last := fmt.Sprintf("purge: ended, %d deleted, 0 locked, 0 unknown", p.Deleted)
		entries, err := in.Audit(ctx, noTime, noTime)
		mustBe(t, err, nil)
		found := 0
		for _, entry := range entries {
			if entry.KeyID != gone.ID("") || entry.Actor != "ann" || entry.Outcome != "done" {
				t.Errorf("the audit has %+v", entry)
			}
			if entry.Act == last || entry.Act == "purge: began" {
				found++
			}
		}
		if begins := len(entries) / 2; len(entries) != 2*begins || found != begins+1 {
			t.Errorf("the audit is %+v", entries)
		}
	})
}
