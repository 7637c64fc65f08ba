package protocol

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/lua"
)

// testClient returns a client that sends nothing.
func testClient(t *testing.T) *Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { _ = rdb.Close() })
	c, err := New(&Options{
		Redis: rdb, Namespace: "ns", Timeout: time.Second, Lease: 10 * time.Second, Retention: time.Minute, Owner: "me",
		Durability: 1, RecordLife: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCallsHaveTheArgumentsOfTheirScripts compares keys and arguments with those of the headers in
// package lua.
func TestCallsHaveTheArgumentsOfTheirScripts(t *testing.T) {
	t.Parallel()
	c := testClient(t)
	id := Identity{Scope: "s", Value: "v", Record: "ns:{000}:" + fmt.Sprintf("%032d", 1)}
	id.Lock = id.Record + lockSuffix
	due, dead := "ns:{000}:due:f", "ns:{000}:dead:f"
	recovery := Recovery{Flow: "f", After: 3 * time.Second}
	seen := Seen{Revision: 2, CreatedAt: time.UnixMicro(7)}
	record := NewRecord{Method: "POST", Path: "/", Params: []byte("p")}
	handed := Claim{ID: id, Completer: true, HandedOut: "17", WakeChannel: "wake", Recovery: recovery}
	letter := Claim{ID: id, Seen: seen, deadLetterOf: "f/1"}
	for _, test := range []struct {
		call   Call
		script *lua.Script
		keys   []string
		args   []any // without the nonce
	}{
		{c.NewCreate(id, "1:x", NewRecord{Method: "GET", Path: "/"}, true), lua.Create, []string{id.Record}, []any{"1:x", 60000, "1 1 3 s v GET /", []byte(nil), "ldp"}},
		{
			c.NewCreate(id, "1:x", NewRecord{Method: "GET", Path: "/", Origin: "00-a"}, false), lua.Create,
			[]string{id.Record},
			[]any{"1:x", 60000, "1 1 3 s v GET /", []byte(nil), "ld", "00-a"},
		},
		{
			c.claimCall(&Claim{ID: id, New: NewRecord{Method: "GET", Path: "/", Origin: "00-a"}, Creates: true}, "t"),
			lua.Claim,
			[]string{id.Record, id.Lock},
			[]any{"", 10000, 70000, "me", "1 1 3 s v GET /", []byte(nil), "ld", "", "", "", "", "00-a"},
		},
		{
			c.claimCall(&Claim{ID: id, Fingerprint: "1:x", WakeChannel: "wake", Waited: time.Millisecond, Flow: "f/1\n", New: record, Creates: true}, "t"),
			lua.Claim,
			[]string{id.Record, id.Lock},
			[]any{"1:x", 10000, 70000, "me", "1 1 4 s v POST /", []byte("p"), "ldw1000", "", "wake", "f/1\n", ""},
		},
		{c.claimCall(&handed, "t"), lua.Claim, []string{id.Record, id.Lock, due}, []any{"", 10000, 70000, "me", "", "", "ldc", "", "17", "", 3000}},
		{c.claimCall(&letter, "t"), lua.Claim, []string{id.Record, id.Lock, due, dead}, []any{"", 10000, 70000, "me", "", "", "ld", "2 7", "", "", 10000}},
		{c.NewRenew(Renew{ID: id, Token: "t", Fence: 9, Recovery: recovery}), lua.Renew, []string{id.Record, id.Lock, due}, []any{9, 10000, 60000, 3000}},
		{c.NewRenew(Renew{ID: id, Token: "t", Fence: 9, DeadLetterOf: "f/1"}), lua.Renew, []string{id.Record, id.Lock, due, dead}, []any{9, 10000, 60000}},
		{
			c.NewCommit(&Commit{
				ID: id, Token: "t", Fence: 9, Revision: 2, Attempt: 1, From: "a", Keep: true, Journal: JournalLong, Recovery: recovery,
				Outcome: Outcome{RecoveryPoint: "b"}, Effects: []Effect{{Type: "string", Key: "x", Command: "SET", Args: []string{"1"}}},
			}),
			lua.Commit,
			[]string{id.Record, id.Lock, due, "x"},
			[]any{"2 2 t 9 ", 70000, "1 me a", "b", "", "", "ldkj", 3000, 0, "string", "", 1, "SET", "1"},
		},
		{
			c.NewCommit(&Commit{
				ID: id, Token: "t", From: "a", Journal: JournalWhole, Recovery: Recovery{Flow: "f"}, Leaves: true, DeadLetter: true, FlowUnknown: true,
				Outcome: Outcome{RecoveryPoint: "finished", Interim: MarkRemove}, Effects: []Effect{{Key: "ch", Command: "PUBLISH", Args: []string{"m"}}},
			}),
			lua.Commit,
			[]string{id.Record, id.Lock, due, dead},
			[]any{"2 0 t 0 ", 70000, "0 me a", "finished", "", "", "ldubh", "-", 2, "interim", "", "", "", 2, "PUBLISH", "ch", "m"},
		},
		{c.NewAbandon(Abandon{ID: id, Token: "t"}), lua.Abandon, []string{id.Record, id.Lock}, []any{""}},
		{c.NewAbandon(Abandon{ID: id, Token: "t", Failure: []byte("x")}), lua.Abandon, []string{id.Record, id.Lock}, []any{"", []byte("x")}},
		{
			c.NewAbandon(Abandon{ID: id, Token: "t", Recovery: recovery, DeadLetter: "why", Ending: Ending{NothingDone: true, Unbegun: true, Refused: true}}),
			lua.Abandon,
			[]string{id.Record, id.Lock, due, dead},
			[]any{"nar", []byte(nil), 3000, "why", 70000},
		},
		{
			c.NewUpdate(&Update{ID: id, Token: "t", Seen: seen, Flow: "f/1", Outcome: Outcome{RecoveryPoint: "b"}}),
			lua.Update,
			[]string{id.Record, id.Lock, due, dead},
			[]any{2, 7, 60000, "me", "ld", "recovery_point", "b"},
		},
		{c.NewDelete(id, Seen{}, ""), lua.Delete, []string{id.Record, id.Lock}, []any{"", "", "ns:deleted", 60000}},
		{c.NewUnlock(id, "7"), lua.Unlock, []string{id.Record, id.Lock}, []any{"7"}},
		{c.NewRequeue(id, "f", ""), lua.Requeue, []string{id.Record, id.Lock, due, dead}, []any{""}},
		{c.NewReindex(id, due, time.Second), lua.Reindex, []string{id.Record, due}, []any{1000}},
		{
			c.NewDue(Due{Index: due, Batch: 16, PutOff: time.Second, Until: "5", Share: 3, Without: []string{"abcd", "efgh"}}),
			lua.Due,
			[]string{due},
			[]any{16, 1000, 70000, "5", 3, "abcdefgh"},
		},
		{
			c.NewAdmit(Admission{Flow: "f", Scope: "abcd", PerScope: 2, PerFlow: 3, For: time.Second}),
			lua.CompleterLimit,
			[]string{"ns:turn:{ns:turn:/flows}:running:f"},
			[]any{"abcd", 2, 3, 1000},
		},
		{
			c.NewShare(&Share{
				Scope: "acme", ID: "id", Call: 7, Lasts: time.Second, InFlight: 2, Waiting: 1,
				Requests: Places{10, 3}, Records: Places{20, 4}, Made: 6, Confirmed: 5, Window: time.Minute,
			}),
			lua.Quota,
			[]string{QuotaKey("ns", "acme")},
			[]any{"id", 7, 1000, 2, 1, 10, 3, 20, 4, 6, 5, 60000},
		},
		{
			c.NewGiveBack(&Share{Scope: "acme", ID: "id", Call: 8, Lasts: time.Second, Made: 6, Confirmed: 6, Window: time.Minute}),
			lua.Quota,
			[]string{QuotaKey("ns", "acme")},
			[]any{"id", 8, 0, 0, 0, 0, 0, 0, 0, 6, 6, 60000},
		},
		{
			c.NewRest(Turn{nonce: "n", began: "7"}, Rest{Flow: "f", First: 9}, Rest{Flow: "g", First: Empty}),
			lua.Rest,
			[]string{"ns:turn:/flows"},
			[]any{"7", "f", 9, "g", "-"},
		},
	} {
		want := []any{"evalsha", test.script.SHA, len(test.keys)}
		for _, k := range test.keys {
			want = append(want, k)
		}
		want = append(append(want, test.call.nonce), test.args...)
		if got, want := fmt.Sprintf("%q", plainWords(test.call.words)), fmt.Sprintf("%q", want); got != want {
			t.Errorf("%s is called with %s, want %s", test.script.Name, got, want)
		}
	}
}

// plainWords returns the words of a call without the pointers to them.
func plainWords(words []any) []any {
	plain := slices.Clone(words)
	for i, word := range plain {
		switch word := word.(type) {
		case *string:
			plain[i] = *word
		case *int64:
			plain[i] = *word
		}
	}
	return plain
}

// TestCallWithManyWordsIsWhole makes a call with more words, texts and numbers than its memory has.
func TestCallWithManyWordsIsWhole(t *testing.T) {
	t.Parallel()
	call := newCall(lua.Commit, "t", "r", "l")
	want := []any{"evalsha", lua.Commit.SHA, 2, "r", "l", "t"}
	for i := range int64(40) {
		call.addTexts(strconv.FormatInt(i, 10))
		call.addNumber(i)
		call.add("constant")
		want = append(want, strconv.FormatInt(i, 10), i, "constant")
	}
	if got := plainWords(call.words); !slices.Equal(got, want) {
		t.Errorf("the words are %q, want %q", got, want)
	}
}

func TestCommitWithoutKeepLeavesTheFirstCallAlone(t *testing.T) {
	t.Parallel()
	c := testClient(t)
	call := c.NewCommit(&Commit{Keep: true, Outcome: Outcome{RecoveryPoint: "b"}})
	before := slices.Clone(call.words)
	without, kept := call.WithoutKeep()
	if flags := without.words[without.arg(commitFlags)]; !kept || flags != "ld" {
		t.Errorf("the flags are %q, kept is %t", flags, kept)
	}
	if !slices.Equal(call.words, before) {
		t.Error("the words of the first call have changed")
	}
	if _, again := without.WithoutKeep(); again {
		t.Error("the second call keeps the lease, too")
	}
}

func TestCallAloneHasOnlyItsRecord(t *testing.T) {
	t.Parallel()
	c := testClient(t)
	call := c.NewRenew(Renew{ID: Identity{Record: "r", Lock: "l"}, Token: "t", Fence: 9})
	one := call.alone()
	want := []any{"evalsha", lua.Renew.SHA, 1, "r", "t", int64(9), int64(10000), int64(60000)}
	if !call.stepwise || call.lock() != "l" || one.stepwise || !slices.Equal(plainWords(one.words), want) {
		t.Errorf("the words are %q, want %q", plainWords(one.words), want)
	}
}
