package redisidem

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

const (
	// scanCount is how many Redis keys a server looks at for one step of a list. It takes the
	// server about 0.2 ms, most of it for the comparison with the pattern.
	scanCount = 100
	// inspectBatch is how many records are read with one request.
	inspectBatch = 100
	// readAhead is how many pages are read while the caller has one. A page takes up to four round
	// trips, and only its scan must follow the scan before, so that more would not be faster.
	readAhead = 2
)

// Filter says which keys a list has. A key must match all fields. The zero value of a field matches
// all keys.
type Filter struct {
	// States are the states of which a key must have one.
	States []KeyState
	// Scope is the key's scope.
	Scope string
	// Flow is the key's flow: a name for all its versions, or name/version for one.
	Flow string
	// OlderThan is the age of the key at least, by the server's clock.
	OlderThan time.Duration
	// Attempts is how often work on the key may have begun at least.
	Attempts int
	// Failure is a part of the text of the key's last failure, in the same case. Keys whose text
	// Config.Codec cannot decode are not in the list: see [Page.Unread].
	Failure string
}

// validate returns an error for the first field that breaks its bound.
func (f *Filter) validate() error {
	for _, state := range f.States {
		if state.String() == "invalid" {
			return invalid("Filter.States", "has %d, which is not a state", int(state))
		}
	}
	name, _, _ := strings.Cut(f.Flow, "/")
	switch {
	case f.Flow != "" && !flowName.MatchString(name):
		return invalid("Filter.Flow", "must be the name of a flow, or name/version: %q", f.Flow)
	case f.OlderThan < 0:
		return invalid("Filter.OlderThan", "must not be negative: %v", f.OlderThan)
	case f.Attempts < 0:
		return invalid("Filter.Attempts", "must not be negative: %d", f.Attempts)
	}
	return nil
}

// matches reports whether a key is in the list. unread reports that it may be, since all but the
// text of its last failure matches, which could not be decoded.
func (f *Filter) matches(k *KeyInfo) (matches, unread bool) {
	if !f.matchesRecord(k) {
		return false, false
	}
	switch failure := k.LastFailure; {
	case f.Failure == "":
		return true, false
	case failure == nil:
		return false, false
	case failure.Err != nil:
		return false, true
	default:
		return strings.Contains(failure.Text, f.Failure), false
	}
}

// matchesRecord is matches without Filter.Failure.
func (f *Filter) matchesRecord(k *KeyInfo) bool {
	name, _, _ := strings.Cut(k.Flow, "/")
	switch {
	case len(f.States) > 0 && !slices.Contains(f.States, k.State),
		f.Scope != "" && f.Scope != k.Scope,
		f.Flow != "" && f.Flow != k.Flow && f.Flow != name,
		f.OlderThan > 0 && k.At.Sub(k.CreatedAt) < f.OlderThan,
		k.Attempts < f.Attempts:
		return false
	}
	// An unreadable record is in lists that do not ask for what it lacks.
	return k.State != KeyUnreadable || f.Flow == "" && f.OlderThan == 0 && f.Attempts == 0
}

// Page is one step of a list.
type Page struct {
	// Keys are the keys that this step found, in no particular order. It may be empty although the
	// list goes on.
	Keys []*KeyInfo
	// Records is how many records this step looked at. Unknown is how many of them are damaged so
	// that their scope cannot be read; they are in no list of a scope. It is counted in lists of a
	// scope only, and all of them only if the filter has nothing but the scope.
	Records, Unknown int
	// Unread is how many of them match the filter but for [Filter.Failure], and have a last failure
	// whose text Config.Codec cannot decode: they may be missing in Keys.
	Unread int
	// Next continues the list behind this page; empty on the last page.
	Next string
}

// List yields the keys that match a filter, page by page. cursor is empty, or the Next of a page of
// an earlier list with the same filter.
//
// A list goes through all Redis keys with SCAN, in steps of about 100 keys of each master, and
// reads the records among them, without their values. Each step takes a few round trips and is the
// bound of what is lost when the caller stops. While the caller has a page behind the first, the
// next two are read; a caller that stops waits for what is under way. The masters of a cluster are
// asked side by side. A key that exists during the whole list is in it. It may be in it twice,
// above all if Redis changes the size of its tables meanwhile. A failover restarts nothing, but
// keys may then be missing. A panic of Config.Codec is the caller's.
//
// A list whose only state is [KeyDead] reads the indexes of dead letters instead, 100 entries for a
// page, and its cost does not grow with the other keys. It has the flow of the filter. Without one,
// it has the flows that a [Completer] has scanned within the last 400 days, which are all that have
// dead letters as a rule. A dead letter that its index has lost is missing until
// [Inspector.Reindex]; a list with a further state finds it by its record.
//
// An error comes with a page that has no keys, and ends the list. Next of the page before continues
// it. It is [ErrInvalid], [ErrUnavailable], [ErrClosed], or [ErrDamaged] for an index of dead
// letters that is not one.
func (in *Inspector) List(ctx context.Context, f Filter, cursor string) iter.Seq2[Page, error] {
	return func(yield func(Page, error) bool) {
		if err := f.validate(); err != nil {
			yield(Page{}, err)
			return
		}
		if f.ofDead() {
			in.listDead(ctx, &f, cursor, yield)
			return
		}
		position, err := protocol.ParsePosition(cursor)
		if err != nil {
			yield(Page{}, invalid("cursor", "must be from a page: %v", err))
			return
		}
		ctx, stop := context.WithCancel(ctx)
		var readers sync.WaitGroup
		defer readers.Wait()
		defer stop()
		var steps []*step
		// The first page is often all that the caller wants.
		for last, ahead := false, 0; ; ahead = readAhead {
			for !last && len(steps) <= ahead {
				s := in.step(ctx, &f, position, &readers)
				position, last = s.next, s.last
				steps = append(steps, s)
			}
			s := steps[0]
			steps = steps[1:]
			<-s.read
			if s.panicked != nil {
				panic(s.panicked)
			}
			if !yield(s.page, s.err) || s.err != nil || s.page.Next == "" {
				return
			}
		}
	}
}

// step is a page that is being read.
type step struct {
	next protocol.Position // of the scan
	last bool              // no page follows, because of an error or of the end
	read chan struct{}     // closed when the fields below are set
	page Page
	err  error

	panicked any // the value of a panic of Config.Codec, nil for none
}

// step scans for the records of the next page, and begins to read them.
func (in *Inspector) step(ctx context.Context, f *Filter, from protocol.Position, readers *sync.WaitGroup) *step {
	ids, next, err := in.scan(ctx, from)
	s := &step{next: next, last: err != nil || next.String() == "", read: make(chan struct{}), err: err}
	if err != nil {
		close(s.read)
		return s
	}
	readers.Go(func() {
		defer close(s.read)
		defer func() { s.panicked = recover() }()
		s.page, s.err = in.page(ctx, f, ids)
		if s.err == nil {
			s.page.Next = next.String()
		}
	})
	return s
}

// page reads the records of a page.
func (in *Inspector) page(ctx context.Context, f *Filter, ids []identity) (Page, error) {
	page := Page{Records: len(ids)}
	for batch := range slices.Chunk(ids, inspectBatch) {
		batch, unknown, err := in.preselect(ctx, f, batch)
		if err != nil {
			return Page{}, err
		}
		page.Unknown += unknown
		infos, err := in.inspect(ctx, batch, inspectedFields...)
		if err != nil {
			return Page{}, err
		}
		page.add(f, infos)
	}
	return page, nil
}

// add adds keys that are in the list.
func (p *Page) add(f *Filter, infos []*KeyInfo) {
	for _, info := range infos {
		if f.Scope != "" && info.Scope == "" {
			p.Unknown++ // its scope is not its own
		}
		matches, unread := f.matches(info)
		if matches {
			p.Keys = append(p.Keys, info)
		}
		if unread {
			p.Unread++
		}
	}
}

// preselect returns the records of a batch that may match a filter, and how many have no scope that
// can be read. Most lists are of few keys, and this reads a few fields instead of the whole.
func (in *Inspector) preselect(ctx context.Context, f *Filter, ids []identity) (selected []identity, unknown int, err error) {
	p := f.preselection()
	if p == nil {
		return ids, 0, nil
	}
	s := in.service
	if err := s.enter(ctx); err != nil {
		return nil, 0, err
	}
	defer s.inFlight.leave()
	read, at, err := s.redis.PeekAt(ctx, ids, p.fields...)
	if err = explain(ctx, "list", err); err != nil {
		return nil, 0, err
	}
	selected = make([]identity, 0, len(ids))
	for i, id := range ids {
		may, known := p.mayMatch(read[i], at)
		if !known {
			unknown++
		}
		if may {
			selected = append(selected, id)
		}
	}
	return selected, unknown, nil
}

// scan returns the places of the records that one step of a scan finds.
func (in *Inspector) scan(ctx context.Context, from protocol.Position) (ids []identity, next protocol.Position, err error) {
	s := in.service
	if err := s.enter(ctx); err != nil {
		return nil, nil, err
	}
	defer s.inFlight.leave()
	names, next, err := s.redis.Scan(ctx, protocol.RecordPattern(s.cfg.Namespace), scanCount, from)
	if errors.Is(err, protocol.ErrPosition) {
		return nil, nil, invalid("cursor", "cannot be continued: %v", err)
	}
	if err = explain(ctx, "list", err); err != nil {
		return nil, nil, err
	}
	return placesOf(names), next, nil
}

// placesOf returns the places of the records among some Redis keys.
func placesOf(names []string) []identity {
	ids := make([]identity, 0, len(names))
	for _, name := range names {
		if prefix, digest, ok := protocol.SplitRecord(name); ok {
			id, _ := protocol.IdentityIn(prefix, digest)
			ids = append(ids, id)
		}
	}
	return ids
}
