package protocol

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

func FuzzPosition(f *testing.F) {
	for _, text := range []string{"", "5@", "18446744073709551615@127.0.0.1:7000,0@[::1]:7001", "x", "5", "-1@a", "1@a,1@a", ",", "@"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePosition(text)
		if err != nil {
			return
		}
		again, err := ParsePosition(p.String())
		if err != nil || !maps.Equal(again, p) {
			t.Errorf("%q is read as %v, and that is written as %q: %v, %v", text, p, p.String(), again, err)
		}
	})
}

func TestSplitRecordKnowsRecords(t *testing.T) {
	t.Parallel()
	id := Identify("ns", "a", "k", DigestOf("a", "k"))
	if prefix, digest, ok := SplitRecord(id.Record); !ok || prefix+digest != id.Record || digest != id.Digest {
		t.Errorf("%s is split into %q and %q, %t", id.Record, prefix, digest, ok)
	}
	for _, other := range []string{"", "ns", id.Lock, id.Digest, id.DueIndex("flow"), id.ShardKey(id.Digest), id.ShardKey("")} {
		if _, _, ok := SplitRecord(other); ok {
			t.Errorf("%q is taken for a record", other)
		}
	}
}

// TestScanRefusesOtherMasters has a position of a master that the server is not.
func TestScanRefusesOtherMasters(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	c, err := New(&Options{Redis: client, Namespace: "ns", Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Scan(t.Context(), "*", 10, Position{"127.0.0.1:1": 5}); err != ErrPosition { //nolint:errorlint // returned as it is
		t.Errorf("the error is %v", err)
	}
	if got := strings.Count(RecordPattern("a*b"), `\*`); got != 1 {
		t.Errorf("the pattern is %q", RecordPattern("a*b"))
	}
}

func TestAuditEntryMayLackFields(t *testing.T) {
	t.Parallel()
	if e := readAuditEntry(redis.XMessage{ID: "x"}); e.Status != "" || e.Digest != "" || e.Act != "" {
		t.Errorf("%+v", e)
	}
	e := readAuditEntry(redis.XMessage{ID: "1700000000000-3", Values: map[string]any{"act": "unlock", "key": "k", "actor": "a", "reason": "r", "reply": "BUSY nonce 5"}})
	if e.At.UnixMilli() != 1700000000000 || e.Status != StatusBusy || e.Digest != "k" || (e.Audit != Audit{"unlock", "a", "r"}) {
		t.Errorf("%+v", e)
	}
}
