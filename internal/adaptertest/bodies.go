package adaptertest

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// spoolAbove is the least SpoolConfig.Above.
const spoolAbove = 64 << 10

// bodyCase is a size of a request body, and the limit for it.
type bodyCase struct {
	size, limit int64
	spooled     bool // larger bodies than spoolAbove are held in files
}

// Bodies tests that handlers get the whole body of a request, whether it is protected or passes
// without protection because it is too large.
func Bodies(t *testing.T, serve ServeFunc) {
	t.Helper()
	for name, b := range map[string]bodyCase{
		"Empty":         {0, 1000, false},
		"Small":         {5, 1000, false},
		"AtTheLimit":    {100_000, 100_000, false},
		"OverTheLimit":  {100_001, 100_000, false},
		"FarOver":       {1 << 20, 100_000, false},
		"Spooled":       {3 * spoolAbove, 1 << 20, true},
		"SpoolAtLimit":  {3 * spoolAbove, 3 * spoolAbove, true},
		"SpoolOver":     {3*spoolAbove + 1, 3 * spoolAbove, true},
		"SpoolFarOver":  {1 << 20, 3 * spoolAbove, true},
		"OverInMemory":  {2001, 2000, true},
		"InFrontOfFile": {spoolAbove, 1 << 20, true},
	} {
		for transfer, chunked := range map[string]bool{"Length": false, "Chunked": true} {
			t.Run(name+"/"+transfer, func(t *testing.T) {
				t.Parallel()
				b.test(t, serve, chunked)
			})
		}
	}
}

func (b bodyCase) test(t *testing.T, serve ServeFunc, chunked bool) {
	t.Helper()
	cfg := &httpidem.Config{Key: httpidem.KeyConfig{Optional: true}, MaxBodyBytes: b.limit, PassTooLarge: true}
	if b.spooled {
		var err error
		if cfg.Spool, err = httpidem.NewSpool(&httpidem.SpoolConfig{Dir: t.TempDir()}); err != nil {
			t.Fatal(err)
		}
	}
	s := Framework{Serve: serve}.open(t, cfg, func(c Call) error { return c.Write(200, digestOf(c.Body())) }, App{})
	change := func(r *http.Request) {
		if chunked {
			r.ContentLength = -1
		}
	}
	text := numbered(int(b.size))
	first := s.Post("k", text, change)
	if first.StatusCode != http.StatusOK || first.Body != digestOf(text) {
		t.Errorf("the body is %s, and the handler got %d %s", digestOf(text), first.StatusCode, first.Body)
	}
	again := s.Post("k", text, change)
	if b.size > b.limit {
		if again.StatusCode != http.StatusOK || again.Body != first.Body || again.Replayed() {
			t.Errorf("got %d %s, replayed: %t", again.StatusCode, again.Body, again.Replayed())
		}
		s.WantRuns(2)
		if n := s.Count(httpidem.ResultOversize); n != 2 {
			t.Errorf("%d requests were too large", n)
		}
		return
	}
	WantReplay(t, again, first)
	if bare := s.Post("", text, change, WithoutKey); bare.Body != first.Body || bare.Replayed() {
		t.Errorf("without a key the handler got %d %s", bare.StatusCode, bare.Body)
	}
	s.WantRuns(2)
	if b.spooled {
		Eventually(t, "an empty spool", func() bool { return cfg.Spool.Bytes() == 0 })
	}
}

// numbered returns a text of a length whose parts differ.
func numbered(length int) string {
	var b strings.Builder
	for i := 0; b.Len() < length; i++ {
		_, _ = fmt.Fprintf(&b, "%d,", i)
	}
	return b.String()[:length]
}

// digestOf returns the length and the digest of a body.
func digestOf(body string) string {
	return fmt.Sprintf("%d bytes, %x", len(body), sha256.Sum256([]byte(body)))
}
