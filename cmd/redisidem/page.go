package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// pageFlags say which part of a list is printed.
type pageFlags struct {
	Limit  int    `default:"50" help:"How many keys are printed at most; 0 for no limit."`
	Cursor string `help:"Continue an earlier list, which has printed this."`
}

// flushEvery is how long rows of a long list wait until they are printed.
const flushEvery = 300 * time.Millisecond

// listing is a list that is being printed.
type listing struct {
	limit   int
	rows    *rows
	add     func(k *redisidem.KeyInfo) // prints one key as a row
	seen    recent
	printed int
	records int
	unread  int
	at      place // where a later list continues
}

// print prints the keys that match a filter, at most Limit of them. add prints one key as a row.
func (f *pageFlags) print(ctx context.Context, in *redisidem.Inspector, filter redisidem.Filter, r *rows, add func(k *redisidem.KeyInfo)) error {
	if f.Limit < 0 {
		return usage("--limit %d must not be negative", f.Limit)
	}
	l := listing{limit: f.Limit, rows: r, add: add, at: parsePlace(f.Cursor)}
	err := l.run(ctx, in, filter)
	progress("")
	err = errors.Join(err, r.flush())
	switch {
	case errors.Is(err, redisidem.ErrInvalid):
	case l.at != place{}:
		fmt.Fprintf(os.Stderr, "%s; continue with --cursor %s\n", count(l.printed, "key"), l.at)
	case r.json == nil && err == nil:
		fmt.Fprintln(os.Stderr, count(l.printed, "key"))
	}
	if err == nil && l.unread > 0 {
		return errUnread(l.unread)
	}
	return err
}

// run prints page by page, until the list or its limit ends.
func (l *listing) run(ctx context.Context, in *redisidem.Inspector, filter redisidem.Filter) error {
	flushed := time.Now()
	for page, err := range in.List(ctx, filter, l.at.page) {
		if err != nil {
			return err
		}
		l.records, l.unread = l.records+page.Records, l.unread+page.Unread
		if !l.print(&page) {
			return nil
		}
		if time.Since(flushed) >= flushEvery {
			progress("")
			if err := l.rows.flush(); err != nil {
				return err
			}
			flushed = time.Now()
			progress(fmt.Sprintf("%s found in %s ", count(l.printed, "key"), count(l.records, "record")))
		}
	}
	return nil
}

// print prints the keys of a page, and reports whether the list goes on.
func (l *listing) print(page *redisidem.Page) bool {
	slices.SortFunc(page.Keys, func(a, b *redisidem.KeyInfo) int { return strings.Compare(a.ID, b.ID) })
	for _, k := range page.Keys {
		if l.at.isBehind(page, k) || !l.seen.add(k.ID) {
			continue
		}
		if l.limit > 0 && l.printed == l.limit {
			return false // the rest of the page is for a later list
		}
		l.add(k)
		l.printed++
		if l.printed == l.limit {
			l.at = place{page: l.at.page, until: sumOf(page.Next), after: k.ID}
		}
	}
	l.at = place{page: page.Next}
	return page.Next != "" && (l.limit == 0 || l.printed < l.limit)
}

// place is where a list continues: at the beginning of a page or, if after is set, behind the key
// with that ID in the page, whose keys are printed in the order of their IDs. Redis gives the same
// keys for the page again, unless it changes the size of its tables meanwhile. The end of the page
// shows that, and then all of the page is printed: keys may come twice, but none is lost.
type place struct {
	page  string // the cursor of the page
	until string // stands for the cursor of the next page
	after string
}

const placeSeparator = "/" // which no cursor of a page has

// parsePlace reads a place. Any other text becomes the cursor of a page, which the list checks.
func parsePlace(text string) place {
	if words := strings.Split(text, placeSeparator); len(words) == 3 {
		return place{words[0], words[1], words[2]}
	}
	return place{page: text}
}

// String returns the place as text.
func (p place) String() string {
	if p.after == "" {
		return p.page
	}
	return strings.Join([]string{p.page, p.until, p.after}, placeSeparator)
}

// isBehind reports whether the place is behind a key of its page.
func (p place) isBehind(page *redisidem.Page, k *redisidem.KeyInfo) bool {
	return p.after != "" && p.until == sumOf(page.Next) && k.ID <= p.after
}

// sumOf returns a short text that stands for a cursor.
func sumOf(cursor string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(cursor))
	return strconv.FormatUint(uint64(h.Sum32()), 36)
}

// recentKeys is how many of the last keys of a list are remembered at least. Redis repeats keys
// when it changes the size of its tables. It repeats those of neighbouring pages then.
const recentKeys = 50_000

// recent remembers the last keys of a list, in bounded memory.
type recent struct{ now, before map[string]struct{} }

// add adds a key, and reports whether it is new.
func (r *recent) add(id string) bool {
	if _, again := r.now[id]; again {
		return false
	}
	if _, again := r.before[id]; again {
		return false
	}
	if r.now == nil || len(r.now) >= recentKeys {
		r.now, r.before = make(map[string]struct{}), r.now
	}
	r.now[id] = struct{}{}
	return true
}
