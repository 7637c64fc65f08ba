package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// replaceFile replaces a file as Kubernetes replaces those of a ConfigMap: by a link to another
// file.
func replaceFile(t *testing.T, file, text string) {
	t.Helper()
	data, err := os.CreateTemp(filepath.Dir(file), "data")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := data.WriteString(text); err != nil {
		t.Fatal(err)
	}
	link := data.Name() + ".link"
	if err := errors.Join(data.Close(), os.Symlink(data.Name(), link), os.Rename(link, file)); err != nil {
		t.Fatal(err)
	}
}

func TestReloadsOnChangedContents(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	replaceFile(t, file, "one")
	synctest.Test(t, func(t *testing.T) {
		var reads, applied, failed atomic.Int64
		var fails atomic.Bool
		r := &reloader{
			read: func() (*gatewayCommand, error) {
				reads.Add(1)
				if fails.Load() {
					return nil, errors.New("broken")
				}
				return &gatewayCommand{configName: file}, nil
			},
			apply: func(*gatewayCommand) error { return nil },
			done: func(err error) {
				if err != nil {
					failed.Add(1)
				} else {
					applied.Add(1)
				}
			},
			log:     slog.New(slog.DiscardHandler),
			running: &gatewayCommand{configName: file},
		}
		r.watch(r.running)
		replaceFile(t, file, "changed before the loop")
		ctx, cancel := context.WithCancel(t.Context())
		signals := make(chan os.Signal)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r.run(ctx, signals)
		}()
		after := func(what string, wantApplied, wantFailed int64) {
			t.Helper()
			time.Sleep(reloadInterval)
			synctest.Wait()
			if n, a, f := reads.Load(), applied.Load(), failed.Load(); a != wantApplied || f != wantFailed || n != a+f {
				t.Errorf("%s: %d reads, %d applied and %d failed, want %d and %d", what, n, a, f, wantApplied, wantFailed)
			}
		}
		after("a file that changed before the loop", 1, 0)
		after("nothing has changed", 1, 0)
		replaceFile(t, file, "changed before the loop")
		after("another file has the same contents", 1, 0)
		replaceFile(t, file, "two")
		after("the contents have changed", 2, 0)
		after("nothing has changed again", 2, 0)
		signals <- syscall.SIGHUP
		after("a signal", 3, 0)
		fails.Store(true)
		replaceFile(t, file, "broken")
		after("the contents are broken", 3, 1)
		after("a broken file is not read again", 3, 1)
		fails.Store(false)
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		after("the file is gone", 4, 1)
		cancel()
		<-ended
	})
}

// TestReloadWatchesWhatItHasRead has a configuration file that changes right after it was read, and
// a configuration that names another file.
func TestReloadWatchesWhatItHasRead(t *testing.T) {
	t.Parallel()
	file, key := filepath.Join(t.TempDir(), "gateway.yaml"), filepath.Join(t.TempDir(), "key.pem")
	replaceFile(t, file, "later")
	r := &reloader{log: slog.New(slog.DiscardHandler), running: &gatewayCommand{configName: file}}
	next := &gatewayCommand{configName: file, configText: []byte("earlier")}
	next.JWTKey = key
	r.read = func() (*gatewayCommand, error) { return next, nil }
	r.apply = func(*gatewayCommand) error {
		replaceFile(t, key, "a key that comes while the configuration is applied")
		return errors.New("there was no key")
	}
	r.watch(r.running)
	for _, c := range []struct{ text, key string }{{"earlier", ""}, {"later", "a key"}} {
		next.configText = []byte(c.text)
		if err := r.reload(); err == nil || !slices.Equal(r.files, next.files()) {
			t.Errorf("the error is %v, and these files are compared: %q", err, r.files)
		}
		replaceFile(t, key, c.key)
		if digest(r.files) == r.seen {
			t.Errorf("with %+v nothing seems to have changed", c)
		}
	}
	replaceFile(t, key, "b")
	next.configText = []byte("later")
	r.apply = func(*gatewayCommand) error { return nil }
	if err := r.reload(); err != nil || digest(r.files) != r.seen {
		t.Errorf("although nothing has changed, something seems to have: %v", err)
	}
}

func TestSettingsThatNeedARestart(t *testing.T) {
	t.Parallel()
	now, next := &gatewayCommand{}, &gatewayCommand{}
	next.Upstream, next.CORSOrigins, next.TLSCert, next.JWTKey = "http://x", []string{"*"}, "c.pem", "k.pem"
	if fields := now.needRestart(next); len(fields) != 0 {
		t.Errorf("these need a restart: %v", fields)
	}
	next.Listen, next.Redis, next.Lease, next.Scope = ":1", "redis://x", time.Second, "unscoped"
	next.Console.Write = true
	next.content.JWTIssuers = []issuer{{Issuer: "one"}}
	fields := now.needRestart(next)
	slices.Sort(fields)
	if strings.Join(fields, " ") != "console jwt_issuers lease listen redis scope" {
		t.Errorf("these need a restart: %v", fields)
	}
}

func TestPlacesOfKeysNeedARestart(t *testing.T) {
	t.Parallel()
	// read returns a configuration with one route and defaults.
	read := func(defaults, match, route string) *gatewayCommand {
		t.Helper()
		c, err := configured(t, "defaults: {"+defaults+"}\nroutes: [{match: "+match+", "+route+"}]\n", "--config", "CONFIG")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	now := read("key: required", "POST /a", "key_from: [{body: /id}]")
	for _, c := range []struct{ defaults, match, route, want string }{
		{"key: required", "POST /a", "key_from: [{body: /id}]", ""},
		{"key: required", "POST /b", "key: optional", "routes[POST /a].key_from"},
		{"key: required", "POST /b", "key_from: [{body: /no}]", "routes[POST /a].key_from routes[POST /b].key_from"},
		{"key: required", "POST /a", "key_from: [{body: /no}]", "routes[POST /a].key_from"},
		{"key: required", "post /a", "key_from: [{body: /id}], key_prefix: x", "routes[POST /a].key_prefix"},
		{"key_from: [{query: id}]", "POST /a", "key_from: [{body: /id}]", "defaults.key_from"},
		{"key_from: [{body: /id}]", "POST /a", "key: required", "defaults.key_from"},
		{"key_from: [{body: /id}]", "POST /a", "wait: 3s", "defaults.key_from"},
	} {
		next := read(c.defaults, c.match, c.route)
		if got := strings.Join(now.needRestart(next), " "); got != c.want {
			t.Errorf("%+v: these need a restart: %q", c, got)
		}
	}
}

// TestReloadRefusesAnotherFingerprint changes the fingerprint of requests whose keys may be live. A
// retry would be answered as another request, which invites clients to send it with another key.
func TestReloadRefusesAnotherFingerprint(t *testing.T) {
	t.Parallel()
	const route = "routes:\n  - {match: POST /a, fingerprint: {fields: [b, a]}}\n"
	for _, c := range []struct{ now, next, want string }{
		{"", "", ""},
		{"", "defaults: {fingerprint: {body: bytes}}\n", ""},
		{"", "defaults: {fingerprint: {fields: [a]}}\n", "gateway.yaml:1:12: defaults.fingerprint: differs from the fingerprint of earlier requests, whose retries would be answered as other requests: for one retention, other_fingerprints needs {}"},
		{"", "defaults: {fingerprint: {fields: [a]}, other_fingerprints: [{}]}\n", ""},
		{"", "defaults: {protect: false, fingerprint: {fields: [a]}}\n", "gateway.yaml:1:28: defaults.fingerprint"},
		{"defaults: {protect: false}\n", "defaults: {protect: false, fingerprint: {fields: [a]}}\n", ""},
		{"", route, "gateway.yaml:2:22: routes[0].fingerprint"},
		{"", "routes: [{match: GET /a, fingerprint: {body: json}}]\n", ""},
		{route, "", "gateway.yaml:1:1: defaults.fingerprint: differs from"},
		{route, "defaults: {key: required}\n", `gateway.yaml:1:1: defaults.fingerprint: differs from the fingerprint of earlier requests, whose retries would be answered as other requests: for one retention, other_fingerprints needs {"fields":["a","b"]}`},
		{route, "defaults: {other_fingerprints: [{fields: [a, b]}]}\n", ""},
		{route, route, ""},
		{route, "routes:\n  - {match: POST /a, fingerprint: {fields: [a, b, a]}}\n", ""},
		{route, "routes:\n  - {match: POST /a, fingerprint: {fields: [a]}}\n", `other_fingerprints needs {"fields":["a","b"]}`},
		{route, "routes:\n  - {match: POST /a, fingerprint: {fields: [a]}, other_fingerprints: [{fields: [b, a]}]}\n", ""},
		{route, "routes:\n  - {match: POST /a, fingerprint: {fields: [a], headers: [X-A]}}\n", "gateway.yaml:2:22: routes[0].fingerprint"},
		{route, "routes:\n  - {match: POST /a, fingerprint: {fields: [b, a], any_host: true}}\n", "gateway.yaml:2:22: routes[0].fingerprint"},
	} {
		now, err := configured(t, c.now, "--config", "CONFIG")
		if err != nil {
			t.Fatal(err)
		}
		next, err := configured(t, c.next, "--config", "CONFIG")
		if err != nil {
			t.Fatal(err)
		}
		applied := false
		r := &reloader{running: now, log: slog.New(slog.DiscardHandler), apply: func(*gatewayCommand) error {
			applied = true
			return nil
		}}
		err = r.replace(next)
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)), applied != (err == nil):
			t.Errorf("from %q to %q: %v, want %q", c.now, c.next, err, c.want)
		}
	}
}

func TestIssuersNeedARestartIfScopesChange(t *testing.T) {
	t.Parallel()
	one, two := []issuer{{Issuer: "one"}}, []issuer{{Issuer: "one"}, {Issuer: "two"}}
	for _, c := range []struct {
		now, next []issuer
		want      int
	}{{nil, nil, 0}, {nil, one, 1}, {one, nil, 1}, {one, two, 0}} {
		now, next := &gatewayCommand{}, &gatewayCommand{}
		now.content.JWTIssuers, next.content.JWTIssuers = c.now, c.next
		if fields := now.needRestart(next); len(fields) != c.want {
			t.Errorf("from %d to %d issuers, these need a restart: %v", len(c.now), len(c.next), fields)
		}
	}
}

func TestReloadThatNeedsARestartAppliesNothing(t *testing.T) {
	t.Parallel()
	now, next := &gatewayCommand{}, &gatewayCommand{}
	next.Listen, next.Scope, next.Upstream = ":1", "unscoped", "http://x"
	r := &reloader{
		read: func() (*gatewayCommand, error) { return next, nil },
		apply: func(*gatewayCommand) error {
			t.Error("it was applied")
			return nil
		},
		log: slog.New(slog.DiscardHandler), running: now,
	}
	err := r.reload()
	if err == nil || !strings.Contains(err.Error(), "listen, scope") || r.running != now {
		t.Errorf("the error is %v", err)
	}
	next.Listen, next.Scope = "", ""
	applied := false
	r.apply = func(*gatewayCommand) error {
		applied = true
		return nil
	}
	if err := r.reload(); err != nil || !applied || r.running != next {
		t.Errorf("without those settings: %v", err)
	}
}

// eventually waits until a condition is true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	within(t, 20*time.Second, what, is)
}

func within(t *testing.T, limit time.Duration, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s has not happened", what)
		}
	}
}

// TestGatewayReloads changes the routes and the certificate of a gateway process.
func TestGatewayReloads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "gateway.yaml")
	ca, next := newAuthority(t), newAuthority(t)
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	ca.issue(t, "one").write(t, cert, key)
	up := newUpstream(t, nil)
	base := "upstream: " + up.URL + "\nscope: unscoped\ntls_cert: " + cert + "\ntls_key: " + key + "\n"
	replaceFile(t, file, base+"defaults: {key: required}\n")
	p := start(t, "", "--config", file)

	client := func(ca *identity) *http.Client {
		pool := x509.NewCertPool()
		pool.AddCert(ca.certificate)
		transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
		return &http.Client{Transport: transport}
	}
	status := func(c *http.Client) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/orders", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(r)
		if err != nil {
			return 0
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	metric := func(line string) func() bool {
		return func() bool {
			_, text := get(t, p.admin+"/metrics")
			return strings.Contains(text, line)
		}
	}
	hangup := func() {
		if err := p.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	if got := status(client(ca)); got != 400 {
		t.Fatalf("a request without a key gets %d", got)
	}

	replaceFile(t, file, base+"defaults: {key: never}\n")
	hangup()
	eventually(t, "a failed reload", metric("redisidem_config_last_reload_successful 0"))
	eventually(t, "its reason in the log", func() bool { return strings.Contains(p.text(), "gateway.yaml:5:12: defaults.key: must be") })
	if got := status(client(ca)); got != 400 {
		t.Errorf("after a failed reload the answer is %d", got)
	}

	next.issue(t, "two").write(t, cert, key)
	for name, text := range map[string]string{
		"lease": base + "lease: 5s\n", "scope": strings.Replace(base, "scope: unscoped", "scope: header:X-Tenant", 1),
	} {
		replaceFile(t, file, text+"defaults: {key: optional}\n")
		hangup()
		eventually(t, "a refused change of "+name, func() bool { return strings.Contains(p.text(), "need a restart: "+name) })
		if got := status(client(ca)); got != 400 || !metric("redisidem_config_last_reload_successful 0")() {
			t.Errorf("after a change of %s was refused, the answer is %d", name, got)
		}
	}

	replaceFile(t, file, base+"defaults: {key: optional}\n")
	hangup()
	eventually(t, "a reload", metric(`redisidem_config_reloads_total{result="applied"} 1`))
	if got := status(client(next)); got != 201 || !metric("redisidem_config_last_reload_successful 1")() {
		t.Errorf("after the reload the answer is %d", got)
	}
	if got := status(client(ca)); got != 0 {
		t.Errorf("a client that trusts the earlier certificate gets %d", got)
	}
}

// TestReloadedAuthorityEndsConnections replaces the authority of client certificates under an open
// connection.
func TestReloadedAuthorityEndsConnections(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key, clientCA := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem")
	first, next := newAuthority(t), newAuthority(t)
	first.issue(t, "gateway").write(t, cert, key)
	first.write(t, clientCA, "")
	up := newUpstream(t, nil)
	p := start(t, "", "--upstream", up.URL, "--scope", "certificate", "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", clientCA)
	roots := x509.NewCertPool()
	roots.AddCert(first.certificate)
	client := func(own *identity) *http.Client {
		c := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own.pair()}, MinVersion: tls.VersionTLS12}
		return &http.Client{Transport: &http.Transport{TLSClientConfig: c}}
	}
	early := client(first.issue(t, "one"))
	if got, err := post(t.Context(), early, p.url, "k"); err != nil || got.status != http.StatusCreated {
		t.Fatalf("the client gets %+v, %v", got, err)
	}
	next.write(t, clientCA, "")
	if err := p.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a reload", func() bool { return strings.Contains(p.text(), "the configuration was reloaded") })
	if got, err := post(t.Context(), early, p.url, "k"); err == nil && got.status != http.StatusUnauthorized {
		t.Errorf("on its open connection the client gets %+v", got)
	}
	if got, err := post(t.Context(), client(next.issue(t, "one")), p.url, "k"); err != nil || got.status != http.StatusCreated {
		t.Errorf("a client of the next authority gets %+v, %v", got, err)
	}
}
