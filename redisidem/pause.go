package redisidem

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// Pause says that a flow, or one version of it, is paused in all processes: see [Inspector.Pause].
type Pause struct {
	// Flow is what is paused: the name of a flow, or name/version.
	Flow string
	// Clients is whether clients are refused, too, if the flow has FlowConfig.Pausable.
	Clients bool
	// At is the server's time since when the flow is paused.
	At time.Time
	// Actor and Reason are those of the [Act].
	Actor, Reason string
}

// PausedError reports that a flow is paused for clients. It matches [ErrPaused]. The key was not
// claimed, and no attempt was counted: the request can be repeated later with the same key.
type PausedError struct {
	// Pause is the pause, with its reason. The reason is for operators and not for clients.
	Pause Pause
}

func (e *PausedError) Error() string {
	return fmt.Sprintf("redisidem: %s is paused since %s: %s", e.Pause.Flow, e.Pause.At.UTC().Format(time.RFC3339), e.Pause.Reason)
}

// Is reports whether target is [ErrPaused].
func (e *PausedError) Is(target error) bool { return target == ErrPaused }

// pauseLife is the time between two tries of a process to read the pauses.
const pauseLife = time.Second

// pauses is what a process knows about pauses for its clients.
type pauses struct {
	known   atomic.Pointer[knownPauses]
	reading chan struct{} // has room for the one caller that reads
}

// knownPauses are the pauses that were read last.
type knownPauses struct {
	at      time.Time // of the last try to read them
	clients []protocol.Pause
}

func newPauses() *pauses { return &pauses{reading: make(chan struct{}, 1)} }

// fresh returns the last pauses, and whether the last try to read them is within pauseLife.
func (p *pauses) fresh() (*knownPauses, bool) {
	k := p.known.Load()
	return k, k != nil && time.Since(k.at) < pauseLife
}

// pausedForClients returns why clients may not run a flow now, or nil if they may. If Redis does
// not answer, the last answer that this process had stays in force; without one the flow is not
// paused.
func (s *Service) pausedForClients(ctx context.Context, f *Flow) *PausedError {
	if !f.cfg.Pausable {
		return nil
	}
	return s.pauseOf(ctx, f.id)
}

// pauseOf is pausedForClients for a version that may not be Pausable itself.
func (s *Service) pauseOf(ctx context.Context, id string) *PausedError {
	known, ok := s.pauses.fresh()
	if !ok {
		known = s.readPauses(ctx)
	}
	if known == nil {
		return nil
	}
	for _, p := range known.clients {
		if p.Of(id) {
			return &PausedError{Pause(p)}
		}
	}
	return nil
}

// readPauses reads the pauses, unless another caller has done so meanwhile. It returns the last
// pauses that are known, or nil. Config.Timeout bounds it, the wait for other callers included.
func (s *Service) readPauses(ctx context.Context) *knownPauses {
	bounded, cancel := s.bounded(ctx)
	defer cancel()
	select {
	case s.pauses.reading <- struct{}{}:
		defer func() { <-s.pauses.reading }()
	case <-bounded.Done():
		return s.pauses.known.Load()
	}
	known, ok := s.pauses.fresh()
	if ok || s.enter(ctx) != nil {
		return known
	}
	defer s.inFlight.leave()
	read, err := s.redis.Pauses(bounded)
	if err != nil && ctx.Err() != nil {
		return known // the next caller asks
	}
	next := &knownPauses{at: time.Now()}
	switch {
	case err == nil:
		for _, p := range read {
			if p.Clients {
				next.clients = append(next.clients, p)
			}
		}
	case known != nil:
		next.clients = known.clients
	}
	s.pauses.known.Store(next)
	return next
}

// answerPaused answers a client of a paused version of a flow: it returns a finished key as ever,
// and any other key with the pause as the error. If the key belongs to another version of newest
// that is not paused, it returns that version, in which the key goes on. seen is the key as the
// caller knows it, or nil.
func (sc *Scope) answerPaused(ctx context.Context, seen *Key, c claim, newest *Flow, why *PausedError) (key *Key, runs *Flow, err error) {
	s := sc.service
	refuse := func(key *Key, err error) (*Key, *Flow, error) {
		s.observe(ctx, Event{Kind: EventRefused, Key: c.id.Digest, Flow: c.flow.id, Err: err})
		return key, nil, err
	}
	key, err = s.retrieve(ctx, c.id)
	switch {
	case errors.Is(err, ErrNotFound):
		return refuse(seen, why)
	case err != nil:
		return refuse(seen, err)
	}
	if err := sc.checkFingerprint(key, c); err != nil {
		return refuse(seen, err)
	}
	if !key.Finished() {
		if f := newest.version(key.Flow); f != nil && f != c.flow && s.pauseOf(ctx, f.id) == nil {
			return key, f, nil
		}
		return refuse(key, why)
	}
	s.observe(ctx, Event{Kind: EventReplayed, Key: c.id.Digest, Flow: key.Flow, RecoveryPoint: key.RecoveryPoint, Revision: key.Revision})
	key, err = key.result()
	return key, nil, err
}

// checkFingerprint returns [ErrFingerprintMismatch] if a key is not that of a claim's request.
func (sc *Scope) checkFingerprint(key *Key, c claim) error {
	var err error
	if f := c.fingerprint(); f != "" && f != key.fingerprint {
		err = ErrFingerprintMismatch
	}
	if c.request == nil {
		return err
	}
	return sc.service.tryOlderFingerprints(c.request, c.id, err, func(_ int, older *encodedRequest) error {
		if older.fingerprint != key.fingerprint {
			return ErrFingerprintMismatch
		}
		return nil
	})
}
