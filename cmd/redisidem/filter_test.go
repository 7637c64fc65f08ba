package main

import (
	"strings"
	"testing"
)

// TestFilterThatIsGivenMustNotBeEmpty has the flags of a script whose variable is not set. Without
// a refusal, they would hit all keys.
func TestFilterThatIsGivenMustNotBeEmpty(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	before := s.server.Dump()
	for _, line := range []string{
		"dead delete --scope= --reason=r --yes", "dead delete --flow= --reason=r --yes", "dead delete --error= --reason=r --yes",
		"dead requeue --scope= --reason=r --yes", "dead list --scope=", "keys list --scope=", "keys list --flow=", "keys list --error=",
		"keys list --state=", "tail --scope=", "tail --flow=", "audit --key=",
		"keys delete --scope= @idle --reason=r --yes", "keys show --scope= @idle",
	} {
		args := strings.Fields(strings.Replace(line, "@idle", s.ids["idle"], 1))
		got := command(t, s.server.Addr(), "", args...)
		if !strings.Contains(got, "must not be empty") || !strings.HasSuffix(got, "[exit status 2]\n") {
			t.Errorf("%s prints %s", line, got)
		}
	}
	if after := s.server.Dump(); after != before {
		t.Errorf("Redis has changed:\n%s", difference(before, after))
	}
}

// TestFailuresThatCannotBeReadAreSaid has an encrypted namespace, and commands without the key or
// with another one.
func TestFailuresThatCannotBeReadAreSaid(t *testing.T) {
	t.Parallel()
	values, ring := encryptionOf(t, "k1")
	sc, addr := interruptedKey(t, values)
	id := sc.ID("k")
	for _, wrong := range [][]string{nil, {"--encryption-key-file", keyRing(t, "k2")}} {
		for line, want := range map[string][]string{
			"keys list --error=declined":                                   {"0 keys\n", "1 key has a last failure that cannot be read, so --error cannot be applied", "--encryption-key-file", "[exit status 1]"},
			"keys list --error=declined --output=json":                     {"1 key has a last failure that cannot be read, so --error", "[exit status 1]"},
			"keys show " + id:                                              {"Failed last", "not read: last_failure "},
			"keys show --output=json " + id:                                {`"text":"","error":"redisidem: damaged record: last_failure `},
			"dead requeue --error=declined --reason=r --yes --flow=order":  {"ID  DONE\n"}, // it is of no flow
			"keys list --error=declined --scope=other --state=interrupted": {"0 keys\n"},
			"keys list --error=declined --state=interrupted --attempts=1":  {"1 key has", "[exit status 1]"},
		} {
			got := command(t, addr, "", append(strings.Fields(line), wrong...)...)
			for _, text := range want {
				if !strings.Contains(got, text) {
					t.Errorf("%s %q lacks %q:\n%s", line, wrong, text, got)
				}
			}
		}
	}
	if got := command(t, addr, "", "keys", "list", "--error=declined", "--encryption-key-file", ring); !strings.Contains(got, id) || strings.Contains(got, "cannot be read") || strings.Contains(got, "exit status") {
		t.Errorf("with the key it prints\n%s", got)
	}
}

// TestDeadLettersWhoseFailureCannotBeRead are not acted on by a text, and the commands say so.
func TestDeadLettersWhoseFailureCannotBeRead(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, name := range s.server.Keys() {
		if strings.HasSuffix(name, s.ids["dead"]) {
			stored := s.server.HGet(name, "last_failure")
			words := strings.SplitN(stored, " ", 5)
			words[4] = "\x00\xffridem\x01cgarbage"
			s.server.HSet(name, "last_failure", strings.Join(words, " "))
		}
	}
	s.server.SetTime(s.now)
	if got := command(t, s.server.Addr(), "", "dead", "list"); !strings.Contains(got, "\n  its last failure cannot be read: last_failure is encoded, and Config.Codec is nil\n") {
		t.Errorf("dead list prints\n%s", got)
	}
	for _, line := range []string{"dead requeue --error=away --reason=r --yes", "dead delete --error=away --reason=r", "dead requeue --error=away --reason=r"} {
		got := command(t, s.server.Addr(), "", strings.Fields(line)...)
		if !strings.Contains(got, "1 key has a last failure that cannot be read") || !strings.HasSuffix(got, "[exit status 1]\n") {
			t.Errorf("%s prints\n%s", line, got)
		}
	}
}

// TestStatesAreAddedUp names states in one flag and in two.
func TestStatesAreAddedUp(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, line := range []string{"keys list --state=dead,finished", "keys list --state=dead --state=finished"} {
		if got := command(t, s.server.Addr(), "", strings.Fields(line)...); !strings.HasSuffix(got, "[standard error]\n3 keys\n") {
			t.Errorf("%s prints\n%s", line, got)
		}
	}
}
