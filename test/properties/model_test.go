package properties

import (
	"fmt"
	"slices"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// times are the durations of the services under test. Live workers renew after a third of the
// lease. maxHold is not a multiple of that.
type times struct{ lease, retention, maxHold time.Duration }

// slot is the model of one key: whether it has a record, and which worker has the lock.
type slot struct {
	times
	value  string
	prefix string // of the Redis keys in its shard, once known

	record *record
	lock   *worker
	until  time.Time // when the lock expires

	// generation is the generation of the record, or of the tombstone in its place. The tombstone
	// expires at buried.
	generation int64
	buried     time.Time

	fence   int64 // the largest so far
	counter int64 // the sum that effects have counted

	due    time.Time     // when a completer may find it; zero: never
	jitter time.Duration // how much later than due that may be
	// indexed is the time until which the due index certainly exists. The record may live longer,
	// when a worker works on it without the flow.
	indexed time.Time
}

// record is the model of a record.
type record struct {
	request  int
	expires  time.Time
	point    string
	revision int64
	response *redisidem.Response
	interim  bool
	snoozed  time.Time // the last commit was a snooze until then
	waits    bool      // since then no worker has claimed it
	notKept  bool      // the work was done, but its result could not be stored
	state    *string
	attempts int // in total
	runs     int // of this revision
	fence    int64
	worker   *worker // the worker whose commit would be accepted, or nil
	flow     string
	journal  []entry

	dead         bool // it is a dead letter, without a commit since
	refused      int  // sweeps at this revision that found no program for it
	refusedAt    int64
	requeued     bool // it was requeued at this revision, after this many attempts
	requeuedAt   int64
	requeuedRuns int

	created time.Time // by the server's clock
}

type entry struct {
	stage   string
	fence   int64
	attempt int

	revision int64
}

// worker is a worker that was given a lease.
type worker struct {
	slot  *slot
	of    *record // which record it claimed
	owner *owner
	lease *redisidem.Lease
	began time.Time
	tick  time.Time // when it renews next
	sent  time.Time // when its last successful renewal was sent
	lost  bool      // it knows that its lease is lost
	ended bool

	point   string // the recovery point that it works from
	attempt int
	flow    bool     // it runs the flow
	pending *outcome // a commit whose outcome is unknown to its caller
}

// outcome is an outcome with the facts that the model needs.
type outcome struct {
	redisidem.Outcome
	state  *string
	counts int64 // the sum that its effects add
	refuse bool  // an effect cannot be applied

	notKept bool // it replaces an outcome that could not be stored
}

func (w *worker) GoString() string {
	return fmt.Sprintf("%#v with %#v since %v", w.owner, w.slot, w.began)
}

// verdict is the expected result of an action.
type verdict string

const (
	fine          verdict = "no error"
	notFound      verdict = "ErrNotFound"
	finished      verdict = "ErrFinished"
	locked        verdict = "ErrLocked"
	stale         verdict = "ErrStale"
	mismatch      verdict = "ErrFingerprintMismatch"
	fenced        verdict = "ErrFenced"
	lost          verdict = "ErrLeaseLost"
	ended         verdict = "ErrLeaseEnded"
	noProgress    verdict = "ErrNoProgress"
	effectRefused verdict = "ErrEffect"
	notKept       verdict = "ErrNotKept"
	// These are the errors of a caller that gets no answer.
	unknown     verdict = "ErrOutcomeUnknown"
	unavailable verdict = "ErrUnavailable"
)

func (s *slot) GoString() string { return s.value }

// held reports whether a worker has the lock.
func (s *slot) held() bool { return s.lock != nil }

func (r *record) keep(until time.Time) {
	if until.After(r.expires) {
		r.expires = until
	}
}

// create makes the record of a request.
func (s *slot) create(now time.Time, request int) {
	s.record = &record{request: request, point: redisidem.Started, expires: now.Add(s.retention)}
}

// initialize models InitializeRequest.
func (s *slot) initialize(now time.Time, request int) verdict {
	switch {
	case s.record == nil:
		s.create(now, request)
	case s.record.request != request:
		return mismatch
	}
	return fine
}

// claim gives the lease to a worker, if possible. The fence comes from the library.
func (s *slot) claim(now time.Time, w *worker) verdict {
	r := s.record
	switch {
	case r == nil:
		return notFound
	case r.point == redisidem.Finished:
		return finished
	case s.held():
		return locked
	}
	r.attempts++
	r.runs++
	r.waits = false
	r.worker = w
	r.fence = max(r.fence+1, now.UnixMicro())
	r.keep(now.Add(s.lease + s.retention))
	s.lock, s.until = w, now.Add(s.lease)
	w.slot, w.of, w.point, w.attempt = s, r, r.point, r.runs
	w.began, w.sent, w.tick = now, now, now.Add(s.lease/3)
	return fine
}

// commit models the arrival of a commit at the server.
func (s *slot) commit(now time.Time, w *worker, o *outcome, keep bool) verdict {
	r := s.record
	switch {
	case r == nil || r != w.of:
		return unknown
	case r.worker != w:
		return fenced
	case o.refuse:
		s.abandon(w)
		return effectRefused
	}
	point := o.RecoveryPoint
	if point == "" {
		point = redisidem.Finished
	}
	r.write(o, entry{r.point, r.fence, w.attempt, r.revision}, point, remembered(r.flow != "" && !w.flow))
	s.counter += o.counts
	s.carryOn(now, w)
	switch {
	case keep && point != redisidem.Finished && !o.Interim:
		r.runs = 1
		r.keep(now.Add(s.lease + s.retention))
		s.lock, s.until = w, now.Add(s.lease)
		w.sent, w.point, w.attempt = now, point, 1
	case s.lock == w:
		r.worker, s.lock = nil, nil
	default:
		r.worker = nil
		r.keep(now.Add(s.retention))
	}
	return fine
}

// remembered returns how many commits a journal keeps. A worker that does not know the flow of the
// key keeps more, since the flow may compensate them.
func remembered(unknownFlow bool) int64 {
	if unknownFlow {
		return 1024
	}
	return 64
}

// snoozes reports whether a flow's claim gets an interim answer.
func (r *record) snoozes(now time.Time) bool { return r.waits && now.Before(r.snoozed) }

// write stores an outcome as a revision.
func (r *record) write(o *outcome, e entry, point string, kept int64) {
	r.revision++
	r.runs = 0
	r.journal = append(r.journal, e)
	r.journal = slices.DeleteFunc(slices.Clone(r.journal), func(old entry) bool { return old.revision == e.revision-kept })
	r.point = point
	switch {
	case o.notKept:
		r.response = nil
	case o.Response != nil:
		r.response = o.Response
	case r.interim:
		r.response = nil
	}
	r.interim, r.notKept, r.snoozed, r.waits = o.Interim, o.notKept, time.Time{}, false
	if o.state != nil {
		r.state = o.state
	}
}

// abandon gives a worker's lease back.
func (s *slot) abandon(w *worker) {
	if s.lock == w {
		s.lock = nil
	}
	if s.record != nil && s.record.worker == w {
		s.record.worker = nil
	}
}

// renew gives a lease its full length again.
func (s *slot) renew(now time.Time, w *worker) verdict {
	r := s.record
	if r == nil || r.worker != w || s.held() && s.lock != w {
		w.lost = true
		return lost
	}
	s.lock, s.until = w, now.Add(s.lease)
	r.keep(now.Add(s.lease + s.retention))
	w.sent = now
	return fine
}

// unlock takes the lease from the worker that has it.
func (s *slot) unlock() verdict {
	s.lock = nil
	switch {
	case s.record == nil:
		return notFound
	case s.record.point == redisidem.Finished:
		return fine
	}
	s.record.worker, s.record.waits = nil, false
	s.record.fence++
	return fine
}

// view is a key as it was read, perhaps long ago.
type view struct {
	slot *slot
	of   *record // the record that was read
	key  *redisidem.Key
}

func (v view) GoString() string {
	return fmt.Sprintf("%s at %q, revision %d", v.key.Value, v.key.RecoveryPoint, v.key.Revision)
}

// update models Update with a view of the key.
func (s *slot) update(now time.Time, v view, o *outcome) verdict {
	r := s.record
	switch {
	case v.key.Finished():
		return finished
	case !o.Interim && o.RecoveryPoint == v.key.RecoveryPoint:
		return noProgress
	case r == nil:
		return notFound
	case r != v.of:
		return stale
	case r.point == redisidem.Finished:
		return finished
	case r.revision != v.key.Revision:
		return stale
	case s.held():
		return locked
	}
	r.fence++
	r.worker = nil
	r.write(o, entry{r.point, r.fence, 0, r.revision}, o.RecoveryPoint, remembered(r.flow != ""))
	if r.point == redisidem.Finished && r.flow != "" {
		r.dead, s.due = false, time.Time{}
	}
	r.keep(now.Add(s.retention))
	return fine
}

// remove models Delete with a view of the key.
func (s *slot) remove(now time.Time, v view) verdict {
	switch r := s.record; {
	case r == nil:
	case s.held():
		return locked
	case r != v.of:
		return fine // the record to delete is already gone
	case r.revision != v.key.Revision:
		return stale
	}
	s.record = nil
	s.generation++
	s.buried = now.Add(s.retention)
	if v.key.Flow != "" {
		s.due = time.Time{}
	}
	return fine
}

// advance models everything that happens to the key without an action until now. Workers renew or
// learn that they cannot, locks lapse and records expire.
func (s *slot) advance(now time.Time, workers []*worker) {
	for {
		w := next(s, workers)
		if w == nil || w.due().After(now) {
			break
		}
		at := w.due()
		s.lapse(at)
		switch {
		case at.Equal(w.began.Add(s.maxHold)), w.owner.cut:
			w.lost = true
		default:
			w.tick = at.Add(s.lease / 3)
			s.renew(at, w)
		}
	}
	s.lapse(now)
}

// due returns when a worker next acts without an action.
func (w *worker) due() time.Time {
	end := w.began.Add(w.slot.maxHold)
	if w.owner.cut {
		// Its renewals fail until it considers its lease lost.
		if bite := w.sent.Add(w.slot.lease / 10 * 9); bite.Before(end) {
			return bite
		}
		return end
	}
	if w.tick.After(end) {
		return end
	}
	return w.tick
}

// next returns the worker that acts first.
func next(s *slot, workers []*worker) (first *worker) {
	for _, w := range workers {
		if w.slot == s && !w.lost && !w.ended && (first == nil || w.due().Before(first.due())) {
			first = w
		}
	}
	return first
}

func (s *slot) lapse(now time.Time) {
	if s.held() && !s.until.After(now) {
		s.lock = nil
	}
	if s.record != nil && !s.record.expires.After(now) {
		s.record, s.generation = nil, 0
	}
	if s.record == nil && !s.buried.After(now) {
		s.generation = 0
	}
}
