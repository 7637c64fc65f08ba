package main

import (
	"strings"
	"testing"
)

// TestAuditGoesOnBesideAKeyOfAnotherType has a text in place of the audit of one shard.
func TestAuditGoesOnBesideAKeyOfAnotherType(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.server.SetTime(s.now)
	command(t, s.server.Addr(), "", "keys", "delete", s.ids["interim"], "--reason=first", "--yes")
	streams := 0
	for _, name := range s.server.Keys() {
		if strings.HasSuffix(name, ":audit") {
			streams++
		}
	}
	const foreign = "redisidem:{002}:audit"
	if err := s.server.Set(foreign, "a text"); err != nil || streams != 1 || len(s.server.Keys()) < 2 {
		t.Fatalf("%v, %d streams", err, streams)
	}
	got := command(t, s.server.Addr(), "", "audit", "--since=0")
	if !strings.Contains(got, s.ids["interim"]) || !strings.Contains(got, "first") || !strings.Contains(got, foreign) || !strings.HasSuffix(got, "[exit status 1]\n") {
		t.Errorf("it prints\n%s", got)
	}
	p := startTail(t, s.server.Addr())
	p.until(t, "! all records were looked at")
	command(t, s.server.Addr(), "", "keys", "delete", s.ids["finished"], "--reason=second", "--yes")
	p.until(t, "second")
	said := 0
	for _, line := range p.said {
		if strings.Contains(line, foreign) {
			said++
		}
	}
	if said != 1 {
		t.Errorf("tail says the key %d times: %q", said, p.said)
	}
}
