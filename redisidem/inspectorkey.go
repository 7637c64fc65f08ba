package redisidem

import (
	"strconv"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// KeyState is what happens to a key at the moment, for an operator. It follows from the record, its
// lock and the due index of its flow.
type KeyState int

// The states of keys, in the order in which they are checked.
const (
	// KeyUnreadable: the record is damaged, or of a schema version that this library does not know.
	KeyUnreadable KeyState = iota + 1
	// KeyFinished: the record has the answer and does not change any more.
	KeyFinished
	// KeyInFlight: the lock is taken, so a worker has the lease.
	KeyInFlight
	// KeyDead: a Completer gave the key up. It waits for [Inspector.Requeue], [Inspector.Resolve]
	// or its client.
	KeyDead
	// KeyAbandoned: the record has a lease that was not given back, and its lock has lapsed. The
	// worker died or lost Redis, or is stopped. The next claim starts another attempt.
	KeyAbandoned
	// KeyInterim: the key has an interim answer, and no attempt has begun since.
	KeyInterim
	// KeyInterrupted: an attempt at the current stage has begun and ended without a result, and no
	// Completer will continue the key. What the attempt did is unknown. The key waits for its
	// client, or for a decision where work must not run twice.
	KeyInterrupted
	// KeyIdle: no attempt at the current stage has begun, or a Completer continues the key at
	// KeyInfo.Due.
	KeyIdle
)

var keyStates = [...]string{
	KeyUnreadable: "unreadable", KeyFinished: "finished", KeyInFlight: "in-flight", KeyDead: "dead", KeyAbandoned: "abandoned",
	KeyInterim: "interim", KeyInterrupted: "interrupted", KeyIdle: "idle",
}

// KeyStates returns all states, in the order in which they are checked.
func KeyStates() []KeyState {
	return []KeyState{KeyUnreadable, KeyFinished, KeyInFlight, KeyDead, KeyAbandoned, KeyInterim, KeyInterrupted, KeyIdle}
}

// String returns the state in lower case, or "invalid" for any other value.
func (s KeyState) String() string {
	if s <= 0 || int(s) >= len(keyStates) {
		return "invalid"
	}
	return keyStates[s]
}

// KeyInfo is a key as an [Inspector] read it. It is a snapshot.
type KeyInfo struct {
	// ID is the name of the key in events, logs and Redis.
	ID string
	// At is the server's time when the key was read.
	At time.Time
	// State is what happens to the key.
	State KeyState
	// Err is why a part of the record could not be read; nil if all of it was read. It matches
	// [ErrDamaged]. With KeyUnreadable the other fields are empty, but for Scope and Value if the
	// record still has them. With another state the values could not be decoded, for instance
	// because Config.Codec lacks their secret: Key is nil, and the other fields are set.
	Err error

	// Scope and Value are the key's, Method and Path those of its first request.
	Scope, Value string
	Method, Path string
	// Flow is the flow that works on the key, as name/version; empty without one.
	Flow string
	// RecoveryPoint, Revision and Attempts are those of [Key]. StageAttempts is how often work may
	// have begun since the last commit.
	RecoveryPoint string
	Revision      int64
	Attempts      int
	StageAttempts int
	// Status is the status of the stored response; 0 without a response.
	Status int
	// NotKept is the part of the result that could not be stored; empty if all of it was stored.
	NotKept string
	// DeadLetter is when and why the key was given up; nil if it is not dead.
	DeadLetter *DeadLetter
	// LastFailure is that of [Key]. Its Err says why Config.Codec cannot decode its Text.
	LastFailure *Failure

	// CanceledAt is when the key was canceled, and zero if it was not.
	CanceledAt time.Time
	// CreatedAt is a time of the server. LockedAt is when the lease was granted that a worker has,
	// or that it has not given back. It is zero without such a lease.
	CreatedAt, LockedAt time.Time
	// LockedBy is the Config.Owner of the process that was granted that lease.
	LockedBy string
	// LeaseLeft is the rest of the lease. It is zero without a lease, and negative for a lock
	// without an expiry, which this library did not make.
	LeaseLeft time.Duration
	// Life is how long the record is kept if it does not change; negative if its expiry was
	// removed.
	Life time.Duration
	// Due is when a Completer may continue the key. It is zero if none will, and in all states but
	// KeyIdle, KeyInterim and KeyAbandoned.
	Due time.Time

	// Journal has an entry for each commit, oldest first. Key has the values, too. Both are set by
	// [Inspector.Get] and [Inspector.Find], and nil in lists.
	Journal []JournalEntry
	Key     *Key

	id    identity
	fence string // of the last claim, or of an act since; "" if it could not be read
}

// inspectedFields are the fields that lists read: all that have no value of the application, and
// not the journal.
var inspectedFields = []string{
	fieldControl, fieldRequest, fieldFingerprint, fieldPoint,
	fieldInterim, fieldFlow, fieldDeadLetter, fieldLastFailure, fieldRequeued, fieldRefused, fieldNotKept, fieldUndoable, fieldCanceled, fieldGeneration, fieldCode,
}

// describe makes a KeyInfo without values. A record that cannot be read becomes KeyUnreadable.
func (s *Service) describe(id identity, v protocol.Inspection) *KeyInfo {
	info := &KeyInfo{ID: id.Digest, At: v.At, Life: v.Life, id: id}
	if err := s.describeRecord(info, v); err != nil {
		info = &KeyInfo{ID: id.Digest, At: v.At, Life: v.Life, State: KeyUnreadable, Err: fromProtocol(err), id: id, fence: info.fence}
		if full, err := adopt(id, v.Pairs, s.cfg.Namespace); err == nil {
			info.Scope, info.Value, info.id = full.Scope, full.Value, full
		}
	}
	return info
}

func (s *Service) describeRecord(info *KeyInfo, v protocol.Inspection) error {
	if v.Err != nil {
		return v.Err
	}
	// The fields that go through Config.Codec are left out, and with them the status, which needs a
	// body beside it.
	var pairs []string
	var control control
	for i := 0; i+1 < len(v.Pairs); i += 2 {
		field, value := v.Pairs[i], v.Pairs[i+1]
		var err error
		switch field {
		case fieldParams, fieldState, fieldHeaders, fieldBody:
			continue
		case fieldCode:
			info.Status, err = strconv.Atoi(value)
			if err != nil {
				return damaged("%s is not a number", fieldCode)
			}
			continue
		case fieldLastFailure:
			info.LastFailure, err = decodeFailure(value)
			if err != nil {
				return err
			}
			continue
		case fieldControl:
			if control, err = decodeControl(value); err == nil {
				info.fence = strconv.FormatInt(control.fence, 10)
			}
		}
		if err != nil {
			return err
		}
		pairs = append(pairs, field, value)
	}
	full, err := adopt(info.id, pairs, s.cfg.Namespace)
	if err != nil {
		return err
	}
	k, err := decodeRecord(full, valueCodec{}, pairs)
	if err != nil {
		return err
	}
	info.id = full
	if f := info.LastFailure; f != nil {
		f.decode(s.valueCodec, full, k.fingerprint)
	}
	info.Scope, info.Value, info.Method, info.Path, info.Flow = k.Scope, k.Value, k.Method, k.Path, k.Flow
	info.RecoveryPoint, info.Revision, info.Attempts, info.StageAttempts = k.RecoveryPoint, k.Revision, k.Attempts, int(control.stageAttempts)
	info.NotKept, info.DeadLetter, info.CreatedAt, info.CanceledAt, info.Journal = k.notKept, k.DeadLetter, k.CreatedAt, k.CanceledAt, k.Journal
	info.LockedAt, info.LockedBy = k.rareFields().leasedAt, k.rareFields().leasedBy
	if v.Locked {
		info.LeaseLeft = v.LockLife
	}
	switch {
	case k.Finished():
		info.State = KeyFinished
		info.LockedAt, info.LockedBy = time.Time{}, ""
	case v.Locked:
		info.State = KeyInFlight
	case k.DeadLetter != nil:
		info.State = KeyDead
	case control.leased:
		info.State = KeyAbandoned
	case control.stageAttempts == 0 && k.hasInterim:
		info.State = KeyInterim
	case control.stageAttempts > 0:
		info.State = KeyInterrupted // unless a completer continues it
	default:
		info.State = KeyIdle
	}
	return nil
}
