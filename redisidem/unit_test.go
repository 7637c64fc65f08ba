package redisidem

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// TestOutboundKeysNeverMove holds outbound keys fast: computed in another way, a stage that runs
// again would call once more for what its first run has called for.
func TestOutboundKeysNeverMove(t *testing.T) {
	t.Parallel()
	key := &Key{fingerprint: "1:oRMam3tYtpE1g0rdpD5LN1QDEDUcb3rARTYu1ndyaYo", RecoveryPoint: "ride_created", Revision: 3}
	st := &Stage{lease: &Lease{id: placeOf("redisidem", "tenant-42", "key-from-the-client")}, key: key}
	for generation, want := range []string{
		"2a912551-5106-875f-a316-aa49aaca493b", "c1a5d07a-0b27-8f78-bb0f-3683d38d28e2", "5424380d-91a4-8125-a8ec-4ec3031d783d",
	} {
		key.generation = int64(generation)
		if got := st.OutboundKey("charge"); got != want {
			t.Errorf("in generation %d it is %s, want %s", generation, got, want)
		}
		if got := st.CommittedKey(JournalEntry{Stage: key.RecoveryPoint, Revision: key.Revision}, "charge"); got != want {
			t.Errorf("in generation %d that of the journal's entry is %s, want %s", generation, got, want)
		}
	}
}

func TestFingerprintTellsRequestsApart(t *testing.T) {
	t.Parallel()
	distinct(t, map[string]string{
		"shifted left":     printOf(t, Request{Method: "POSTS", Path: "/a", Params: []byte("b")}),
		"shifted right":    printOf(t, Request{Method: "POST", Path: "S/a", Params: []byte("b")}),
		"params into path": printOf(t, Request{Method: "POST", Path: "S/ab"}),
		"path into params": printOf(t, Request{Method: "POST", Path: "S", Params: []byte("/ab")}),
		"case of the path": printOf(t, Request{Method: "POST", Path: "s/a", Params: []byte("b")}),
		"null":             printOf(t, Request{Params: []byte("null")}),
		"nothing":          printOf(t, Request{}),
		"empty one":        printOf(t, Request{Fingerprint: []byte{}}),
		"own":              printOf(t, Request{Fingerprint: []byte("POST")}),
		"method like own":  printOf(t, Request{Method: "POST"}),
	})
}

func TestFingerprintIsTheSameForTheSameRequest(t *testing.T) {
	t.Parallel()
	for _, same := range [][2]Request{
		{{Method: "post", Path: "/a"}, {Method: "POST", Path: "/a"}},
		{{Params: map[string]int{"a": 1, "b": 2}}, {Params: []byte(`{"a":1,"b":2}`)}},
		{{Method: "GET", Path: "/a", Fingerprint: []byte("x")}, {Method: "PUT", Params: 1, Fingerprint: []byte("x")}},
	} {
		if printOf(t, same[0]) != printOf(t, same[1]) {
			t.Errorf("%+v and %+v differ", same[0], same[1])
		}
	}
}

func printOf(t *testing.T, r Request) string {
	t.Helper()
	e, err := r.encode(1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(e.print[:]), fingerprintVersion) {
		t.Errorf("the fingerprint %q has no version", string(e.print[:]))
	}
	return string(e.print[:])
}

func distinct(t *testing.T, named map[string]string) {
	t.Helper()
	seen := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if other, ok := seen[named[name]]; ok {
			t.Errorf("%q and %q are the same: %s", other, name, named[name])
		}
		seen[named[name]] = name
	}
}

func TestHeaderRoundTrip(t *testing.T) {
	t.Parallel()
	for _, h := range []map[string][]string{
		nil,
		{"Content-Type": {"application/json"}},
		{"Set-Cookie": {"a=1", "b=2", "a=1"}, "X": {""}},
		{"X-Latin": {"caf\xe9"}, "X-Colon": {"a: b: c"}, "X-Space": {" a "}},
		{"x": {"lower"}, "X": {"upper"}},
	} {
		got, err := decodeHeader(string(encodeHeader(h)))
		if err != nil || !reflect.DeepEqual(got, h) {
			t.Errorf("%q came back as %q, %v", h, got, err)
		}
	}
	for _, bad := range []string{"X", "X: a", "X: a\n", ": a\r\n", "X:a\r\n", "X: a\r\nY", "X: a\nb\r\n", "X: a\x00\r\n", "\r\n"} {
		if h, err := decodeHeader(bad); err == nil {
			t.Errorf("%q decodes to %q", bad, h)
		}
	}
}

// FuzzHeader checks that every header that is accepted comes back byte for byte.
func FuzzHeader(f *testing.F) {
	f.Add("Content-Type", "application/json", "X", "caf\xe9")
	f.Add("X", ": ", "X", "")
	f.Add("a\r\n", "b\r\nX: c", "", "\x00")
	f.Add("a: b", "c", " ", "\n")
	f.Fuzz(func(t *testing.T, name, value, name2, value2 string) {
		r := Response{Header: map[string][]string{name: {value}}}
		r.Header[name2] = append(r.Header[name2], value2)
		if r.validate(1<<20) != nil {
			_, _ = decodeHeader(name + value + name2 + value2) // must not panic
			return
		}
		got, err := decodeHeader(string(encodeHeader(r.Header)))
		if err != nil || !reflect.DeepEqual(got, r.Header) {
			t.Errorf("%q came back as %q, %v", r.Header, got, err)
		}
	})
}

// FuzzDecodeRecord checks that what Redis holds can be anything: the answer is a key or ErrDamaged, never a panic.
func FuzzDecodeRecord(f *testing.F) {
	id := placeOf("ns", "a", "k")
	good := []string{
		fieldControl, "1 2 t 7 1 3 10000 -", fieldScope, "a", fieldValue, "k", fieldMethod, "POST", fieldPath, "/", fieldFingerprint, "1:x",
		fieldPoint, Finished, fieldCreatedAt, "1700000000000000",
		fieldCode, "201", fieldHeaders, "X: a\r\n", fieldBody, "body",
		fieldLockedAt, "1700000000000000", journalPrefix + "0", "t 7 1 1700000000000000 host/1 started", fieldInterim, "",
		fieldFlow, "f/1", fieldDeadLetter, "1700000000000000 0 1 why", fieldRequeued, "0 1 1700000000000000",
		fieldState, "null", fieldParams, "{}",
	}
	if k, err := decodeRecord(id, valueCodec{limit: valueLimit}, good); err != nil || k.Revision != 2 || k.Response.Code != 201 || len(k.Journal) != 1 {
		f.Fatalf("the good record decodes to %+v, %v", k, err)
	}
	for i := 0; i < len(good); i += 2 {
		for _, v := range []string{"", "x", "-1", "99999999999999999999", "9223372036854775807", "t 1 1 1", "1 0 1 why", "\xff\x00", "2 2 t 7 1 3 10000 -"} {
			f.Add(good[i], v, true)
		}
		f.Add(good[i], "", false)
	}
	f.Add(journalPrefix, "t 1 1 1 s", true)
	f.Add("unknown", "field", true)
	f.Fuzz(func(t *testing.T, field, value string, pair bool) {
		for i := range 2 {
			pairs := append(slices.Clone(good), field)
			if i == 1 {
				pairs = []string{field}
			}
			if pair {
				pairs = append(pairs, value)
			}
			k, err := decodeRecord(id, valueCodec{limit: valueLimit}, pairs)
			if (k == nil) == (err == nil) {
				t.Fatalf("%q, %q: key %v, error %v", field, value, k, err)
			}
			if err != nil && !errors.Is(err, ErrDamaged) {
				t.Errorf("%q, %q: %v", field, value, err)
			}
			if k != nil && (k.Value != "k" || k.Scope != "a") {
				t.Errorf("%q, %q: the key is %q of %q", field, value, k.Value, k.Scope)
			}
		}
	})
}

func TestNamesOfEventsAndVerdicts(t *testing.T) {
	t.Parallel()
	for got, want := range map[fmt.Stringer]string{
		EventKind(-1): "invalid", EventKind(0): "invalid", EventClaimed: "claimed", EventCommitted: "committed", EventReplayed: "replayed",
		EventRefused: "refused", EventRenewed: "renewed", EventLeaseLost: "lease-lost", EventOutcomeUnknown: "outcome-unknown", EventAbandoned: "abandoned",
		EventDeadLettered: "dead-lettered", EventDeadLettered + 1: "invalid",
		Verdict(-1): "invalid", Verdict(0): "invalid", VerdictGood: "good", VerdictUndetermined: "undetermined", VerdictWarning: "warning",
		VerdictFailure: "failure", VerdictFailure + 1: "invalid",
	} {
		if got.String() != want {
			t.Errorf("%#v is %q, want %q", got, got.String(), want)
		}
	}
}

func placeOf(namespace, scope, value string) identity {
	return protocol.Identify(namespace, scope, value, protocol.DigestOf(scope, value))
}

// TestAnswerThatWasUnderWayDoesNotBringADeletedRecordBack puts what a reply brought after the news that came meanwhile.
func TestAnswerThatWasUnderWayDoesNotBringADeletedRecordBack(t *testing.T) {
	t.Parallel()
	var wanted fingerprint
	copy(wanted[:], "1:x")
	for what, news := range map[string]func(c *cache, record string){
		"deleted": func(c *cache, record string) { c.forget(record) },
		"missed":  func(c *cache, _ string) { c.purge() },
	} {
		c, err := newCache(1<<20, time.Hour, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		id := placeOf("ns", "a", "k")
		key := &Key{Value: "k", Scope: "a", RecoveryPoint: Finished, fingerprint: string(wanted[:]), own: true, id: id}
		get := func() *Key { return c.get(id.Name, "a", "k", &wanted) }

		sent := time.Now()
		c.put(id.Name, key, sent, time.Hour)
		if k := get(); k == nil || !k.Replayed() || k == key {
			t.Fatalf("%s: the copy is %+v", what, k)
		}
		news(c, id.Record)
		if k := get(); k != nil {
			t.Errorf("%s: there is still %+v", what, k)
		}
		c.put(id.Name, key, sent, time.Hour)
		if k := get(); k != nil {
			t.Errorf("%s: brought back %+v", what, k)
		}
		c.put(id.Name, key, time.Now().Add(time.Millisecond), time.Hour)
		if k := get(); k == nil {
			t.Errorf("%s: a new record has no copy", what)
		}
		for _, other := range []*Key{c.get(id.Name, "b", "k", &wanted), c.get(id.Name, "a", "l", &wanted), c.get(id.Name, "a", "k", &fingerprint{})} {
			if other != nil {
				t.Errorf("%s: another got %+v", what, other)
			}
		}
		c.close()
		c.put(id.Name, key, time.Now().Add(time.Second), time.Hour)
		if k := get(); k != nil {
			t.Errorf("%s: closed, and there is %+v", what, k)
		}
	}
}

func TestCopiesTakeNoMoreThanTheirBytes(t *testing.T) {
	t.Parallel()
	const limit = 100 << 10
	c, err := newCache(limit, time.Hour, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	sent := time.Now().Add(time.Millisecond)
	for i := range 1000 {
		id := placeOf("ns", "a", strconv.Itoa(i))
		body := make([]byte, 1<<10)
		c.put(id.Name, &Key{Value: id.Value, Scope: "a", RecoveryPoint: Finished, Response: &Response{Body: body}, id: id}, sent, time.Hour)
	}
	c.otter.CleanUp()
	if weight, n := c.otter.WeightedSize(), c.otter.EstimatedSize(); weight > limit || n < 40 || n > 100 {
		t.Errorf("%d copies take %d bytes of %d", n, weight, limit)
	}
}

func TestPersistenceThatFailsIsFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		aof, write, snapshot, rewrite, fsync string
		want                                 Verdict
		told                                 string
	}{
		{"1", "ok", "ok", "ok", "everysec", VerdictGood, "appendfsync everysec"},
		{"1", "err", "ok", "ok", "everysec", VerdictFailure, "aof_last_write_status"},
		{"1", "ok", "err", "ok", "always", VerdictWarning, "rdb_last_bgsave_status err"},
		{"1", "ok", "ok", "err", "everysec", VerdictWarning, "aof_last_bgrewrite_status err"},
		{"1", "ok", "err", "ok", "no", VerdictWarning, "appendfsync is no"},
		{"1", "", "", "", "", VerdictUndetermined, "appendfsync"},
		{"0", "ok", "err", "ok", "", VerdictWarning, "last snapshot failed"},
		{"0", "ok", "ok", "ok", "", VerdictWarning, "no append-only file"},
		{"", "", "", "", "", VerdictUndetermined, "does not report"},
	} {
		f := checkPersistence(map[string]string{
			"aof_enabled": c.aof, "aof_last_write_status": c.write, "rdb_last_bgsave_status": c.snapshot, "aof_last_bgrewrite_status": c.rewrite,
		}, c.fsync)
		if f.Verdict != c.want || !strings.Contains(f.Detail, c.told) {
			t.Errorf("%+v: %v, %s", c, f.Verdict, f.Detail)
		}
	}
}

func TestReplicasThatFallBehindDoNotCount(t *testing.T) {
	t.Parallel()
	info := map[string]string{
		"role": "master", "connected_slaves": "4", "slave_expires_tracked_keys": "0",
		"slave0": "ip=127.0.0.1,port=1,state=online,offset=14,lag=0", "slave1": "ip=127.0.0.1,port=2,state=online,offset=14,lag=11",
		"slave2": "ip=127.0.0.1,port=3,state=wait_bgsave,offset=0,lag=0", "slave3": "ip=127.0.0.1,port=4,state=online,offset=14,lag=10",
	}
	for wanted, want := range []Verdict{VerdictWarning, VerdictWarning, VerdictWarning, VerdictFailure} {
		s := &Service{cfg: Config{Durability: wanted}}
		if f := s.checkReplicas(info); f.Verdict != want || !strings.Contains(f.Detail, "2 of 4 replicas in step") {
			t.Errorf("Durability %d: %v, %s", wanted, f.Verdict, f.Detail)
		}
	}
}
