package httpidem_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/redisidem/redisidem/redisidem/httpidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// TestReplayHeaderMarksReplays has a handler that sets every field that can mark a replay.
func TestReplayHeaderMarksReplays(t *testing.T) {
	t.Parallel()
	fields := []string{idemheader.Replayed, httpidem.IdempotentReplayedHeader, "X-Replay"}
	for _, c := range []struct {
		name    string
		profile httpidem.Profile
		marks   []string
	}{
		{"", httpidem.ProfileDraft, fields[:1]},
		{"x-replay", httpidem.ProfileDraft, fields[2:]},
		{"x-replay", httpidem.ProfileStripe, fields[2:]},
		{httpidem.IdempotentReplayedHeader, httpidem.ProfileDraft, fields[1:2]},
		{httpidem.NoReplayHeader, httpidem.ProfileDraft, nil},
		{httpidem.NoReplayHeader, httpidem.ProfileStripe, nil},
	} {
		h := newStore(t).middleware(&httpidem.Config{Profile: c.profile, ReplayHeader: c.name}).Handler(http.HandlerFunc(
			func(w http.ResponseWriter, _ *http.Request) {
				for _, name := range append([]string{idemheader.Replayed}, c.marks...) {
					w.Header().Set(name, "true")
				}
				w.WriteHeader(http.StatusCreated)
			}))
		first := call(h, newRequest(t.Context(), "k", "one")).Header()
		again := call(h, newRequest(t.Context(), "k", "one")).Header()
		for _, name := range fields {
			marks := slices.Contains(c.marks, name)
			if first[name] != nil || (again.Get(name) == "true") != marks || httpidem.InList(again["Access-Control-Expose-Headers"], name) != marks {
				t.Errorf("%q, profile %v: %s is %q at first, then %q, exposed %q", c.name, c.profile, name, first[name], again[name], again["Access-Control-Expose-Headers"])
			}
		}
	}
}
