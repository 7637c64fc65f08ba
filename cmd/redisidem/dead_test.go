package main

import (
	"strings"
	"testing"
)

// TestDeadListSaysTheCause looks for the error that used up the attempts.
func TestDeadListSaysTheCause(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.server.SetTime(s.now)
	for args, want := range map[string]string{
		"dead list":               "\n  stage \"paid\": the provider is away\n",
		"dead list --output json": `"text":"redisidem: stage \"paid\": the provider is away"`,
	} {
		if got := command(t, s.server.Addr(), "", strings.Fields(args)...); !strings.Contains(got, want) {
			t.Errorf("%s lacks %q:\n%s", args, want, got)
		}
	}
}
