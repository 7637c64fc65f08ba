package redisidem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/lua"
)

// TestPlaceNeverMoves holds a place fast: computed in another way, each finished key in production would be absent.
func TestPlaceNeverMoves(t *testing.T) {
	t.Parallel()
	id := placeOf("redisidem", "tenant-42", "key-from-the-client")
	const want = "redisidem:{124}:HhW1lMXp_CpVOIaxEmIElWTcrnE6dKXg"
	if id.record != want || id.lock != want+":lock" || !strings.HasSuffix(id.record, ":"+id.digest) {
		t.Errorf("the place is %q with the lock %q and the digest %q", id.record, id.lock, id.digest)
	}
}

func TestPlaceHoldsNothingOfTheKey(t *testing.T) {
	t.Parallel()
	shape := regexp.MustCompile(`^ns:\{[0-3][0-9a-f]{2}\}:[A-Za-z0-9_-]{32}$`)
	shards := make(map[string]bool)
	for i := range 10_000 {
		id := placeOf("ns", "{scope}\n", fmt.Sprint("{key}:", i))
		if !shape.MatchString(id.record) || id.lock != id.record+":lock" {
			t.Fatalf("the place is %q with the lock %q", id.record, id.lock)
		}
		shards[id.record[:len("ns:{000}")]] = true
	}
	if len(shards) != 1<<shardBits {
		t.Errorf("10000 keys are in %d slot groups", len(shards))
	}
}

func TestNeighbouringPartsDoNotRunTogether(t *testing.T) {
	t.Parallel()
	distinct(t, map[string]string{
		"a:b, c":  placeOf("ns", "a:b", "c").record,
		"a, b:c":  placeOf("ns", "a", "b:c").record,
		"ab, c":   placeOf("ns", "ab", "c").record,
		"a, bc":   placeOf("ns", "a", "bc").record,
		"c, ab":   placeOf("ns", "c", "ab").record,
		"A, bc":   placeOf("ns", "A", "bc").record,
		"a, bc␀":  placeOf("ns", "a", "bc\x00").record,
		"a␀, bc":  placeOf("ns", "a\x00", "bc").record,
		"invalid": placeOf("ns", "a", "b\xff").record,
		"other":   placeOf("ns", "a", "b\xfe").record,
	})
}

// refusal is an error reply of the server's.
type refusal string

func (r refusal) Error() string { return string(r) }

func (refusal) RedisError() {}

func TestTransient(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want bool
	}{
		{io.EOF, true},
		{context.DeadlineExceeded, true},
		{errors.New("connection refused"), true},
		{errForeignReply, true},
		{errAgain, true},
		{refusal("LOADING Redis is loading the dataset in memory"), true},
		{refusal("READONLY You can't write against a read only replica."), true},
		{refusal("CLUSTERDOWN The cluster is down"), true},
		{refusal("TRYAGAIN Multiple keys request during rehashing of slot"), true},
		{refusal("MASTERDOWN Link with MASTER is down"), true},
		{refusal("BUSY Redis is busy running a script."), true},
		{refusal("MOVED 42 10.0.0.1:6379"), true},
		{refusal("NOREPLICAS Not enough good replicas to write."), true},
		{refusal("ERR max number of clients reached"), true},
		{redis.ErrClosed, false},
		{damaged("x"), false},
		{fmt.Errorf("wrapped: %w", damaged("x")), false},
		{refusal("NOPERM this user has no permissions"), false},
		{refusal("NOAUTH Authentication required."), false},
		{refusal("WRONGTYPE Operation against a key holding the wrong kind of value"), false},
		{refusal("OOM command not allowed when used memory > 'maxmemory'."), false},
		{refusal("ERR unknown command 'evalsha'"), false},
	} {
		if got := transient(c.err); got != c.want {
			t.Errorf("transient(%v) is %v", c.err, got)
		}
	}
}

func TestStatusesOfTheScriptsAreKnown(t *testing.T) {
	t.Parallel()
	known := []status{
		statusOK, statusCreated, statusFound, statusOwn, statusBusy, statusDone, statusMoved, statusStale, statusGone,
		statusLost, statusFenced, statusForgotten, statusMismatch, statusDamaged, statusOther,
		statusUnknown, statusEffect, statusAlive, statusLater, statusLetter, statusInterim,
	}
	used := make(map[status]bool)
	word := regexp.MustCompile(`\{'([A-Z]+)\b`)
	for _, s := range lua.All() {
		for _, m := range word.FindAllStringSubmatch(s.Source, -1) {
			used[status(m[1])] = true
			if !slices.Contains(known, status(m[1])) {
				t.Errorf("%s answers %s", s.Name, m[1])
			}
		}
	}
	for _, s := range known {
		if !used[s] {
			t.Errorf("no script answers %s", s)
		}
	}
}

func TestNameOfRecord(t *testing.T) {
	t.Parallel()
	id := placeOf("ns", "a", "k")
	if n, ok := nameOf(id.record); !ok || n != id.name {
		t.Errorf("%q is %x, %v", id.record, n, ok)
	}
	for _, bad := range []string{"", "short", strings.Repeat("!", 40)} {
		if n, ok := nameOf(bad); ok {
			t.Errorf("%q is %x", bad, n)
		}
	}
}

// TestRefusalIsToldWhenTheLastTryIsCutShort has a server that says why until the time is over in the middle of a try.
func TestRefusalIsToldWhenTheLastTryIsCutShort(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	tries := 0
	err := repeat(ctx, func(ctx context.Context) error {
		tries++
		if tries < 3 {
			return refusal("READONLY You can't write against a read only replica.")
		}
		cancel()
		return ctx.Err()
	})
	if !redis.IsReadOnlyError(err) || tries != 3 {
		t.Errorf("error is %v after %d tries", err, tries)
	}
}
