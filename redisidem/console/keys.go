package console

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

const (
	// pageKeys is how many keys a page has at least, if there are so many.
	pageKeys = 50
	// pageTime is after how long a page is shown with the keys that were found. With what else a
	// page takes, it is there within a second.
	pageTime = 800 * time.Millisecond
)

// list is a page of keys.
type list struct {
	Form    filterForm
	Dead    bool // the page is about dead letters
	Found   matching
	Next    string // the address of the next page; empty on the last one
	Problem string
	Acts    []actKind
}

// matching is what a look through the records has found.
type matching struct {
	Keys    []*redisidem.KeyInfo
	Records int    // looked at
	Unread  int    // keys that may match, whose last failure cannot be decoded
	cursor  string // continues the look; empty at its end
}

// Unfiltered says of which keys it is not known whether they match; "" for none.
func (m *matching) Unfiltered() string {
	if m.Unread == 0 {
		return ""
	}
	return "The error of " + count(m.Unread, "key") + " cannot be read without the programs' codec, so it is not known whether it matches."
}

// Target names a key of the list in a form.
func (l *list) Target(k *redisidem.KeyInfo) string { return newTarget(k).String() }

// showKeys shows a page of the keys that match a filter.
func (c *Console) showKeys(v *visit) error {
	return c.showList(v, v.r.URL.Query(), &list{Acts: bulkActs("unlock", "requeue", "cancel", "delete")})
}

// showDead shows a page of dead letters.
func (c *Console) showDead(v *visit) error {
	query := v.r.URL.Query()
	query.Set("state", redisidem.KeyDead.String())
	return c.showList(v, query, &list{Dead: true, Acts: bulkActs("requeue", "cancel", "delete")})
}

func (c *Console) showList(v *visit, query url.Values, l *list) error {
	name, title := "keys", "Keys"
	if l.Dead {
		name, title = "dead", "Dead letters"
	}
	form, filter, err := readFilter(query)
	l.Form = form
	if err == nil {
		err = v.beginCostly()
	}
	if err == nil {
		l.Found, err = c.collect(v.r.Context(), filter, query.Get("cursor"), pageKeys, pageTime)
	}
	status := http.StatusOK
	if err != nil {
		p := explain(err)
		if p.status >= http.StatusInternalServerError && len(l.Found.Keys) == 0 {
			return err
		}
		status, l.Problem = p.status, p.text
	}
	if cursor := l.Found.cursor; cursor != "" {
		more := form.query()
		more.Set("cursor", cursor)
		l.Next = v.link(name, more)
	}
	return v.render(status, "keys", title, l)
}

// collect looks through the next pages of a list for keys, each once, until it has enough or some
// time has passed. What was found can be continued after an error, too.
func (c *Console) collect(ctx context.Context, f redisidem.Filter, cursor string, enough int, patience time.Duration) (matching, error) {
	began := time.Now()
	seen := make(map[string]bool)
	found := matching{cursor: cursor}
	for page, err := range c.inspector.List(ctx, f, cursor) {
		if err != nil {
			return found, err
		}
		for _, k := range page.Keys {
			if !seen[k.ID] {
				seen[k.ID] = true
				found.Keys = append(found.Keys, k)
			}
		}
		found.Records += page.Records
		found.Unread += page.Unread
		found.cursor = page.Next
		if len(found.Keys) >= enough || time.Since(began) >= patience {
			break
		}
	}
	return found, nil
}
