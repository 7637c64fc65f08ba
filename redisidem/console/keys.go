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
	Keys    []*redisidem.KeyInfo
	Records int // looked at for this page
	Next    string
	Problem string
	Acts    []actKind
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
	var next string
	if err == nil {
		err = v.beginCostly()
	}
	if err == nil {
		l.Keys, l.Records, next, err = c.collect(v.r.Context(), filter, query.Get("cursor"), pageKeys, pageTime)
	}
	status := http.StatusOK
	if err != nil {
		p := explain(err)
		if p.status >= http.StatusInternalServerError && len(l.Keys) == 0 {
			return err
		}
		status, l.Problem = p.status, p.text
	}
	if next != "" {
		more := form.query()
		more.Set("cursor", next)
		l.Next = v.link(name, more)
	}
	return v.render(status, "keys", title, l)
}

// collect returns the keys of the next pages of a list, each once, until it has enough or some time
// has passed. next continues the list, also after an error.
func (c *Console) collect(ctx context.Context, f redisidem.Filter, cursor string, enough int, patience time.Duration) (
	keys []*redisidem.KeyInfo, records int, next string, err error,
) {
	began := time.Now()
	seen := make(map[string]bool)
	next = cursor
	for page, err := range c.inspector.List(ctx, f, cursor) {
		if err != nil {
			return keys, records, next, err
		}
		for _, k := range page.Keys {
			if !seen[k.ID] {
				seen[k.ID] = true
				keys = append(keys, k)
			}
		}
		records += page.Records
		next = page.Next
		if len(keys) >= enough || time.Since(began) >= patience {
			break
		}
	}
	return keys, records, next, nil
}
