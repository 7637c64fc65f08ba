// Package history judges what workers were told about idempotency keys against what is stored in the end. A rung lets its
// workers tell what they begin and what they are told as events, from whatever process, and has each key's events compared
// with its record: the rules are the promise of package redisidem.
package history

import "slices"

// Book holds the events of some keys. It is not safe for concurrent use.
type Book struct {
	pages   map[string]*page
	inside  map[string]map[string]bool // by worker: the tokens of the callbacks that have begun and not left
	stopped map[string]bool            // the tokens of callbacks that were inside while their worker stood still
	count   Count
}

// Count is what a book holds.
type Count struct {
	// Runs of callbacks; what their callers were told; and answers.
	Runs, Committed, Fenced, GaveUp, Unknown, Answers int
	// Stopped callbacks are those that were inside while their worker stood still for longer than a lease and that were
	// heard of again. Cancelled ones had been told so by then.
	Stopped, Cancelled int
}

// Plus returns the sum.
func (c Count) Plus(d Count) Count {
	return Count{
		c.Runs + d.Runs, c.Committed + d.Committed, c.Fenced + d.Fenced, c.GaveUp + d.GaveUp, c.Unknown + d.Unknown,
		c.Answers + d.Answers, c.Stopped + d.Stopped, c.Cancelled + d.Cancelled,
	}
}

// page is what was told about a key.
type page struct {
	began   []Event
	told    []Event       // Committed, Fenced, GaveUp
	answers map[Chain]int // how often each was given
	wrong   []Violation   // what is wrong whatever the record says
}

// NewBook makes an empty book.
func NewBook() *Book {
	return &Book{pages: make(map[string]*page), inside: make(map[string]map[string]bool), stopped: make(map[string]bool)}
}

// Count returns how much of each kind the book has taken in.
func (b *Book) Count() Count { return b.count }

// Keys returns how many keys the book knows.
func (b *Book) Keys() int { return len(b.pages) }

// Some returns some of the keys that the book knows, at random.
func (b *Book) Some(most int) (keys []string) {
	for key := range b.pages {
		if len(keys) == most {
			break
		}
		keys = append(keys, key)
	}
	return keys
}

// Events returns what was told about a key, but for the answers: first what began, then what callers were told.
func (b *Book) Events(key string) []Event {
	p := b.page(key)
	return slices.Concat(p.began, p.told)
}

// Forget drops what the book knows of a key.
func (b *Book) Forget(key string) { delete(b.pages, key) }

func (b *Book) page(key string) *page {
	p := b.pages[key]
	if p == nil {
		p = &page{answers: make(map[Chain]int)}
		b.pages[key] = p
	}
	return p
}

// Add takes in an event. Those of one worker must come in their order.
func (b *Book) Add(e Event) {
	if e.Kind == Stopped {
		for token := range b.inside[e.Worker] {
			b.stopped[token] = true
		}
		return
	}
	p := b.page(e.Key)
	switch e.Kind {
	case Began:
		b.count.Runs++
		p.began = append(p.began, e)
		if b.inside[e.Worker] == nil {
			b.inside[e.Worker] = make(map[string]bool)
		}
		b.inside[e.Worker][e.Token] = true
	case Left:
		b.leave(e)
	case Committed, Fenced, GaveUp, Unknown:
		b.leave(e)
		p.told = append(p.told, e)
		b.tally(e)
		if b.stopped[e.Token] {
			delete(b.stopped, e.Token)
			b.count.Stopped++
			if e.Lost {
				b.count.Cancelled++
			} else {
				p.wrong = append(p.wrong, violation(NotCancelled, e, "its worker stood still for longer than the lease"))
			}
		}
	case Answered:
		b.count.Answers++
		p.answers[Chain(e.Text)]++
	default:
		p.wrong = append(p.wrong, violation(BadError, e, "%s", e.Text))
	}
}

func (b *Book) leave(e Event) { delete(b.inside[e.Worker], e.Token) }

func (b *Book) tally(e Event) {
	switch e.Kind {
	case Committed:
		b.count.Committed++
	case Fenced:
		b.count.Fenced++
	case GaveUp:
		b.count.GaveUp++
	default:
		b.count.Unknown++
	}
}
