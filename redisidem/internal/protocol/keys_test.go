package protocol

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestIdentityNeverChanges pins an identity: computed in another way, each finished key in
// production would be absent.
func TestIdentityNeverChanges(t *testing.T) {
	t.Parallel()
	id := identityOf("redisidem", "tenant-42", "key-from-the-client")
	const want = "redisidem:{176}:HSRCsj2i8GKf8Ni-bUifcrHzDDm-5UQ3"
	if id.Record != want || id.Lock != want+":lock" || !strings.HasSuffix(id.Record, ":"+id.Digest) {
		t.Errorf("the identity is %q with the lock %q and the digest %q", id.Record, id.Lock, id.Digest)
	}
}

func TestIdentityHoldsNothingOfTheKey(t *testing.T) {
	t.Parallel()
	shape := regexp.MustCompile(`^ns:\{[0-3][0-9a-f]{2}\}:[A-Za-f][A-Za-z0-9_-]{31}$`)
	shards := make(map[string]bool)
	for i := range 10_000 {
		id := identityOf("ns", "{scope}\n", fmt.Sprint("{key}:", i))
		if !shape.MatchString(id.Record) || id.Lock != id.Record+":lock" {
			t.Fatalf("the identity is %q with the lock %q", id.Record, id.Lock)
		}
		shards[id.Record[:len("ns:{000}")]] = true
	}
	if len(shards) != 1<<shardBits {
		t.Errorf("10000 keys are in %d slot groups", len(shards))
	}
}

func TestAdjacentPartsAreDistinct(t *testing.T) {
	t.Parallel()
	distinct(t, map[string]string{
		"a:b, c":  identityOf("ns", "a:b", "c").Record,
		"a, b:c":  identityOf("ns", "a", "b:c").Record,
		"ab, c":   identityOf("ns", "ab", "c").Record,
		"a, bc":   identityOf("ns", "a", "bc").Record,
		"c, ab":   identityOf("ns", "c", "ab").Record,
		"A, bc":   identityOf("ns", "A", "bc").Record,
		"a, bc␀":  identityOf("ns", "a", "bc\x00").Record,
		"a␀, bc":  identityOf("ns", "a\x00", "bc").Record,
		"invalid": identityOf("ns", "a", "b\xff").Record,
		"other":   identityOf("ns", "a", "b\xfe").Record,
	})
}

func TestNameOfRecord(t *testing.T) {
	t.Parallel()
	id := identityOf("ns", "a", "k")
	if n, ok := NameOf(id.Record); !ok || n != id.Name {
		t.Errorf("%q is %x, %v", id.Record, n, ok)
	}
	for _, bad := range []string{"", "short", strings.Repeat("!", 40)} {
		if n, ok := NameOf(bad); ok {
			t.Errorf("%q is %x", bad, n)
		}
	}
}

func identityOf(namespace, scope, value string) Identity {
	return Identify(namespace, scope, value, DigestOf(scope, value))
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

func TestFlowNamesAreFitForRedisKeys(t *testing.T) {
	t.Parallel()
	for flow, want := range map[string]string{
		"cart/1": "cart", "a.b_c-D9/12": "a.b_c-D9", "": "", "cart": "", "/1": "", "a}{b/1": "", "a\nb/1": "", "a b/1": "", "é/1": "",
	} {
		if got := FlowName(flow); got != want {
			t.Errorf("%q: %q, want %q", flow, got, want)
		}
	}
}
