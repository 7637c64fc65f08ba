package redisidem

import (
	"context"
	"log/slog"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

const (
	// MaxUndoable is how many commits the journal of a key keeps whose flow can compensate. A key
	// with more commits cannot be undone any more.
	MaxUndoable = int(protocol.JournalLong)
	// WarnUndoable is the number of commits at which this is logged as a warning, once for each
	// key.
	WarnUndoable = MaxUndoable * 3 / 4
)

// JournalEntry describes one accepted commit of a key.
type JournalEntry struct {
	// Revision is the revision that this commit extended, counted from 0.
	Revision int64
	// Stage is the recovery point at which the work started. Of a commit that moved the key to
	// another version of its flow, it is "adopt:" and the recovery point: see [EarlierVersion].
	Stage string
	// Fence is the lease's number, and Attempt the number of this run of the stage, counted from 1.
	// Both are 0 for an update by hand.
	Fence   int64
	Attempt int
	// Owner is the Config.Owner of the process that committed.
	Owner string
	// At is the server's time of the commit. Took is how long the stage took by the server's clock,
	// since the claim or since the previous commit under the same lease.
	At   time.Time
	Took time.Duration
}

// measure sets Took. A fence is the server's time of its claim in microseconds.
func (e *JournalEntry) measure(before []JournalEntry) {
	from := time.UnixMicro(e.Fence)
	if n := len(before); n > 0 && before[n-1].Fence == e.Fence {
		from = before[n-1].At
	}
	if e.Attempt > 0 {
		e.Took = max(e.At.Sub(from), 0) // after a clock was set back, fences can be ahead of it
	}
}

// decodeJournalEntry reads "time token fence attempt owner stage", the form in which the commit
// script writes an entry.
func decodeJournalEntry(revision, s string) (JournalEntry, error) {
	var e JournalEntry
	parts := strings.SplitN(s, " ", 6)
	if len(parts) != 6 {
		return e, damaged("journal entry %s has %d parts", revision, len(parts))
	}
	var errs [4]error
	var attempt int64
	e.Revision, errs[0] = parseCount(journalPrefix, revision)
	e.At, errs[1] = parseTime(journalPrefix+revision, parts[0])
	e.Fence, errs[2] = parseCount(journalPrefix+revision, parts[2])
	attempt, errs[3] = parseCount(journalPrefix+revision, parts[3])
	e.Attempt, e.Owner, e.Stage = int(attempt), parts[4], parts[5]
	for _, err := range errs {
		if err != nil {
			return e, err
		}
	}
	return e, nil
}

// remembered returns the journal without the entry that the commit script removes for a new one.
func (k *Key) remembered(kept protocol.JournalLength) []JournalEntry {
	if i := slices.IndexFunc(k.Journal, func(e JournalEntry) bool { return e.Revision == k.Revision-int64(kept) }); i >= 0 {
		return slices.Concat(k.Journal[:i], k.Journal[i+1:])
	}
	return slices.Clip(k.Journal)
}

// copyForCommit returns a copy of the key. The journal of a key without entries has room for the
// first one, in the same allocation.
func (k *Key) copyForCommit() *Key {
	if len(k.Journal) > 0 {
		c := *k
		return &c
	}
	var memory struct {
		key   Key
		first [1]JournalEntry
	}
	memory.key = *k
	memory.key.Journal = memory.first[:0]
	return &memory.key
}

// forgotten returns how many commits the journal does not have any more.
func (k *Key) forgotten() int64 { return k.Revision - int64(len(k.Journal)) - k.merged }

// PointAt returns the recovery point at which the commit of a revision was made. Where snoozes of
// one stage follow each other, the journal has the last one, which stands for all of them. ok is
// false if the key has no such commit, or its journal does not have it any more.
func (k *Key) PointAt(revision int64) (point string, ok bool) {
	i := sort.Search(len(k.Journal), func(i int) bool { return k.Journal[i].Revision >= revision })
	switch {
	case revision < 0 || i == len(k.Journal):
		return "", false
	case k.Journal[i].Revision == revision, k.forgotten() == 0, revision >= k.Revision-int64(protocol.JournalShort):
		return k.Journal[i].Stage, true // what is missing was merged into the next entry
	}
	return "", false
}

// warnOfJournal logs that a key has made so many commits that its flow can soon not be undone any
// more. next is the key after a commit.
func (l *Lease) warnOfJournal(ctx context.Context, key, next *Key) {
	if l.flow == nil || !l.flow.compensates || isCompensating(key) || len(key.Journal) >= WarnUndoable || len(next.Journal) < WarnUndoable {
		return
	}
	l.scope.service.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "redisidem: the journal of a key is nearly full; a key with more commits cannot be undone",
		attrKey(l.id), slog.String("flow", l.flow.id), slog.String("stage", key.RecoveryPoint), slog.Int("commits", len(next.Journal)), slog.Int("limit", MaxUndoable))
}

// journal returns how many entries the journal keeps when the outcome is committed. A key whose
// flow is unknown here is treated as one that may be compensated.
func (l *Lease) journal(key *Key, e *encodedOutcome) protocol.JournalLength {
	flow := l.flow
	if e.adoptedBy != nil {
		flow = e.adoptedBy
	}
	switch {
	case flow == nil && key.Flow == "", flow != nil && !flow.compensates:
		return protocol.JournalShort
	case strings.HasPrefix(key.RecoveryPoint, compensating), strings.HasPrefix(e.point, compensating):
		return protocol.JournalWhole
	case key.merged > 0 && len(key.Journal) < int(protocol.JournalLong):
		return protocol.JournalWhole // the script would drop an entry by its distance
	}
	return protocol.JournalLong
}
