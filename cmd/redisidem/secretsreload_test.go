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
	policy := 0 // the number of the configuration, which is in its policy_url
	write := func(keys []string, secrets ...string) {
		text, err := os.ReadFile(keyRing(t, keys...))
		if err != nil {
			t.Fatal(err)
		}
		policy++
		replaceFile(t, ring, string(text))
		replaceFile(t, file, fmt.Sprintf("upstream: %s\nscope: unscoped\nencryption_key_file: %s\nfingerprint_key: [%s]\npolicy_url: https://docs.example/%d/\n",
			up.URL, ring, strings.Join(secrets, ", "), policy))
	}
	write([]string{"k1"}, fingerprints[1])
	p := start(t, store.Addr(), "--config", file)
	reload := func(what string, is func() bool) {
		if err := p.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		eventually(t, what, is)
	}
	// The gateway also looks at the files by itself, so that its log does not say which of the
	// configurations it uses.
	applied := func() {
		want := fmt.Sprintf("<https://docs.example/%d/>", policy)
		reload(want, func() bool { return strings.Contains(policyLink(t, p.url), want) })
	}
	refused := func(why string) { reload(why, func() bool { return strings.Contains(p.text(), why) }) }
	if a := mustPost(t, p.url, "early"); a.status != http.StatusCreated {
		t.Fatalf("%+v", a)
	}

	const workers = 3
	var all sync.WaitGroup
	var stop atomic.Bool
	var keys atomic.Int64
	end := func() {
		stop.Store(true)
		all.Wait()
	}
	defer end()
	for w := range workers {
		all.Go(func() {
			for i := 0; !stop.Load(); i++ {
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
	write([]string{"k1", "k2"}, fingerprints[1], fingerprints[2])
	applied()
	served(10)
	write([]string{"k2", "k1"}, fingerprints[2], fingerprints[1])
	applied()
	served(10)
	end()

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
	write([]string{"k3"}, fingerprints[2])
	refused("must still have the key k2")
	write([]string{"k2"}, fingerprints[1])
	refused("must still have the secret that was the first one")
	if a := mustPost(t, p.url, "late"); !a.replayed {
		t.Errorf("after refused reloads: %+v", a)
	}
	// A retry of a request whose secret is not in the ring any more is another request.
	write([]string{"k3", "k2"}, fingerprints[0], fingerprints[2])
	applied()
	write([]string{"k3", "k2"}, fingerprints[0])
	applied()
	if a := mustPost(t, p.url, "late"); a.status != http.StatusUnprocessableEntity {
		t.Errorf("without the secret of its fingerprint: %+v", a)
	}
}

// policyLink returns the Link of a problem, which names the policy of the API.
func policyLink(t *testing.T, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Idempotency-Key", `"malformed`)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.Header.Get("Link")
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
