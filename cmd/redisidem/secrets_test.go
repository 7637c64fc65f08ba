package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/redisidem/codec"
)

// TestSecretsAreReplacedUnderLoad replaces the secrets of a gateway process, while requests and
// their retries go on.
func TestSecretsAreReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	store, up, dir := miniredis.RunT(t), newUpstream(t, nil), t.TempDir()
	file, ring := filepath.Join(dir, "gateway.yaml"), filepath.Join(dir, "keys")
	var fingerprints [3]string
	for i := range fingerprints {
		fingerprints[i] = filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(fingerprints[i], []byte(strings.Repeat(fmt.Sprint(i), 16)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write := func(keys []string, secrets ...string) {
		text, err := os.ReadFile(keyRing(t, keys...))
		if err != nil {
			t.Fatal(err)
		}
		replaceFile(t, ring, string(text))
		replaceFile(t, file, "upstream: "+up.URL+"\nscope: unscoped\nencryption_key_file: "+ring+"\nfingerprint_key: ["+strings.Join(secrets, ", ")+"]\n")
	}
	write([]string{"k1"}, fingerprints[1])
	p := start(t, store.Addr(), "--config", file)
	reloads := 0
	reload := func(wanted string) {
		if err := p.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		eventually(t, wanted, func() bool { return strings.Count(p.text(), wanted) > reloads })
	}
	if a := mustPost(t, p.url, "early"); a.status != http.StatusCreated {
		t.Fatalf("%+v", a)
	}

	const workers, most = 3, 300
	var all sync.WaitGroup
	var stop atomic.Bool
	var keys atomic.Int64
	for w := range workers {
		all.Go(func() {
			for i := 0; i < most && !stop.Load(); i++ {
				key := fmt.Sprintf("load-%d-%d", w, i)
				keys.Add(1)
				first, err := post(t.Context(), http.DefaultClient, p.url, key)
				again, errAgain := post(t.Context(), http.DefaultClient, p.url, key)
				if err != nil || errAgain != nil || first.status != http.StatusCreated || !again.replayed || again.body != first.body {
					t.Errorf("%s: %+v, %v, again %+v, %v", key, first, err, again, errAgain)
					return
				}
			}
		})
	}
	served := func(more int64) {
		want := keys.Load() + more
		eventually(t, "more requests", func() bool { return keys.Load() >= want || t.Failed() })
	}
	served(10)
	const applied, refused = "the configuration was reloaded", "the configuration was not reloaded"
	write([]string{"k1", "k2"}, fingerprints[1], fingerprints[2])
	reload(applied)
	served(10)
	reloads = strings.Count(p.text(), applied)
	write([]string{"k2", "k1"}, fingerprints[2], fingerprints[1])
	reload(applied)
	served(10)
	stop.Store(true)
	all.Wait()

	if a := mustPost(t, p.url, "early"); !a.replayed {
		t.Errorf("the answer from before: %+v", a)
	}
	store.FlushAll()
	if a := mustPost(t, p.url, "late"); a.status != http.StatusCreated {
		t.Errorf("%+v", a)
	}
	if dump := store.Dump(); !strings.Contains(dump, `\x02k2`) || strings.Contains(dump, `\x02k1`) {
		t.Errorf("the record is not encrypted with k2: %q", dump)
	}
	if got, want := up.runs.Load(), keys.Load()+2; got != want {
		t.Errorf("the upstream ran %d times for %d keys", got, want)
	}

	// The secrets in use must not go away.
	reloads = 0
	write([]string{"k3"}, fingerprints[2])
	reload("must still have the key k2")
	write([]string{"k2"}, fingerprints[1])
	reload("must still have the secret that was the first one")
	if a := mustPost(t, p.url, "late"); !a.replayed || !strings.Contains(p.text(), refused) {
		t.Errorf("after refused reloads: %+v", a)
	}
	// A retry of a request whose secret is not in the ring any more is another request.
	write([]string{"k3", "k2"}, fingerprints[0], fingerprints[2])
	reloads = strings.Count(p.text(), applied)
	reload(applied)
	reloads = strings.Count(p.text(), applied)
	write([]string{"k3", "k2"}, fingerprints[0])
	reload(applied)
	if a := mustPost(t, p.url, "late"); a.status != http.StatusUnprocessableEntity {
		t.Errorf("without the secret of its fingerprint: %+v", a)
	}
}

func TestSecretsInUseMustStay(t *testing.T) {
	t.Parallel()
	one, two := codec.EncryptionKey{ID: "k1", Secret: []byte("one")}, codec.EncryptionKey{ID: "k2", Secret: []byte("two")}
	other := codec.EncryptionKey{ID: "k1", Secret: []byte("other")}
	a, b := []byte("a"), []byte("b")
	for name, c := range map[string]struct {
		now, next secrets
		fits      bool
	}{
		"none":                {secrets{}, secrets{}, true},
		"added":               {secrets{}, secrets{[]codec.EncryptionKey{one}, [][]byte{a, nil}}, true},
		"put to the front":    {secrets{[]codec.EncryptionKey{one, two}, [][]byte{a, b, nil}}, secrets{[]codec.EncryptionKey{two, one}, [][]byte{b, a, nil}}, true},
		"old ones removed":    {secrets{[]codec.EncryptionKey{two, one}, [][]byte{b, a, nil}}, secrets{[]codec.EncryptionKey{two}, [][]byte{b, nil}}, true},
		"key removed":         {secrets{[]codec.EncryptionKey{one, two}, nil}, secrets{[]codec.EncryptionKey{two}, nil}, false},
		"another secret":      {secrets{[]codec.EncryptionKey{one}, nil}, secrets{[]codec.EncryptionKey{two, other}, nil}, false},
		"secret removed":      {secrets{nil, [][]byte{a, b, nil}}, secrets{nil, [][]byte{b, nil}}, false},
		"all secrets removed": {secrets{nil, [][]byte{a, nil}}, secrets{}, false},
	} {
		if err := c.now.follow(&c.next); (err == nil) != c.fits {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCodecsThatAreNil(t *testing.T) {
	t.Parallel()
	if r := newReplaceableCodec(nil); r != nil {
		t.Errorf("%v", r)
	}
	var none *replaceableCodec
	none.replace(nil) // it does not panic
	compression, err := codec.NewCompression(compressFrom)
	if err != nil {
		t.Fatal(err)
	}
	r := newReplaceableCodec(compression)
	r.replace(nil)
	if _, err := r.Encode([]byte("plain"), nil); err != nil {
		t.Error(err)
	}
}
