package console

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

const (
	auditLimit    = 200    // entries that a page has at first
	maxAuditLimit = 50_000 // entries that a page can have
	auditSince    = "168h" // how far a page goes back at first
)

// auditPage is the newest entries of the audit.
type auditPage struct {
	Since, Key, Actor string
	Entries           []redisidem.AuditEntry // newest first
	Found             int
	More              string
	Problem           string
}

// ofKey reports whether an act was on a key that has a page. The IDs of the others stand for a
// scope or a flow.
func ofKey(e redisidem.AuditEntry) bool {
	return !e.OfFlow() && !strings.HasPrefix(e.Act, "purge: ") && !strings.HasPrefix(e.Act, "reindex: ")
}

// showAudit shows what operators did.
func (c *Console) showAudit(v *visit) error {
	query := v.r.URL.Query()
	p := &auditPage{Since: strings.TrimSpace(query.Get("since")), Key: strings.TrimSpace(query.Get("key")), Actor: strings.TrimSpace(query.Get("actor"))}
	limit, err := p.read(c, v, query)
	if err != nil {
		explained := explain(err)
		if explained.status != http.StatusBadRequest {
			return err
		}
		p.Problem = explained.text
		return v.render(http.StatusBadRequest, "audit", "Audit", p)
	}
	if p.Found > limit && limit < maxAuditLimit {
		more := url.Values{"since": {p.Since}, "key": {p.Key}, "actor": {p.Actor}, "limit": {strconv.Itoa(min(5*limit, maxAuditLimit))}}
		p.More = v.link("audit", more)
	}
	return v.render(http.StatusOK, "audit", "Audit", p)
}

// read reads the entries that the form asks for, and returns how many of them it may have.
func (p *auditPage) read(c *Console, v *visit, query url.Values) (limit int, err error) {
	limit = auditLimit
	if text := query.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxAuditLimit {
			return 0, badInput("Limit", "must be a number from 1 to "+strconv.Itoa(maxAuditLimit))
		}
	}
	if p.Since == "" {
		p.Since = auditSince
	}
	since, err := time.ParseDuration(p.Since)
	if err != nil || since < 0 {
		return 0, badInput("Since", "must be a duration such as 90m or 48h, or 0 for all")
	}
	var from time.Time
	if since > 0 {
		from = time.Now().Add(-since)
	}
	if err := v.beginCostly(); err != nil {
		return 0, err
	}
	entries, err := c.inspector.Audit(v.r.Context(), from, time.Time{})
	switch {
	case errors.Is(err, redisidem.ErrDamaged): // of some shards; the entries of the others are there
		p.Problem = explain(err).text
	case err != nil:
		return 0, err
	}
	entries = slices.DeleteFunc(entries, func(e redisidem.AuditEntry) bool {
		return p.Key != "" && p.Key != e.KeyID || p.Actor != "" && p.Actor != e.Actor
	})
	p.Found = len(entries)
	p.Entries = entries[max(len(entries)-limit, 0):]
	slices.Reverse(p.Entries)
	return limit, nil
}
