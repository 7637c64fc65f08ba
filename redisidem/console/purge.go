package console

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// purgeTime is after how long a step of a purge, or of its count, ends. The page then has a button
// that continues it.
const purgeTime = 10 * time.Second

// purgePage is a step of the purge of a scope.
type purgePage struct {
	Scope, Reason, Cursor string
	Problem               string
	Reasons               int // the bound of a reason in bytes

	Counted          bool // Hits and Locked were counted, in Records
	Partly           bool // the count is not complete
	Hits, Locked     int
	Begun            bool // Deleted and Locked are those of the purge so far
	More             bool // the purge has not ended: Cursor continues it
	Deleted, Records int
	Unknown          int // damaged records whose scope cannot be read, of those looked at
}

// showPurge asks for a scope.
func (c *Console) showPurge(v *visit) error {
	if err := v.mayAct(); err != nil {
		return err
	}
	return v.render(http.StatusOK, "purge", "Purge", &purgePage{Scope: v.r.URL.Query().Get("scope")})
}

// purge counts the keys of a scope, or deletes them once that is confirmed.
func (c *Console) purge(v *visit) error {
	if err := v.mayAct(); err != nil {
		return err
	}
	if err := v.parseForm(); err != nil {
		return err
	}
	if err := v.beginCostly(); err != nil {
		return err
	}
	form := v.r.PostForm
	p := &purgePage{Scope: form.Get("scope"), Reason: form.Get("reason"), Cursor: form.Get("cursor"), Reasons: maxReason}
	step := c.countScope
	if form.Has("confirmed") {
		step = c.purgeScope
		for name, n := range map[string]*int{"deleted": &p.Deleted, "locked": &p.Locked, "unknown": &p.Unknown, "records": &p.Records} {
			*n, _ = strconv.Atoi(form.Get(name)) // of the steps before
		}
	}
	status := http.StatusOK
	if err := step(v, p); err != nil {
		explained := explain(err)
		if explained.status != http.StatusBadRequest && !p.Begun {
			return err
		}
		status, p.Problem = explained.status, explained.text
	}
	return v.render(status, "purge", "Purge", p)
}

// countScope counts the keys of a scope.
func (c *Console) countScope(v *visit, p *purgePage) error {
	if p.Scope == "" {
		return badInput("Scope", "must not be empty")
	}
	began := time.Now()
	seen := make(map[string]bool)
	for page, err := range c.inspector.List(v.r.Context(), redisidem.Filter{Scope: p.Scope}, "") {
		if err != nil {
			return err
		}
		for _, k := range page.Keys {
			switch {
			case seen[k.ID]:
			case k.State == redisidem.KeyInFlight:
				p.Locked++
			default:
				p.Hits++
			}
			seen[k.ID] = true
		}
		p.Records += page.Records
		if p.Partly = page.Next != ""; p.Partly && time.Since(began) > c.purgeTime {
			break
		}
	}
	p.Counted = true
	return nil
}

// purgeScope deletes keys of a scope, until it has none left or the step has taken its time.
func (c *Console) purgeScope(v *visit, p *purgePage) error {
	began := time.Now()
	before := *p
	act := redisidem.Act{Actor: v.user.Name, Reason: strings.TrimSpace(p.Reason)}
	for done, err := range c.inspector.Purge(v.r.Context(), p.Scope, p.Cursor, act) {
		p.Deleted, p.Locked = before.Deleted+done.Deleted, before.Locked+done.Locked
		p.Unknown, p.Records = before.Unknown+done.Unknown, before.Records+done.Records
		p.Cursor = done.Next
		p.More = p.Cursor != "" || err != nil
		if err != nil {
			// The first page may fail in its middle, and has no cursor then.
			p.Begun = p.Cursor != "" || p.Deleted+p.Locked > 0
			return err
		}
		p.Begun = true
		if time.Since(began) > c.purgeTime {
			break
		}
	}
	return nil
}
