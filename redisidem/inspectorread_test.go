package redisidem_test

import (
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

func TestAuditReadIsInTheAudit(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		in := e.inEveryState()
		for state, key := range in.keys {
			info := in.mustFind(t, key)
			mustBe(t, in.AuditRead(ctx, info, act), nil)
			entries, err := in.Audit(ctx, noTime, noTime)
			mustBe(t, err, nil)
			last := entries[len(entries)-1]
			if last.Act != "read" || last.KeyID != key.ID() || last.Actor != act.Actor || last.Reason != act.Reason || last.Outcome != "done" {
				t.Errorf("%s: the audit ends with %+v", state, last)
			}
			if again := in.mustFind(t, key); again.State != state || again.Revision != info.Revision {
				t.Errorf("%s became %+v", state, again)
			}
		}
	})
}

func TestAuditReadRefusesBadInput(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		in := redisidem.NewInspector(e.service())
		mustBe(t, in.AuditRead(ctx, nil, act), redisidem.ErrInvalid)
		mustBe(t, in.AuditRead(ctx, &redisidem.KeyInfo{}, act), redisidem.ErrInvalid)
		key := start(t, e.service().Scope("a"), "k")
		info, err := in.Find(ctx, key.ID())
		mustBe(t, err, nil)
		mustBeInvalid(t, in.AuditRead(ctx, info, redisidem.Act{Reason: "why"}), "Act.Actor", "empty")
		mustBeInvalid(t, in.AuditRead(ctx, info, redisidem.Act{Actor: "ann", Reason: strings.Repeat("r", 513)}), "Act.Reason", "512")
		entries, err := in.Audit(ctx, noTime, noTime)
		mustBe(t, err, nil)
		if len(entries) != 0 {
			t.Errorf("the audit has %+v", entries)
		}
	})
}

// mustFind returns a key by its ID.
func (in *inspected) mustFind(t testing.TB, key *redisidem.Key) *redisidem.KeyInfo {
	t.Helper()
	info, err := in.Find(ctx, key.ID())
	mustBe(t, err, nil)
	return info
}
