package redisidem_test

import (
	"bytes"
	"testing"

	"github.com/redisidem/redisidem/redisidem"
)

// TestWithFingerprintKeysChangesTheSecrets uses the views of a service whose secret is replaced.
func TestWithFingerprintKeysChangesTheSecrets(t *testing.T) {
	onTwoServers(t, func(t *testing.T, e *env) {
		first, second := bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 16)
		one := e.service(func(c *redisidem.Config) { c.FingerprintKeys = mustFingerprintKeys(t, first) })
		both := one.WithFingerprintKeys(mustFingerprintKeys(t, second, first))
		onlySecond := one.WithFingerprintKeys(mustFingerprintKeys(t, second))
		run := outcome(redisidem.Finish(redisidem.Response{Code: 200}))
		_, err := one.Scope("a").Do(ctx, "old", request, run)
		mustBe(t, err, nil)
		_, err = both.Scope("a").Do(ctx, "new", request, run)
		mustBe(t, err, nil)
		for _, c := range []struct {
			svc      *redisidem.Service
			old, new error
		}{
			{one, nil, redisidem.ErrFingerprintMismatch}, {both, nil, nil}, {onlySecond, redisidem.ErrFingerprintMismatch, nil},
		} {
			_, err = c.svc.Scope("a").Do(ctx, "old", request, never(t))
			mustBe(t, err, c.old)
			_, err = c.svc.Scope("a").Do(ctx, "new", request, never(t))
			mustBe(t, err, c.new)
		}
	})
}
