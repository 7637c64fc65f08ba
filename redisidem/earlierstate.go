package redisidem

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strconv"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// earlierState is the state that a key had before the commit of a revision changed it. It is kept
// for the compensations of earlier commits: each gets the state that the key had after its commit.
// Where several commits before a change are to be undone, they share it.
type earlierState struct {
	revision int64
	stored   string // as in the record: "=" and the encoded state, "-" for none, or "!" for one that was not kept
}

// earlierPrefix is the prefix of the fields with earlier states. The revision follows it. A commit
// cannot remove a field, so that of a state that no longer counts is empty.
const (
	earlierPrefix = "before:"
	earlierValue  = '='
	earlierNone   = "-"
	earlierLost   = "!"
)

// keepEarlierState sets which earlier states the commit of the outcome keeps or drops. flow is nil
// for an outcome by hand, whose state is meant for all compensations. So is the state of an
// adoption, since the earlier version's may have another form. A finished key has no compensations.
//
// The earlier states of a key have no more bytes than the limit of one value: a stage that names
// itself in Next could otherwise fill the record. One that cannot be kept does not stop the commit,
// whose work is done.
func (e *encodedOutcome) keepEarlierState(v valueCodec, id identity, k *Key, flow *Flow) {
	changes := e.hasState && (!k.hasState || !bytes.Equal(e.state, k.state))
	switch {
	case e.point == Finished, e.hasState && (flow == nil || e.adoptedBy != nil):
		e.dropsEarlier = true
	case changes && flow.needsEarlierState(k, e.merges(k)):
		e.keepsEarlier = &earlierState{revision: k.Revision, stored: earlierNone}
		if !k.hasState {
			return
		}
		stored, err := v.encode(id, k.fingerprint, e.keepsEarlier.field(), 0, k.state)
		if n := k.earlierBytes() + 1 + len(stored); err == nil && n > v.limit {
			err = invalid(e.keepsEarlier.field(), "is one of %d bytes of earlier states, more than MaxValueBytes (%d)", n, v.limit)
		}
		if e.keepsEarlier.stored, e.losesEarlier = string(earlierValue)+string(stored), err; err != nil {
			e.keepsEarlier.stored = earlierLost
		}
	}
}

// needsEarlierState reports whether a commit that can be undone has no earlier state yet. merges
// means that the next commit's journal entry replaces the last one.
func (f *Flow) needsEarlierState(k *Key, merges bool) bool {
	if !f.compensates {
		return false
	}
	kept := int64(-1)
	if n := len(k.earlier); n > 0 {
		kept = k.earlier[n-1].revision
	}
	i := len(k.Journal) - 1
	if merges {
		i--
	}
	for ; i >= 0 && k.Journal[i].Revision >= kept; i-- {
		switch stage := f.stages[k.Journal[i].Stage]; {
		case stage == nil:
		case stage.NoReturn && i > k.lastAdoption() && stage.passed(pointAfter(k, i)):
			return false // nothing before it is undone
		case stage.Compensate != nil:
			return true
		}
	}
	return false
}

// earlierFields returns what the commit of the outcome writes about earlier states.
func (e *encodedOutcome) earlierFields(k *Key) (fields []protocol.EarlierState) {
	if e.dropsEarlier {
		for _, s := range k.earlier {
			fields = append(fields, protocol.EarlierState{Field: s.field()})
		}
	}
	if s := e.keepsEarlier; s != nil {
		fields = append(fields, protocol.EarlierState{Field: s.field(), Stored: s.stored})
	}
	return fields
}

// earlierAfter returns the earlier states of the key after the commit of the outcome.
func (e *encodedOutcome) earlierAfter(k *Key) []earlierState {
	switch {
	case e.dropsEarlier:
		return nil
	case e.keepsEarlier != nil:
		return append(k.earlier[:len(k.earlier):len(k.earlier)], *e.keepsEarlier)
	}
	return k.earlier
}

// earlierBytes returns how many bytes the earlier states of the key have.
func (k *Key) earlierBytes() (n int) {
	for i := range k.earlier {
		n += len(k.earlier[i].stored)
	}
	return n
}

// warnOfEarlierStates logs that the commit of an outcome is the first one of a key that did not
// keep the state before it.
func (l *Lease) warnOfEarlierStates(ctx context.Context, key *Key, e *encodedOutcome) {
	if e.losesEarlier == nil || slices.ContainsFunc(key.earlier, func(s earlierState) bool { return s.stored == earlierLost }) {
		return
	}
	l.scope.service.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: an earlier state of a key was not kept; compensations that ask for it get an error",
		attrKey(l.id), slog.String("flow", l.flow.id), slog.String("stage", key.RecoveryPoint), attrErr(e.losesEarlier))
}

// field returns the name of the field in the record. The codec binds the state to it.
func (s *earlierState) field() string { return earlierPrefix + strconv.FormatInt(s.revision, 10) }

// decodeEarlierState reads a field with an earlier state. ok is false if it no longer counts.
func decodeEarlierState(revision, stored string) (s earlierState, ok bool, err error) {
	if s.revision, err = parseCount(earlierPrefix+revision, revision); err != nil {
		return s, false, err
	}
	if stored != "" && stored != earlierNone && stored != earlierLost && stored[0] != earlierValue {
		return s, false, damaged("%s cannot be read", s.field())
	}
	s.stored = stored
	return s, stored != "", nil
}

// stateAfter returns the state that the key had after the commit of a revision. ok is false if it
// had none.
func (k *Key) stateAfter(v valueCodec, revision int64) (state []byte, ok bool, err error) {
	i := slices.IndexFunc(k.earlier, func(s earlierState) bool { return s.revision > revision })
	if i < 0 {
		return k.state, k.hasState, nil
	}
	s := &k.earlier[i]
	switch s.stored {
	case earlierNone:
		return nil, false, nil
	case earlierLost:
		return nil, false, damaged("the state after revision %d was not kept", revision)
	}
	state, err = v.decode(k.id, k.fingerprint, s.field(), 0, []byte(s.stored[1:]))
	return state, err == nil, err
}
