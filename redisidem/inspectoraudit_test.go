package redisidem_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestAuditIsInTheOrderOfTime(t *testing.T) {
	inBubble(t, func(b *bubble) {
		svc := b.service(redisidem.Config{})
		in := redisidem.NewInspector(svc)
		var began time.Time
		for i := range 20 {
			time.Sleep(time.Minute)
			if i == 5 {
				began = time.Now()
			}
			start(b, svc.Scope("a"), fmt.Sprint(i))
			info, err := in.Get(ctx, "a", fmt.Sprint(i))
			mustBe(b, err, nil)
			mustBe(b, in.AuditRead(ctx, info, redisidem.Act{Actor: "ann", Reason: fmt.Sprint(i)}), nil)
		}
		reasons := func(from, to time.Time) (all []string) {
			entries, err := in.Audit(ctx, from, to)
			mustBe(b, err, nil)
			for _, e := range entries {
				all = append(all, e.Reason)
			}
			return all
		}
		var want []string
		for i := range 20 {
			want = append(want, fmt.Sprint(i))
		}
		if got := reasons(noTime, noTime); !slices.Equal(got, want) {
			b.Errorf("the audit is of %q", got)
		}
		if got := reasons(began, began.Add(2*time.Minute)); !slices.Equal(got, want[5:8]) {
			b.Errorf("a part of the audit is of %q, want %q", got, want[5:8])
		}
	})
}

func TestAuditIsBounded(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		svc := e.service()
		in := redisidem.NewInspector(svc)
		key := start(t, svc.Scope("a"), "k")
		info, err := in.Get(ctx, "a", "k")
		mustBe(t, err, nil)
		acts := 500
		if !e.real {
			acts = 270 // the embedded server removes single entries
		}
		for i := range acts {
			mustBe(t, in.AuditRead(ctx, info, redisidem.Act{Actor: "ann", Reason: fmt.Sprint(i)}), nil)
		}
		entries, err := in.Audit(ctx, noTime, noTime)
		mustBe(t, err, nil)
		if n := len(entries); n < 256 || n > 400 || entries[n-1].Reason != fmt.Sprint(acts-1) {
			t.Errorf("%d entries are left, the last is %+v", n, entries[n-1])
		}
		// A Redis key of another type in its place is an error.
		record, _ := e.place(key)
		stream := record[:strings.LastIndex(record, ":")] + ":audit"
		raw := e.client()
		if ttl := raw.PTTL(ctx, stream).Val(); ttl < 399*24*time.Hour {
			t.Errorf("the audit is kept for %v", ttl)
		}
		mustBe(t, raw.Del(ctx, stream).Err(), nil)
		mustBe(t, raw.Set(ctx, stream, "a text", 0).Err(), nil)
		other := start(t, svc.Scope("b"), "k")
		info2, err := in.Get(ctx, "b", "k")
		mustBe(t, err, nil)
		mustBe(t, in.AuditRead(ctx, info2, act), nil)
		entries, err = in.Audit(ctx, noTime, noTime)
		mustBe(t, err, redisidem.ErrDamaged)
		if len(entries) != 1 || entries[0].KeyID != other.ID() || !strings.Contains(err.Error(), stream) {
			t.Errorf("the audit beside a text is %+v, %v", entries, err)
		}
		err = in.Unlock(ctx, info, act)
		if err == nil {
			t.Error("an act that cannot be audited was done")
		}
		mustBe(t, raw.Del(ctx, stream).Err(), nil)
	})
}
