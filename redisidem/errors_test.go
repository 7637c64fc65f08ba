package redisidem_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

func TestSeedM12FailuresAreDistinguished(t *testing.T) {
	inBubble(t, func(b *bubble) {
		sc := b.service(redisidem.Config{}).Scope("a")
		key := start(b, sc, "damaged")
		for _, k := range b.server.Keys() {
			if strings.HasSuffix(k, key.ID()) {
				b.server.HSet(k, "control", "2 from the future")
			}
		}
		lease := locked(b, sc, "held")
		before := b.server.Dump()
		kinds := []error{
			redisidem.ErrLocked, redisidem.ErrFingerprintMismatch, redisidem.ErrDamaged, redisidem.ErrUnavailable,
			redisidem.ErrNotFound,
		}
		mustBeOnly := func(err, want error) {
			b.Helper()
			for _, kind := range kinds {
				if errors.Is(err, kind) != errors.Is(kind, want) {
					b.Errorf("error is %v, want %v and nothing else", err, want)
				}
			}
		}
		_, err := sc.Do(ctx, "held", request, never(b))
		mustBeOnly(err, redisidem.ErrLocked)
		_, err = sc.InitializeRequest(ctx, "held", otherRequests["params"])
		mustBeOnly(err, redisidem.ErrFingerprintMismatch)
		_, err = sc.InitializeRequest(ctx, "damaged", request)
		mustBeOnly(err, redisidem.ErrDamaged)
		_, err = sc.Retrieve(ctx, "absent")
		mustBeOnly(err, redisidem.ErrNotFound)
		b.freeze()
		_, err = sc.InitializeRequest(ctx, "absent", request)
		mustBeOnly(err, redisidem.ErrUnavailable)
		_, err = sc.Do(ctx, "absent", request, never(b))
		mustBeOnly(err, redisidem.ErrUnavailable)
		b.thaw()
		if after := b.server.Dump(); after != before {
			b.Errorf("changed:\n%s\nto:\n%s", before, after)
		}
		time.Sleep(2 * time.Second) // the client's pool dials again after a second
		mustBe(b, lease.Abandon(ctx), nil)
	})
}
