package redisidem_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
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
		found, ends := 0, 0
		for _, entry := range entries {
			if entry.KeyID != gone.ID("") || entry.Actor != "ann" || entry.Outcome != "done" {
				t.Errorf("the audit has %+v", entry)
			}
			if strings.HasPrefix(entry.Act, "purge: at ") {
				continue
			}
			ends++
			if entry.Act == last || entry.Act == "purge: began" {
				found++
			}
		}
		if begins := ends / 2; ends != 2*begins || found != begins+1 {
			t.Errorf("the audit is %+v", entries)
		}
	})
}

// TestPurgeRecordsItsProgress is left without the knowledge of its caller, as after a kill: the
// audit alone says what was done, and where to go on.
func TestPurgeRecordsItsProgress(t *testing.T) {
	t.Parallel()
	svc, err := redisidem.OpenUnchecked("redis://"+rediscase.Server(t).Addr(), &redisidem.Config{Timeout: 5 * time.Second})
	mustBe(t, err, nil)
	t.Cleanup(func() { mustBe(t, svc.Close(ctx), nil) })
	in := redisidem.NewInspector(svc)
	const keys = 2500
	for i := range keys {
		start(t, svc.Scope("gone"), fmt.Sprint(i))
	}
	var progress []string
	var counted redisidem.Purged
	var cursor string
	for p, err := range in.Purge(ctx, "gone", "", act) {
		mustBe(t, err, nil)
		entries, err := in.Audit(ctx, noTime, noTime)
		mustBe(t, err, nil)
		last := entries[len(entries)-1]
		if n, _ := fmt.Sscanf(last.Act, "purge: at %d records, %d deleted, %d locked, %d unknown, cursor %s",
			&counted.Records, &counted.Deleted, &counted.Locked, &counted.Unknown, &cursor); n < 5 {
			continue
		}
		if counted.Records > p.Records || counted.Deleted > p.Deleted || counted.Records < p.Records-1200 || counted.Deleted < 1000 {
			t.Errorf("the audit has %+v, and the purge is at %+v", counted, p)
		}
		if progress = append(progress, last.Act); p.Records >= 2200 {
			break
		}
	}
	if progress = slices.Compact(progress); len(progress) != 2 {
		t.Errorf("the progress is %q, want two entries", progress)
	}
	var rest redisidem.Purged
	for rest, err = range in.Purge(ctx, "gone", cursor, act) {
		mustBe(t, err, nil)
	}
	for page, err := range in.List(ctx, redisidem.Filter{Scope: "gone"}, "") {
		mustBe(t, err, nil)
		if len(page.Keys) > 0 {
			t.Errorf("%d keys are left after the rest", len(page.Keys))
		}
	}
	if rest.Deleted == 0 || rest.Deleted > keys-counted.Deleted {
		t.Errorf("the rest is %+v", rest)
	}
}
