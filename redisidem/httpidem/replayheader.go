package httpidem

import (
	"net/http"
	"slices"

	"github.com/redisidem/redisidem/internal/httptoken"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// NoReplayHeader is a Config.ReplayHeader with which replays are not marked.
const NoReplayHeader = "none"

// maxReplayHeaderBytes bounds the length of Config.ReplayHeader.
const maxReplayHeaderBytes = 64

// validateReplayHeader returns an error for a name whose field has another meaning or may be
// stored.
func (c *Config) validateReplayHeader() error {
	name := http.CanonicalHeaderKey(c.ReplayHeader)
	_, stored := c.storedFields()[name]
	switch {
	case c.ReplayHeader == "", c.ReplayHeader == NoReplayHeader, slices.Contains(ProfileStripe.marks(), name):
		return nil
	case !httptoken.Valid(name) || len(name) > maxReplayHeaderBytes:
		return invalid("Config.ReplayHeader", "must be the name of a header field of at most %d bytes, or %s: %q", maxReplayHeaderBytes, NoReplayHeader, c.ReplayHeader)
	case stored || !mayBeStored(name, c.Key.Header):
		return invalid("Config.ReplayHeader", "must not be a field with another meaning, or one that is stored: %q", c.ReplayHeader)
	}
	return nil
}

// marks returns the fields with which a profile marks replays.
func (f Profile) marks() []string {
	if f == ProfileStripe {
		return []string{idemheader.Replayed, IdempotentReplayedHeader}
	}
	return []string{idemheader.Replayed}
}

// replayMarks returns the canonical names of the fields that are true on each replay.
func (c *Config) replayMarks() []string {
	switch c.ReplayHeader {
	case "":
		return c.Profile.marks()
	case NoReplayHeader:
		return nil
	}
	return []string{http.CanonicalHeaderKey(c.ReplayHeader)}
}

// markReplay marks a response as a replay.
func (m *Middleware) markReplay(h http.Header) {
	for _, name := range m.replayMarks {
		h.Set(name, "true")
	}
	if m.cfg.Profile == ProfileStripe {
		h.Set(ShouldRetryHeader, "false") // a stored response never changes
	}
}

// removeMarks removes what a handler says about keys of its own.
func (m *Middleware) removeMarks(h http.Header) {
	for _, name := range m.replayMarks {
		delete(h, name)
	}
	for _, name := range m.profileMarks {
		delete(h, name)
	}
}
