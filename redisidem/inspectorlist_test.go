package redisidem_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
)

// scopes lists keys and returns their scopes, sorted; "" for a record without one.
func (in *inspected) scopes(t testing.TB, f redisidem.Filter) (scopes []string) {
	t.Helper()
	found := make(map[string]bool)
	for page, err := range in.List(ctx, f, "") {
		mustBe(t, err, nil)
		for _, key := range page.Keys {
			found[key.Scope] = true
			if key.Key != nil || key.Journal != nil {
				t.Errorf("a list has values: %+v", key)
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// many returns n, or less for the embedded server, which answers a scan with all keys at once.
func (e *env) many(n int) int {
	if e.real {
		return n
	}
	return n / 50
}

func TestListFilters(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		in := e.inEveryState()
		for _, state := range redisidem.KeyStates() {
			want := []string{state.String()}
			switch state {
			case redisidem.KeyIdle:
				want = []string{"due", "idle"}
			default:
			}
			if got := in.scopes(t, redisidem.Filter{States: []redisidem.KeyState{state}}); !slices.Equal(got, want) {
				t.Errorf("%s keys: %q, want %q", state, got, want)
			}
		}
		for name, c := range map[string]struct {
			filter redisidem.Filter
			want   []string
		}{
			"all":                {redisidem.Filter{}, []string{"abandoned", "dead", "due", "finished", "idle", "in-flight", "interim", "interrupted", "unreadable"}},
			"scope":              {redisidem.Filter{Scope: "idle"}, []string{"idle"}},
			"flow":               {redisidem.Filter{Flow: "cart"}, []string{"dead", "due"}},
			"version":            {redisidem.Filter{Flow: "cart/1"}, []string{"dead", "due"}},
			"another version":    {redisidem.Filter{Flow: "cart/2"}, nil},
			"another flow":       {redisidem.Filter{Flow: "car"}, nil},
			"attempts":           {redisidem.Filter{Attempts: 2}, nil},
			"an attempt":         {redisidem.Filter{Attempts: 1, States: []redisidem.KeyState{redisidem.KeyIdle, redisidem.KeyInterim}}, []string{"due", "interim"}},
			"young":              {redisidem.Filter{OlderThan: time.Hour}, nil},
			"older than nothing": {redisidem.Filter{OlderThan: time.Nanosecond, Scope: "idle"}, []string{"idle"}},
		} {
			if got := in.scopes(t, c.filter); !slices.Equal(got, c.want) {
				t.Errorf("%s: %q, want %q", name, got, c.want)
			}
		}
	})
}

func TestListIsContinuedByItsCursor(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		svc := e.service()
		in := redisidem.NewInspector(svc)
		want := make(map[string]bool)
		for i := range e.many(1800) {
			want[start(t, svc.Scope("a"), fmt.Sprint(i)).ID()] = true
		}
		got := make(map[string]bool)
		pages := 0
		for cursor, more := "", true; more; pages++ {
			more = false
			for page, err := range in.List(ctx, redisidem.Filter{}, cursor) {
				mustBe(t, err, nil)
				for _, key := range page.Keys {
					got[key.ID] = true
				}
				cursor, more = page.Next, page.Next != ""
				break // and continue with a list of its own
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%d keys are listed, want %d", len(got), len(want))
		}
		if e.real && pages < 2 {
			t.Errorf("%d pages", pages)
		}
	})
}

func TestListRefusesBadInput(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		in := redisidem.NewInspector(e.service())
		for field, c := range map[string]struct {
			filter redisidem.Filter
			cursor string
		}{
			"cursor":           {cursor: "x"},
			"Filter.States":    {filter: redisidem.Filter{States: []redisidem.KeyState{9}}},
			"Filter.Flow":      {filter: redisidem.Filter{Flow: "*"}},
			"Filter.OlderThan": {filter: redisidem.Filter{OlderThan: -1}},
			"Filter.Attempts":  {filter: redisidem.Filter{Attempts: -1}},
		} {
			for _, err := range in.List(ctx, c.filter, c.cursor) {
				mustBeInvalid(t, err, field)
			}
		}
		for _, err := range in.List(ctx, redisidem.Filter{}, "5@192.0.2.1:6379") {
			mustBeInvalid(t, err, "cursor", "other masters")
		}
	})
}

// TestListIsOfItsNamespace has namespaces that are patterns, or that begin like another one.
func TestListIsOfItsNamespace(t *testing.T) {
	onPlainServers(t, func(t *testing.T, e *env) {
		base := e.namespace
		for _, namespace := range []string{base, base + "*", base + "?", base + "[a]", base + `\`, base + "a"} {
			svc := e.service(func(c *redisidem.Config) { c.Namespace = namespace })
			start(t, svc.Scope(namespace), "k")
			in := &inspected{Inspector: redisidem.NewInspector(svc), svc: svc}
			if got := in.scopes(t, redisidem.Filter{}); !slices.Equal(got, []string{namespace}) {
				t.Errorf("%q lists %q", namespace, got)
			}
		}
	})
}

// TestListEndsWhenItsServerGoesAway stops the server in the middle of a list and of a purge.
func TestListEndsWhenItsServerGoesAway(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	cfg := &redisidem.Config{Timeout: 3 * time.Second}
	svc, err := redisidem.OpenUnchecked("redis://"+server.Addr(), cfg)
	mustBe(t, err, nil)
	t.Cleanup(func() { _ = svc.Close(ctx) })
	for i := range 1200 {
		start(t, svc.Scope("a"), fmt.Sprint(i))
	}
	in := redisidem.NewInspector(svc)
	pages := 0
	for page, err := range in.List(ctx, redisidem.Filter{}, "") {
		pages++
		if pages == 1 {
			mustBe(t, err, nil)
			server.Stop()
			continue
		}
		mustBe(t, err, redisidem.ErrUnavailable)
		if len(page.Keys) > 0 {
			t.Error("a page with an error has keys")
		}
	}
	if pages != 2 {
		t.Errorf("%d pages, want one and an error", pages)
	}
}

// TestListCountsFailuresThatCannotBeRead looks for a text in failures that the codec of the list
// cannot decode.
func TestListCountsFailuresThatCannotBeRead(t *testing.T) {
	inBubble(t, func(b *bubble) {
		values, err := codec.NewEncryption(codec.EncryptionKey{ID: "1", Secret: make([]byte, 32)})
		mustBe(b, err, nil)
		encrypted, plain := b.service(redisidem.Config{Codec: values}), b.service(redisidem.Config{})
		for i := range 3 {
			_, err := encrypted.Scope("a").Do(ctx, fmt.Sprint(i), request, fails(errStage))
			mustBe(b, err, errStage)
		}
		_, err = plain.Scope("b").Do(ctx, "k", request, fails(errStage))
		mustBe(b, err, errStage)
		start(b, plain.Scope("c"), "k")
		for _, c := range []struct {
			filter       redisidem.Filter
			keys, unread int
		}{
			{redisidem.Filter{Failure: errStage.Error()}, 1, 3},
			{redisidem.Filter{Failure: "another"}, 0, 3},
			{redisidem.Filter{Failure: errStage.Error(), Scope: "b"}, 1, 0},
			{redisidem.Filter{Failure: errStage.Error(), States: []redisidem.KeyState{redisidem.KeyDead}}, 0, 0},
			{redisidem.Filter{}, 5, 0},
		} {
			keys, unread := 0, 0
			for page, err := range redisidem.NewInspector(plain).List(ctx, c.filter, "") {
				mustBe(b, err, nil)
				keys, unread = keys+len(page.Keys), unread+page.Unread
			}
			if keys != c.keys || unread != c.unread {
				b.Errorf("%+v has %d keys and %d unread, want %d and %d", c.filter, keys, unread, c.keys, c.unread)
			}
		}
	})
}

// TestListReadsAhead counts the scans that a server has been asked for: none ahead of the first
// page, since many callers want no other, and two ahead of each page behind it.
func TestListReadsAhead(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	svc, err := redisidem.OpenUnchecked("redis://"+server.Addr(), &redisidem.Config{Timeout: 20 * time.Second})
	mustBe(t, err, nil)
	t.Cleanup(func() { _ = svc.Close(ctx) })
	for i := range 900 {
		start(t, svc.Scope("a"), fmt.Sprint(i))
	}
	admin := server.Client()
	defer func() { _ = admin.Close() }()
	scans := func() (n int) {
		info, err := admin.InfoMap(ctx, "commandstats").Result()
		mustBe(t, err, nil)
		_, _ = fmt.Sscanf(info["Commandstats"]["cmdstat_scan"], "calls=%d", &n)
		return n
	}
	before, pages, keys := scans(), 0, 0
	for page, err := range redisidem.NewInspector(svc).List(ctx, redisidem.Filter{}, "") {
		mustBe(t, err, nil)
		pages++
		keys += len(page.Keys)
		want := pages
		if pages > 1 {
			want += 2
		}
		if pages < 5 && scans()-before != want {
			t.Errorf("at page %d there were %d scans, want %d", pages, scans()-before, want)
		}
	}
	if got := scans() - before; got != pages || pages < 8 || keys < 900 {
		t.Errorf("%d scans for %d pages with %d keys", got, pages, keys)
	}
}

// panicCodec panics when it decodes.
type panicCodec struct{}

func (panicCodec) Encode(plain, _ []byte) ([]byte, error) { return plain, nil }

func (panicCodec) Decode([]byte, []byte, int) ([]byte, error) { panic("boom") }

// TestPanicOfACodecReachesTheCallerOfAList has a page behind the first, which is read ahead.
func TestPanicOfACodecReachesTheCallerOfAList(t *testing.T) {
	t.Parallel()
	server := rediscase.Server(t)
	svc, err := redisidem.OpenUnchecked("redis://"+server.Addr(), &redisidem.Config{Codec: panicCodec{}, Timeout: 5 * time.Second})
	mustBe(t, err, nil)
	t.Cleanup(func() { mustBe(t, svc.Close(ctx), nil) })
	for i := range 600 {
		start(t, svc.Scope("a"), fmt.Sprint(i))
	}
	_, err = svc.Scope("a").Do(ctx, "failed", request, fails(errStage))
	mustBe(t, err, errStage)
	defer func() {
		if v := recover(); v != "boom" {
			t.Errorf("the caller recovers %v", v)
		}
	}()
	for _, err := range redisidem.NewInspector(svc).List(ctx, redisidem.Filter{}, "") {
		mustBe(t, err, nil)
	}
	t.Error("the list ended")
}
