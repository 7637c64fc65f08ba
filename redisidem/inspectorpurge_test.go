package redisidem_test

import (
	"fmt"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

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
		last := fmt.Sprintf("purge: ended, %d deleted, 0 locked", p.Deleted)
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
