package protocol

import (
	"slices"
	"testing"
	"time"

	"github.com/redisidem/redisidem/lua"
)

func mustParse(t *testing.T, reply string) Reply {
	t.Helper()
	r, err := ParseReply(lua.Claim, "t", reply)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRepliesAreRead(t *testing.T) {
	t.Parallel()
	at := time.UnixMicro(1700000000000000).UTC()
	own := mustParse(t, "OWN t 1700000000000000 2 1 1700000000000000 3")
	if g, err := own.Granted(); err != nil || g != (Granted{1700000000000000, 2, 1, at}) {
		t.Errorf("granted %+v, %v", g, err)
	}
	if made, err := own.GrantedNew(); err != nil || made != (Created{at, 3}) {
		t.Errorf("made %+v, %v", made, err)
	}
	if g, err := mustParse(t, "OWN t 1700000000000000 1 1").Granted(); err != nil || g != (Granted{1700000000000000, 1, 1, at}) {
		t.Errorf("granted %+v, %v", g, err)
	}
	if g, err := mustParse(t, "OWN t 7 2 1 1700000000000000").Granted(); err != nil || g != (Granted{7, 2, 1, at}) {
		t.Errorf("granted %+v, %v", g, err)
	}
	for last, want := range map[string]struct {
		flow string
		dead bool
	}{"- 0": {"", false}, "f/1 1": {"f/1", true}, "": {"", false}} {
		if flow, dead := mustParse(t, "OWN t 7 2 1 1700000000000000 "+last).GrantedSeen(); flow != want.flow || dead != want.dead {
			t.Errorf("%q is read as %q, %t", last, flow, dead)
		}
	}
	if when, held, err := mustParse(t, "OK t 1 1700000000000000").Committed(); err != nil || !held || when != at {
		t.Errorf("committed at %v, held is %t, %v", when, held, err)
	}
	if when, held, err := mustParse(t, "OK t 1 1700000000000000").notKept().Committed(); err != nil || held || when != at {
		t.Errorf("committed at %v, held is %t, %v", when, held, err)
	}
	if left, expires, err := mustParse(t, "BUSY t -1").LockLife(); err != nil || expires || left != 0 {
		t.Errorf("the lock lives for %v, %t, %v", left, expires, err)
	}
	if left, expires, err := mustParse(t, "BUSY t 200000000000000").LockLife(); err != nil || !expires || left != maxLife {
		t.Errorf("the lock lives for %v, %t, %v", left, expires, err)
	}
	if n, why, err := mustParse(t, "EFFECT t 1\n\nwrong type").RefusedEffect(2); err != nil || n != 1 || why != "wrong type" {
		t.Errorf("effect %d is refused: %q, %v", n, why, err)
	}
	for reply, want := range map[string][]string{
		"DONE t": nil, "DONE t\n\n": {""}, "DONE t\n\na\nb": {"a\nb"}, "DONE t\n1 0 2\nab\n\xffc": {"a", "", "b\n", "\xffc"},
	} {
		if got := mustParse(t, reply).Texts; !slices.Equal(got, want) {
			t.Errorf("the texts of %q are %q, want %q", reply, got, want)
		}
	}
	if r := mustParse(t, "OK t 1 0"); !r.DeadLettered() || r.MetClaim() {
		t.Errorf("%+v is misread", r)
	}
}

func TestRepliesThatCannotBeReadAreErrors(t *testing.T) {
	t.Parallel()
	for _, reply := range []string{
		"", "OWN", "OWN other 7", "DONE t\n", "DONE t\n1", "DONE t\n2\na", "DONE t\n-1\na", "DONE t\n1 x\nab", "DONE t\n1 9223372036854775807\nab",
	} {
		if r, err := ParseReply(lua.Claim, "t", reply); err == nil || IsDamaged(err) {
			t.Errorf("%q is read as %+v, %v", reply, r, err)
		}
	}
	if _, err := ParseReply(lua.Claim, "t", "DAMAGED t\n\nWRONGTYPE x"); !IsDamaged(err) {
		t.Errorf("error is %v", err)
	}
	if _, err := ParseReply(lua.Claim, "t", "DAMAGED t\n\nACL failure in script"); err == nil || IsDamaged(err) || !IsDenied(err) {
		t.Errorf("error is %v", err)
	}
	if _, err := mustParse(t, "OWN t 7 x").Granted(); !IsDamaged(err) {
		t.Errorf("error is %v", err)
	}
	if _, err := mustParse(t, "OTHER t").Text(); err == nil {
		t.Error("a reply without its text is not an error")
	}
	if _, _, err := mustParse(t, "EFFECT t 2\n\nwhy").RefusedEffect(2); err == nil {
		t.Error("an effect that was not sent is not an error")
	}
}
