package properties

import (
	"context"
	"errors"
	"time"

	"pgregory.net/rapid"

	"github.com/redisidem/redisidem/redisidem"
)

// Initialize asks for the key of a request. The request may differ from the first request of the
// key.
func (m *machine) Initialize(t *rapid.T) {
	o, s := m.connected(t), m.slot(t)
	request := rapid.IntRange(0, len(requests)-1).Draw(t, "request")
	want := s.initialize(m.now(), request)
	key, err := o.scope.InitializeRequest(m.ctx, s.value, requests[request])
	m.expect(err, want)
	if err == nil {
		m.compare(s, key)
		m.saw(s, key)
	}
}

// Retrieve reads a key.
func (m *machine) Retrieve(t *rapid.T) {
	o, s := m.connected(t), m.slot(t)
	m.now()
	key, err := o.scope.Retrieve(m.ctx, s.value)
	if s.record == nil {
		m.expect(err, notFound)
		return
	}
	m.must(err)
	m.compare(s, key)
	m.saw(s, key)
}

// Lock takes the lease on a key.
func (m *machine) Lock(t *rapid.T) {
	o, s := m.connected(t), m.slot(t)
	w := &worker{owner: o}
	want := s.claim(m.now(), w)
	lease, err := o.scope.Lock(m.ctx, s.value)
	m.expect(err, want)
	if err == nil {
		m.hired(w, lease)
	}
}

// hired updates the model when a worker gets a lease.
func (m *machine) hired(w *worker, lease *redisidem.Lease) {
	w.lease = lease
	m.workers = append(m.workers, w)
	m.granted(w.slot, lease.Fence())
	m.compare(w.slot, lease.Key())
}

// granted checks the fence of a new lease. It is larger than all earlier fences. If the clock has
// moved, this includes the fences of deleted and expired records.
func (m *machine) granted(s *slot, fence int64) {
	if m.travels && fence != s.record.fence {
		m.t.Fatalf("the fence is %d, want %d", fence, s.record.fence)
	}
	if before := s.fence; fence <= before && time.Now().UnixMicro() > before {
		m.t.Fatalf("the fence is %d after %d", fence, before)
	}
	s.record.fence = fence
	s.fence = max(s.fence, fence)
}

// Work runs a stage on an earlier view of a key.
func (m *machine) Work(t *rapid.T) {
	o, v := m.view(t)
	s := v.slot
	out, how := m.outcome(t, s), rapid.SampledFrom([]string{"commits", "commits", "fails", "idles"}).Draw(t, "the stage")
	w := &worker{owner: o}
	now := m.now()
	r := s.record

	moved := r != nil && (r != v.of || r.revision != v.key.Revision)
	want, works := fine, false
	switch {
	case v.key.Finished():
		want = toldOf(v.of)
	case r == nil:
		want = notFound
	case v.of.request != r.request:
		want = mismatch
	case r.point == redisidem.Finished:
		want = toldOf(r)
	case moved:
	default:
		want = s.claim(now, w)
		works = want == fine
	}
	mistake := errors.New("the stage failed")
	worked := false
	key, err := o.scope.WorkStage(m.ctx, v.key, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		worked = true
		if !works {
			return redisidem.Outcome{}, mistake
		}
		m.granted(s, st.Fence())
		m.compare(s, st.Key())
		m.compareState(s, st)
		if st.Attempt() != w.attempt {
			t.Fatalf("attempt %d, want %d", st.Attempt(), w.attempt)
		}
		switch how {
		case "fails":
			return redisidem.Outcome{}, mistake
		case "idles":
			return redisidem.NothingDone(), nil
		}
		m.withEffects(t, s, out)
		return out.Outcome, nil
	})
	if worked != works {
		t.Fatalf("the stage ran: %v, want %v; error %v", worked, works, err)
	}
	switch {
	case !works:
		m.expect(err, want)
		if err == nil && !v.key.Finished() {
			m.compare(s, key)
		}
		return
	case how == "fails":
		if !errors.Is(err, mistake) {
			t.Fatalf("error is %v", err)
		}
		s.abandon(w)
		return
	case how == "idles":
		m.must(err)
		s.abandon(w)
		r.runs--
		return
	case out.stays(r.point):
		m.expect(err, noProgress)
		s.abandon(w)
		return
	}
	if out.refuse { // the work is done and must not be repeated
		out = &outcome{Outcome: redisidem.Outcome{RecoveryPoint: redisidem.Finished}, notKept: true}
	}
	if want = s.commit(now, w, out, false); want == fine {
		want = toldOf(r)
	}
	m.expect(err, want)
	m.answered(s, want, key)
}

// toldOf returns the verdict that comes with a key.
func toldOf(r *record) verdict {
	if r.notKept {
		return notKept
	}
	return fine
}

// stays reports whether an outcome leaves the key at its recovery point.
func (o *outcome) stays(point string) bool { return !o.Interim && o.RecoveryPoint == point }

// Commit commits under a lease. The lease may be lost or ended, its owner may be cut off, and the
// reply may be lost.
func (m *machine) Commit(t *rapid.T) {
	w := m.worker(t, func(*worker) bool { return true })
	s := w.slot
	out, keep, loses := m.outcome(t, s), rapid.Bool().Draw(t, "keep"), rapid.IntRange(0, 4).Draw(t, "reply") == 0
	m.withEffects(t, s, out)
	now := m.now()
	lossy := loses && m.travels && !w.owner.cut && m.quiet(w)
	held, stays := !w.ended && !w.lost, w.stays(out)
	if lossy {
		w.owner.network.set(false, true)
	}
	commit := w.lease.Commit
	if keep {
		commit = func(ctx context.Context, o redisidem.Outcome) (*redisidem.Key, error) {
			key, _, err := w.lease.CommitKeep(ctx, o)
			return key, err
		}
	}
	key, err := commit(m.ctx, out.Outcome)
	switch {
	case stays:
		m.expect(err, noProgress)
		w.owner.network.set(w.owner.cut, false)
		return
	case w.ended:
		m.expect(err, ended)
		w.owner.network.set(w.owner.cut, false)
		return
	case w.owner.cut:
		m.expect(err, unknown)
		w.ended, w.pending = true, out
		return
	}
	keep = keep && held
	want := s.commit(now, w, out, keep)
	w.ended = s.record == nil || s.record.worker != w
	switch {
	case lossy:
		m.expect(err, unknown)
		w.ended = true
		m.mend(w.owner)
		if r := s.record; r != nil && r.worker == w {
			r.runs-- // a commit that kept the lease gives it back: the next stage has not begun
		}
		s.abandon(w)
	default:
		m.expect(err, want)
		m.answered(s, want, key)
	}
}

// answered checks the result of a commit.
func (m *machine) answered(s *slot, v verdict, key *redisidem.Key) {
	if v == fine || v == notKept {
		m.compare(s, key)
		m.saw(s, key)
	}
	if v != effectRefused || m.travels {
		return
	}
	// The lease is given back in the background.
	_, lock := m.place(s)
	for deadline := time.Now().Add(time.Minute); m.raw.Exists(m.ctx, lock).Val() == 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("the lease is not given back")
		}
	}
}

// stays reports whether an outcome would leave the worker's key at its recovery point. An ended
// lease still has its last key.
func (w *worker) stays(o *outcome) bool { return o.stays(w.lease.Key().RecoveryPoint) }

// quiet reports whether a worker's network carries nothing else while a reply is lost on it.
func (m *machine) quiet(w *worker) bool {
	for _, other := range m.workers {
		if other != w && other.owner == w.owner && !other.ended && !other.lost && time.Until(other.due()) < 2*timeout {
			return false
		}
	}
	return true
}

// Again repeats an earlier commit byte for byte, as a network that delays packets does. Whatever
// the commit did before, it must not do anything now.
func (m *machine) Again(t *rapid.T) {
	var sent [][]byte
	for _, o := range m.owners {
		sent = append(sent, last(o.network.sent())...)
	}
	need(t, len(sent) > 0)
	duplicate := sent[rapid.IntRange(0, len(sent)-1).Draw(t, "commit")]
	m.now()
	conn, err := m.dial()
	m.must(err)
	defer func() { _ = conn.Close() }()
	_, err = conn.Write(duplicate)
	m.must(err)
	reply := make([]byte, 1<<16)
	n, err := conn.Read(reply)
	m.must(err)
	if n == 0 || reply[0] != '$' {
		t.Fatalf("the commit got the reply %q", reply[:n])
	}
}

// reaches reports whether a worker can reach the server.
func reaches(w *worker) bool { return !w.owner.cut }

// Renew renews a lease.
func (m *machine) Renew(t *rapid.T) {
	w := m.worker(t, reaches)
	now := m.now()
	want := lost
	switch {
	case w.ended:
		want = ended
	case !w.lost:
		want = w.slot.renew(now, w)
	}
	m.expect(w.lease.Renew(m.ctx), want)
}

// Abandon gives a lease back.
func (m *machine) Abandon(t *rapid.T) {
	w := m.worker(t, reaches)
	m.now()
	err := w.lease.Abandon(m.ctx)
	if w.ended {
		m.expect(err, ended)
		return
	}
	m.must(err)
	w.ended = true
	w.slot.abandon(w)
}

// Update corrects a key by hand, from an earlier view of it.
func (m *machine) Update(t *rapid.T) {
	o, v := m.view(t)
	out := m.outcome(t, v.slot)
	want := v.slot.update(m.now(), v, out)
	key, err := o.scope.Update(m.ctx, v.key, out.Outcome)
	m.expect(err, want)
	if err == nil {
		m.compare(v.slot, key)
		m.saw(v.slot, key)
	}
}

// Delete removes a key, from an earlier view of it.
func (m *machine) Delete(t *rapid.T) {
	o, v := m.view(t)
	want := v.slot.remove(m.now(), v)
	m.expect(o.scope.Delete(m.ctx, v.key), want)
}

// Unlock takes the lease from the worker that has it.
func (m *machine) Unlock(t *rapid.T) {
	o, s := m.connected(t), m.slot(t)
	m.now()
	want := s.unlock()
	m.expect(o.scope.Unlock(m.ctx, s.value), want)
}

// Pass advances time: by a moment, a large part of a lease, more than a lease, or more than a
// retention.
func (m *machine) Pass(t *rapid.T) {
	need(t, m.travels)
	m.pass(rapid.SampledFrom([]time.Duration{
		time.Millisecond, 1700 * time.Millisecond, 8100 * time.Millisecond, 9200 * time.Millisecond, 71 * time.Second,
	}).Draw(t, "time"))
}

// Cut takes a process off the network, or reconnects it after its leases have lapsed. Its commits
// from that time then arrive.
func (m *machine) Cut(t *rapid.T) {
	need(t, m.travels)
	o := rapid.SampledFrom(m.owners).Draw(t, "owner")
	m.now()
	if !o.cut {
		o.cut = true
		o.network.set(true, false)
		return
	}
	m.pass(m.slots[0].lease)
	var pending []*worker
	for _, w := range m.workers {
		if w.owner == o && w.pending != nil {
			if m.expiresSoon(w.slot) {
				m.pass(3 * settled) // whether it arrives in time is random
			}
			pending = append(pending, w)
		}
	}
	o.cut = false
	now := m.now()
	for _, w := range pending {
		w.slot.commit(now, w, w.pending, false)
		w.pending = nil
	}
	m.slack = settled
	m.mend(o)
}

// expiresSoon reports whether a record or the due index with it may expire while a commit is on its
// way.
func (m *machine) expiresSoon(s *slot) bool {
	if s.record == nil {
		return false
	}
	index := m.raw.PTTL(m.ctx, m.dueIndex(s)).Val()
	return time.Until(s.record.expires) < 2*settled || index > 0 && index < 2*settled
}

// mend restores a network, and waits until all delayed messages have arrived. The owner then has
// new connections.
func (m *machine) mend(o *owner) {
	o.network.set(false, false)
	m.pass(settled)
	for began := time.Now(); ; began = time.Now() {
		_, _ = o.scope.Retrieve(m.ctx, "any")
		if took := time.Since(began); took == 0 {
			break
		}
	}
	m.now()
}
