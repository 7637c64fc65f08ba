package protocol

import (
	"testing"
	"time"

	"github.com/redisidem/redisidem/lua"
)

func mustParse(t *testing.T, words ...string) Reply {
	t.Helper()
	r, err := ParseReply(lua.Claim, "t", words)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRepliesAreRead(t *testing.T) {
	t.Parallel()
	at := time.UnixMicro(1700000000000000).UTC()
	own := mustParse(t, "OWN t 7 2 1 1700000000000000 3")
	if g, err := own.Granted(); err != nil || g != (Granted{7, 2, 1, at}) {
		t.Errorf("granted %+v, %v", g, err)
	}
	if made, err := own.GrantedNew(); err != nil || made != (Created{at, 3}) {
		t.Errorf("made %+v, %v", made, err)
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
	if n, why, err := mustParse(t, "EFFECT t 1", "wrong type").RefusedEffect(2); err != nil || n != 1 || why != "wrong type" {
		t.Errorf("effect %d is refused: %q, %v", n, why, err)
	}
	if r := mustParse(t, "OK t 1 0"); !r.DeadLettered() || r.MetClaim() {
		t.Errorf("%+v is misread", r)
	}
}

func TestRepliesThatCannotBeReadAreErrors(t *testing.T) {
	t.Parallel()
	for _, words := range [][]string{nil, {"OWN"}, {"OWN other 7"}} {
		if r, err := ParseReply(lua.Claim, "t", words); err == nil || IsDamaged(err) {
			t.Errorf("%q is read as %+v, %v", words, r, err)
		}
	}
	if _, err := ParseReply(lua.Claim, "t", []string{"DAMAGED t", "WRONGTYPE x"}); !IsDamaged(err) {
		t.Errorf("error is %v", err)
	}
	if _, err := ParseReply(lua.Claim, "t", []string{"DAMAGED t", "ACL failure in script"}); err == nil || IsDamaged(err) || !IsDenied(err) {
		t.Errorf("error is %v", err)
	}
	if _, err := mustParse(t, "OWN t 7 x").Granted(); !IsDamaged(err) {
		t.Errorf("error is %v", err)
	}
	if _, err := mustParse(t, "OTHER t").Text(); err == nil {
		t.Error("a reply without its text is not an error")
	}
	if _, _, err := mustParse(t, "EFFECT t 2", "why").RefusedEffect(2); err == nil {
		t.Error("an effect that was not sent is not an error")
	}
}
