package console

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/redisidem/redisidem/redisidem"
)

// keyPage is all about a key.
type keyPage struct {
	Key      *redisidem.KeyInfo
	Meaning  string
	Facts    []fact
	Response *response
	Timeline []moment
	Values   []storedValue // only if they are revealed
	Acts     []actKind
	Target   string
	Done     string // what was done to the key just now
	Audit    string // URL of the key's audit
}

// newKeyPage makes the page of a key, with its values only if they are to be revealed.
func newKeyPage(v *visit, k *redisidem.KeyInfo, reveal bool) *keyPage {
	p := &keyPage{Key: k, Meaning: meanings[k.State], Acts: actsOn(k), Target: newTarget(k).String()}
	p.Audit = v.link("audit", map[string][]string{"key": {k.ID}})
	p.Facts = facts(k)
	if k.State == redisidem.KeyUnreadable {
		return p
	}
	p.Response, p.Timeline = newResponse(k, reveal), timeline(k)
	if reveal && k.Key != nil {
		p.Values = append(p.Values, newStoredValue("Params", k.Key.Params))
		if r := k.Key.Response; !r.IsZero() {
			p.Values = append(p.Values, newStoredValue("Response body", r.Body))
		}
	}
	return p
}

// showKey shows a key without its values.
func (c *Console) showKey(v *visit) error {
	k, err := c.inspector.Find(v.r.Context(), v.r.PathValue("id"))
	if err != nil {
		return err
	}
	p := newKeyPage(v, k, false)
	if kind, ok := actKinds[v.r.URL.Query().Get("done")]; ok {
		p.Done = kind.Done
	}
	return v.render(http.StatusOK, "key", "Key", p)
}

// fact is a line about a key.
type fact struct{ Name, Value string }

// facts returns the lines about a key that can be read.
func facts(k *redisidem.KeyInfo) (all []fact) {
	add := func(name, value string) {
		if value != "" {
			all = append(all, fact{name, shown(value)})
		}
	}
	ago := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return clock(t) + ", " + after(k.At, t) + " ago"
	}
	add("Scope", k.Scope)
	add("Key", k.Value)
	if k.State == redisidem.KeyUnreadable {
		return all
	}
	add("Request", k.Method+" "+k.Path)
	add("Flow", k.Flow)
	add("Stage", fmt.Sprintf("%s, revision %d", k.RecoveryPoint, k.Revision))
	add("Attempts", fmt.Sprintf("%d, %d of them since the last commit", k.Attempts, k.StageAttempts))
	add("Created", ago(k.CreatedAt))
	add("Canceled", ago(k.CanceledAt))
	add("Lease given", ago(k.LockedAt))
	add("Lease of", k.LockedBy)
	add("Lease left", leaseLeft(k.LeaseLeft))
	add("Due", due(k))
	if k.DeadLetter != nil {
		add("Dead since", ago(k.DeadLetter.At))
		add("Dead because", k.DeadLetter.Reason)
	}
	add("Last failure", lastFailure(k))
	add("Expires", expires(k.Life))
	if k.NotKept != "" {
		add("Not kept", k.NotKept+" could not be stored")
	}
	if k.Key != nil {
		add("Params", size(k.Key.Params))
	}
	return all
}

// lastFailure describes the last attempt that failed. Its text is the program's own.
func lastFailure(k *redisidem.KeyInfo) string {
	f := k.LastFailure
	if f == nil {
		return ""
	}
	text := clock(f.At) + ", " + after(k.At, f.At) + " ago, attempt " + strconv.Itoa(f.Attempt) + " by " + f.Owner
	switch {
	case f.Err != nil:
		text += ". Its text cannot be read: " + plain(f.Err)
	case f.Text != "":
		text += ": " + f.Text
	}
	return text
}

func leaseLeft(d time.Duration) string {
	switch {
	case d < 0:
		return "no end: the lock has no expiry"
	case d == 0:
		return ""
	}
	return span(d)
}

func due(k *redisidem.KeyInfo) string {
	switch {
	case k.Due.IsZero():
		return ""
	case k.Due.After(k.At):
		return clock(k.Due) + ", in " + span(k.Due.Sub(k.At))
	}
	return clock(k.Due) + ", " + after(k.At, k.Due) + " overdue"
}

func expires(life time.Duration) string {
	if life < 0 {
		return "never: its expiry was removed"
	}
	return "in " + span(life) + " if nothing changes"
}

func size(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return count(len(b), "byte")
}

// response is the stored answer without its body.
type response struct {
	Status  int
	Body    string // its size
	Headers []fact
}

// shownFields are the header fields whose values are shown. Those of all others are hidden like a
// body: an application may have any secret in a field of its own, or in a Location.
var shownFields = []string{
	"Allow", "Cache-Control", "Content-Encoding", "Content-Language", "Content-Length", "Content-Type", "Date", "Etag",
	"Expires", "Last-Modified", "Retry-After", "Vary",
}

// newResponse returns the stored answer of a key, or nil if it has none.
func newResponse(k *redisidem.KeyInfo, reveal bool) *response {
	if k.Key == nil {
		if k.Status == 0 {
			return nil
		}
		return &response{Status: k.Status}
	}
	stored := k.Key.Response
	if stored.IsZero() {
		return nil
	}
	r := &response{Status: stored.Code, Body: size(stored.Body)}
	for _, name := range slices.Sorted(maps.Keys(stored.Header)) {
		for _, value := range stored.Header[name] {
			if !reveal && !slices.Contains(shownFields, http.CanonicalHeaderKey(name)) {
				value = "hidden, " + count(len(value), "byte")
			}
			r.Headers = append(r.Headers, fact{shown(name), shown(value)})
		}
	}
	return r
}

// storedValue is a value that the application has stored.
type storedValue struct{ Name, Text, Note string }

// maxShown is how many bytes of a value a page shows.
const maxShown = 256 << 10

func newStoredValue(name string, b []byte) storedValue {
	v := storedValue{Name: name, Note: count(len(b), "byte")}
	if end := maxShown; len(b) > end {
		for end > maxShown-utf8.UTFMax && !utf8.RuneStart(b[end]) {
			end-- // not within a character
		}
		b = b[:end]
		v.Note += ", of which the first " + count(end, "byte") + " are shown"
	}
	if v.Text = string(b); !utf8.Valid(b) {
		v.Text = strconv.QuoteToGraphic(v.Text)
		v.Note += ", not text in UTF-8, and therefore quoted"
	}
	return v
}

// moment is something that happened to a key.
type moment struct {
	At            time.Time
	After         string // since the key was created
	What          string
	Took, Attempt string
	Owner         string
	Kind          string
}

// timeline returns what happened to a key, oldest first.
func timeline(k *redisidem.KeyInfo) []moment {
	all := []moment{{At: k.CreatedAt, After: "0s", What: "created", Kind: "created"}}
	for _, e := range k.Journal {
		m := moment{At: e.At, After: after(e.At, k.CreatedAt), What: "commit of " + shown(e.Stage), Owner: shown(e.Owner), Kind: "commit"}
		if e.Attempt > 0 {
			m.Took, m.Attempt = span(e.Took), strconv.Itoa(e.Attempt)
		} else {
			m.What, m.Kind = "commit by hand at "+shown(e.Stage), "hand"
		}
		all = append(all, m)
	}
	if !k.CanceledAt.IsZero() {
		all = append(all, moment{At: k.CanceledAt, After: after(k.CanceledAt, k.CreatedAt), What: "canceled", Kind: "dead"})
	}
	if !k.LockedAt.IsZero() {
		all = append(all, moment{At: k.LockedAt, After: after(k.LockedAt, k.CreatedAt), What: "lease given at " + shown(k.RecoveryPoint), Kind: "lease"})
	}
	if k.DeadLetter != nil {
		all = append(all, moment{At: k.DeadLetter.At, After: after(k.DeadLetter.At, k.CreatedAt), What: "became a dead letter", Kind: "dead"})
	}
	slices.SortStableFunc(all, func(a, b moment) int { return a.At.Compare(b.At) })
	return all
}
