package gateway

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// newLimits returns Limits whose configuration is valid.
func newLimits(t testing.TB, cfg LimitsConfig) *Limits {
	t.Helper()
	l, err := NewLimits(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestS6_LimitsForgetWhatIsOver looks at windows, and at the memory for scopes that use nothing any
// more.
func TestS6_LimitsForgetWhatIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(t, LimitsConfig{Stored: 2, Window: time.Hour})
		use := func(scope string) error {
			done, err := l.Admit(t.Context(), scope)
			if err == nil {
				done(true)
			}
			return err
		}
		for range 2 {
			if err := use("a"); err != nil {
				t.Error(err)
			}
		}
		full := (*httpidem.QuotaError)(nil)
		if err := use("a"); !errors.As(err, &full) || full.Limit != 2 || full.RetryAfter < time.Hour || full.RetryAfter > 68*time.Minute ||
			strings.Contains(fmt.Sprint(err), `"a"`) {
			t.Fatalf("%+v", err)
		}
		almost := newLimits(t, LimitsConfig{Stored: 2, Window: time.Hour})
		if done, err := almost.Admit(t.Context(), "a"); err == nil {
			done(true)
		}
		if _, err := almost.Admit(t.Context(), "a"); err != nil { // and it stays in flight
			t.Error(err)
		}
		soon := (*httpidem.QuotaError)(nil)
		if _, err := almost.Admit(t.Context(), "a"); !errors.As(err, &soon) || soon.RetryAfter != time.Second {
			t.Errorf("%+v", err)
		}
		time.Sleep(59 * time.Minute)
		if err := use("a"); err == nil {
			t.Error("records were forgotten too early")
		}
		time.Sleep(full.RetryAfter - 59*time.Minute)
		for range 2 {
			if err := use("a"); err != nil {
				t.Error(err)
			}
		}
		for i := range 10_000 {
			if err := use(strconv.Itoa(i)); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(2 * time.Hour)
		for i := range 10_000 {
			done, err := l.Admit(t.Context(), "more"+strconv.Itoa(i))
			if err != nil {
				t.Error(err)
				continue
			}
			done(false)
		}
		for i := range 30_000 {
			_, _ = l.Admit(t.Context(), "last"+strconv.Itoa(i))
		}
		if n := len(l.scopes); n != 30_000 {
			t.Errorf("%d scopes are kept", n)
		}
	})
}

func TestLimitsOutOfTheirBounds(t *testing.T) {
	t.Parallel()
	for text, cfg := range map[string]LimitsConfig{
		"--scope-in-flight must not be negative: -1": {InFlight: -1}, "--scope-keys must not be negative: -1": {Stored: -1},
		"needs InFlight or Stored": {}, "Window must be at least 16ms: 1ms": {Stored: 1, Window: time.Millisecond},
	} {
		if _, err := NewLimits(cfg); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v, want %q", cfg, err, text)
		}
	}
}
