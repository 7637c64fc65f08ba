package redisidem

import (
	"fmt"
	"testing"
	"time"
)

// TestTraceOfADeletionIsNotEvicted fills a small cache while an answer about a record that was deleted meanwhile is under way.
func TestTraceOfADeletionIsNotEvicted(t *testing.T) {
	t.Parallel()
	c, err := newCache(64<<10, time.Minute, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	finished := func(value string) *Key {
		return &Key{
			Value: value, Scope: "a", RecoveryPoint: Finished, fingerprint: string(new(fingerprint)[:]), id: placeOf("ns", "a", value),
			Response: &Response{Code: 200, Body: make([]byte, 200)},
		}
	}
	fill := func(from, to int) {
		for i := from; i < to; i++ {
			k := finished(fmt.Sprint(i))
			c.put(k.id.Name, k, time.Now(), time.Hour)
		}
	}
	fill(0, 1000)
	deleted := finished("deleted")
	sent := time.Now()
	time.Sleep(time.Millisecond)
	c.forget(deleted.id.Record)
	fill(1000, 2000)
	c.put(deleted.id.Name, deleted, sent, time.Hour)
	if c.get(deleted.id.Name, "a", "deleted", new(fingerprint)) != nil {
		t.Error("a copy of the deleted record is there")
	}
}
