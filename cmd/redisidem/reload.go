package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/gateway"
)

// reloadInterval is how often the files of a configuration are compared with their contents before.
// Contents are compared and not times, since Kubernetes replaces the files of a ConfigMap by
// changing a symbolic link.
const reloadInterval = 5 * time.Second

// reloadable are the settings that a reload changes, as fields of the configuration file.
var reloadable = []string{
	"upstream", "upstream_timeout", "keep_host", "upstream_ca", "upstream_cert", "upstream_key", "policy_url",
	"jwt_key", "jwt_jwks", "jwt_secret", "jwt_issuer", "jwt_audience", "cors_origin", "cors_credentials", "tls_cert", "tls_key", "tls_client_ca",
	"fingerprint_key",
}

// reloader reloads the configuration of a gateway that serves.
type reloader struct {
	// read reads the configuration anew.
	read func() (*gatewayCommand, error)
	// apply makes a configuration that of the gateway, or leaves the gateway as it is.
	apply func(*gatewayCommand) error
	// done is called with the result of each reload.
	done func(error)
	log  *slog.Logger

	running *gatewayCommand // the configuration that the process began with, with the reloads since

	files []string          // whose changes lead to a reload
	seen  [sha256.Size]byte // the digest of files when they were read
}

// watch makes a configuration that was read the one whose files are compared. Call it before other
// files than that of the configuration are read, so that the next tick notices a change meanwhile.
func (r *reloader) watch(c *gatewayCommand) { r.files, r.seen = c.files(), c.digest() }

// run reloads on each signal, and when the contents of a file have changed, until ctx ends.
func (r *reloader) run(ctx context.Context, signals <-chan os.Signal) {
	ticker := time.NewTicker(reloadInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
		case <-ticker.C:
			if digest(r.files) == r.seen {
				continue
			}
		}
		r.done(r.reload())
	}
}

// reload reads the configuration and applies it. After an error the earlier one stays in use.
func (r *reloader) reload() error {
	r.seen = digest(r.files) // a broken file is not read again before it changes
	next, err := r.read()
	if err == nil {
		r.watch(next)
		err = r.replace(next)
	}
	if err != nil {
		r.log.Error("the configuration was not reloaded: the earlier one stays in use", "error", message(err))
		return err
	}
	r.running = next
	r.log.Info("the configuration was reloaded")
	return nil
}

// replace applies a configuration, unless it has changes that need a restart.
func (r *reloader) replace(next *gatewayCommand) error {
	if fields := r.running.needRestart(next); len(fields) > 0 {
		return fmt.Errorf("changes of these settings need a restart: %s", strings.Join(fields, ", "))
	}
	if err := r.running.content.CheckFingerprints(next.content.Policies); err != nil {
		return next.explain(err)
	}
	return r.apply(next)
}

// needRestart returns the fields that differ in the next configuration and are not reloadable.
func (c *gatewayCommand) needRestart(next *gatewayCommand) (fields []string) {
	now, then := reflect.ValueOf(&c.settings).Elem(), reflect.ValueOf(&next.settings).Elem()
	for _, field := range reflect.VisibleFields(now.Type()) {
		name := field.Tag.Get("yaml")
		if field.Anonymous || slices.Contains(reloadable, name) {
			continue
		}
		if !reflect.DeepEqual(now.FieldByIndex(field.Index).Interface(), then.FieldByIndex(field.Index).Interface()) {
			fields = append(fields, name)
		}
	}
	if c.Upstream != next.Upstream && (c.Upstream == fromEnvoy || next.Upstream == fromEnvoy) { // the listener serves another protocol
		fields = append(fields, "upstream")
	}
	if (len(c.content.JWTIssuers) == 0) != (len(next.content.JWTIssuers) == 0) { // they are in scopes
		fields = append(fields, "jwt_issuers")
	}
	// Under another key, the retry of a request that ran before the reload would find no record.
	return append(fields, c.content.ChangedKeys(next.content.Policies)...)
}

// files returns the names of the files whose changes lead to a reload.
func (c *gatewayCommand) files() []string {
	names := []string{
		c.configName, c.JWTKey, c.JWTKeySet, c.JWTSecret, c.TLSCert, c.TLSKey, c.TLSClientCA, c.UpstreamCA, c.UpstreamCert, c.UpstreamKey,
		c.EncryptionKeyFile,
	}
	names = append(names, c.FingerprintKey...)
	for _, each := range c.content.JWTIssuers {
		names = slices.Concat(names, []string{each.Key, each.KeySet, each.Secret})
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" || gateway.IsURL(name) })
}

// digest returns the digest of the files of a configuration that was read. The configuration file
// counts as it was then.
func (c *gatewayCommand) digest() [sha256.Size]byte {
	return digestWith(c.files(), c.configName, c.configText)
}

// digest returns a digest of the contents of files. A file that cannot be read counts as its error.
func digest(files []string) [sha256.Size]byte { return digestWith(files, "", nil) }

// digestWith is digest with a text in place of the contents of one file, unless the text is nil.
func digestWith(files []string, known string, knownText []byte) [sha256.Size]byte {
	all := sha256.New()
	for _, name := range files {
		text := knownText
		if name != known || text == nil {
			var err error
			if text, err = os.ReadFile(name); err != nil {
				text = []byte(err.Error())
			}
		}
		one := sha256.Sum256(text)
		all.Write(one[:])
	}
	return [sha256.Size]byte(all.Sum(nil))
}
