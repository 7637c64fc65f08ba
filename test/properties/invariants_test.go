package properties

import (
	"bytes"
	"reflect"
	"strconv"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/redisidem/redisidem/redisidem"
)

// Check compares the entire content of Redis with the model.
func (m *machine) Check(t *rapid.T) {
	m.t = t
	for _, s := range m.slots {
		m.settle(s)
	}
	m.now()
	for _, s := range m.slots {
		key, err := m.scope.Retrieve(m.ctx, s.value)
		m.compareGeneration(s)
		if s.record == nil {
			m.expect(err, notFound)
		} else {
			m.must(err)
			m.compare(s, key)
			m.compareRaw(s)
		}
		m.compareLock(s)
		m.compareCounter(s)
		m.compareDue(s)
		m.placed(s)
	}
	for _, k := range m.keys() {
		if ttl := m.raw.PTTL(m.ctx, k).Val(); ttl <= 0 && !strings.Contains(k, "}:x:") {
			t.Fatalf("%s has the TTL %v", k, ttl)
		}
	}
	m.slack = m.least()
	m.pass(moment) // as on a real server: no two actions happen in the same microsecond
}

// least returns the usual tolerance between an expiry and the model's.
func (m *machine) least() time.Duration {
	if m.travels {
		return 2 * time.Millisecond // servers count in whole milliseconds
	}
	return 30 * time.Second
}

// settle checks that a record and a lock expire about when the model expects, and adopts the exact
// times.
func (m *machine) settle(s *slot) {
	if s.prefix == "" && s.record == nil {
		return
	}
	record, lock := m.place(s)
	now := m.now()
	if s.record == nil && s.generation > 0 {
		left := m.raw.PTTL(m.ctx, record).Val()
		m.near("tombstone", left, s.buried.Sub(now))
		s.buried = now.Add(left)
	}
	if s.record != nil {
		left := m.raw.PTTL(m.ctx, record).Val()
		m.near("record", left, s.record.expires.Sub(now))
		s.record.expires = now.Add(left)
	}
	if s.held() {
		left := m.raw.PTTL(m.ctx, lock).Val()
		m.near("lock", left, s.until.Sub(now))
		s.until = now.Add(left)
	}
}

func (m *machine) near(what string, got, want time.Duration) {
	m.t.Helper()
	if got <= 0 || (got-want).Abs() > m.slack {
		m.t.Fatalf("the %s lives for %v, want %v", what, got, want)
	}
}

// compare compares a key with the record of the model.
func (m *machine) compare(s *slot, key *redisidem.Key) {
	m.t.Helper()
	r := s.record
	switch {
	case r == nil:
		m.t.Fatalf("%s should be gone, and is %+v", s.value, key)
	case key.Value != s.value || key.Method != requests[r.request].Method || key.Path != requests[r.request].Path:
		m.t.Fatalf("the key is another one's: %+v", key)
	case key.RecoveryPoint != r.point || key.Revision != r.revision:
		m.t.Fatalf("the key is at %q, revision %d, want %q, revision %d", key.RecoveryPoint, key.Revision, r.point, r.revision)
	case key.Attempts != r.attempts:
		m.t.Fatalf("%d attempts, want %d", key.Attempts, r.attempts)
	case key.Response == nil && key.Finished():
		m.t.Fatal("the key is finished, and its response is nil")
	case !sameResponse(key.Response, r.response):
		m.t.Fatalf("the response is %+v, want %+v", key.Response, r.response)
	case len(key.Journal) != len(r.journal):
		m.t.Fatalf("the journal has %d entries, want %d", len(key.Journal), len(r.journal))
	case r.created.IsZero():
		r.created = key.CreatedAt
	case !r.created.Equal(key.CreatedAt):
		m.t.Fatalf("created at %v, and now at %v", r.created, key.CreatedAt)
	}
	for i, e := range key.Journal {
		want := r.journal[i]
		if e.Stage != want.stage || e.Fence != want.fence || e.Attempt != want.attempt ||
			e.Revision != want.revision {
			m.t.Fatalf("entry %d of the journal is %+v, want %+v", i, e, want)
		}
	}
}

// sameResponse compares two responses byte for byte. An empty response equals a missing one.
func sameResponse(a, b *redisidem.Response) bool {
	if a.IsZero() || b.IsZero() {
		return a.IsZero() && b.IsZero()
	}
	return a.Code == b.Code && bytes.Equal(a.Body, b.Body) &&
		(len(a.Header) == 0 && len(b.Header) == 0 || reflect.DeepEqual(a.Header, b.Header))
}

// compareState compares the state that a stage finds.
func (m *machine) compareState(s *slot, st *redisidem.Stage) {
	m.t.Helper()
	var state []byte
	err := st.State(&state)
	switch want := s.record.state; {
	case want == nil && err == nil:
		m.t.Fatalf("there is the state %q", state)
	case want != nil && (err != nil || string(state) != *want):
		m.t.Fatalf("the state is %q, %v, want %q", state, err, *want)
	}
}

// compareRaw compares the fields that a Key does not show: the worker that may commit, the fence,
// the attempts of this revision, and the state.
func (m *machine) compareRaw(s *slot) {
	m.t.Helper()
	record, _ := m.place(s)
	fields, err := m.raw.HGetAll(m.ctx, record).Result()
	m.must(err)
	control := strings.Split(fields["control"], " ")
	if len(control) != 10 {
		m.t.Fatalf("control is %q", control)
	}
	r := s.record
	if owned := control[2] != "-" && control[2] != "~"; owned != (r.worker != nil) {
		m.t.Fatalf("a worker may commit: %v, want %v", owned, r.worker != nil)
	}
	if r.fence > 0 && control[3] != strconv.FormatInt(r.fence, 10) {
		m.t.Fatalf("the record's fence is %s, want %d", control[3], r.fence)
	}
	if control[4] != strconv.Itoa(r.runs) {
		m.t.Fatalf("%s attempts of this revision, want %d", control[4], r.runs)
	}
	if fields["flow"] != r.flow || (fields["dead_letter"] != "") != r.dead {
		m.t.Fatalf("the flow is %q, want %q; the dead letter %q, want one: %v", fields["flow"], r.flow, fields["dead_letter"], r.dead)
	}
	if state, ok := fields["state"]; ok != (r.state != nil) || ok && state != *r.state {
		m.t.Fatalf("the state is %q", state)
	}
}

// compareGeneration compares the generation of a record, or of the tombstone that a delete has
// left.
func (m *machine) compareGeneration(s *slot) {
	m.t.Helper()
	if s.prefix == "" {
		return
	}
	record, _ := m.place(s)
	fields, err := m.raw.HGetAll(m.ctx, record).Result()
	m.must(err)
	want := ""
	if s.generation > 0 {
		want = strconv.FormatInt(s.generation, 10)
	}
	if got, _, _ := strings.Cut(fields["generation"], " "); got != want {
		m.t.Fatalf("the generation is %q, want %q", got, want)
	}
	if s.record == nil && len(fields) > 1 {
		m.t.Fatalf("a tombstone holds %q", fields)
	}
}

// compareLock checks that a lock exists exactly while a worker has the key.
func (m *machine) compareLock(s *slot) {
	m.t.Helper()
	if s.prefix == "" {
		return
	}
	record, lock := m.place(s)
	holder, _ := m.raw.Get(m.ctx, lock).Result()
	if there := holder != ""; there != s.held() {
		m.t.Fatalf("a lock: %v, want %v", there, s.held())
	}
	if !s.held() {
		return
	}
	if control := strings.Split(m.raw.HGet(m.ctx, record, "control").Val(), " "); len(control) < 3 || control[2] != holder {
		m.t.Fatalf("the lock is %s's, the record says %q", holder, control)
	}
}

// compareCounter checks that the effects of each commit were applied once.
func (m *machine) compareCounter(s *slot) {
	m.t.Helper()
	if s.prefix == "" {
		return
	}
	n, _ := m.raw.Get(m.ctx, m.counter(s)).Int64()
	if n != s.counter {
		m.t.Fatalf("effects have counted to %d, want %d", n, s.counter)
	}
}
