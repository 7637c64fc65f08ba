package console

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

const (
	// maxTargets is how many keys one form can hit.
	maxTargets = 500
	// targetsTime is after how long an act on all that match is about the keys that were found.
	targetsTime = 20 * time.Second
	// maxReason is the bound of [redisidem.Act], for the form's field.
	maxReason = 512
)

// actKind is a kind of act.
type actKind struct {
	Name, Title, Done string
	Warning           string // what the user should know before
	do                func(in *redisidem.Inspector, ctx context.Context, k *redisidem.KeyInfo, f *actForm) error
}

// Grave reports whether the act cannot be taken back.
func (k actKind) Grave() bool { return k.Name != "requeue" && k.Name != "read" }

// actKinds are the kinds of acts by their names.
var actKinds = map[string]actKind{
	"unlock": {
		"unlock", "Unlock", "unlocked",
		"The worker loses its lease, and another one may start at once. What the worker did outside of Redis may be done again.",
		withoutOutcome((*redisidem.Inspector).Unlock),
	},
	"requeue": {
		"requeue", "Requeue", "requeued",
		"A completer continues the key at once, with all its attempts.",
		withoutOutcome((*redisidem.Inspector).Requeue),
	},
	"cancel": {
		"cancel", "Cancel", "canceled",
		"The flow stops, and nothing that a running stage returns is stored. Then committed stages are undone, and the key finishes with the flow's answer.",
		withoutOutcome((*redisidem.Inspector).Cancel),
	},
	"resolve": {
		"resolve", "Resolve", "resolved",
		"The key is finished with this answer, and each retry gets it. This cannot be changed later.",
		func(in *redisidem.Inspector, ctx context.Context, k *redisidem.KeyInfo, f *actForm) error {
			return in.Resolve(ctx, k, f.outcome, f.act)
		},
	},
	"delete": {
		"delete", "Delete", "deleted",
		"The record is removed and nothing is undone. The next request with the key runs the work again.",
		withoutOutcome((*redisidem.Inspector).Delete),
	},
	"read": {
		"read", "Show values", "read",
		"Params, response body and all header fields are shown. They may contain personal data.",
		withoutOutcome((*redisidem.Inspector).AuditRead),
	},
}

// withoutOutcome makes the function of a kind from a method that takes no outcome.
func withoutOutcome(do func(*redisidem.Inspector, context.Context, *redisidem.KeyInfo, redisidem.Act) error) func(
	*redisidem.Inspector, context.Context, *redisidem.KeyInfo, *actForm,
) error {
	return func(in *redisidem.Inspector, ctx context.Context, k *redisidem.KeyInfo, f *actForm) error {
		return do(in, ctx, k, f.act)
	}
}

func bulkActs(names ...string) []actKind {
	kinds := make([]actKind, 0, len(names))
	for _, name := range names {
		kinds = append(kinds, actKinds[name])
	}
	return kinds
}

// actsOn returns the acts that make sense for a key.
func actsOn(k *redisidem.KeyInfo) []actKind {
	inFlow := k.Flow != ""
	var names []string
	add := func(name string, makesSense bool) {
		if makesSense {
			names = append(names, name)
		}
	}
	add("unlock", k.State == redisidem.KeyInFlight)
	add("requeue", k.State == redisidem.KeyDead || k.State == redisidem.KeyInterrupted && inFlow)
	add("cancel", inFlow && k.State != redisidem.KeyFinished && k.CanceledAt.IsZero())
	add("resolve", !slices.Contains([]redisidem.KeyState{redisidem.KeyUnreadable, redisidem.KeyInFlight, redisidem.KeyFinished}, k.State))
	add("read", k.State != redisidem.KeyUnreadable)
	add("delete", k.State != redisidem.KeyInFlight)
	return bulkActs(names...)
}

// actForm is what the user has filled in.
type actForm struct {
	Reason, Status, Type, Body string
	Leave                      bool

	act     redisidem.Act
	outcome redisidem.Outcome
}

// readActForm reads a form. With an error, it still has what was filled in.
func readActForm(v *visit, kind actKind) (f *actForm, err error) {
	form := v.r.PostForm
	f = &actForm{Reason: form.Get("reason"), Status: form.Get("status"), Type: form.Get("type"), Body: form.Get("body"), Leave: form.Has("leave")}
	f.act = redisidem.Act{Actor: v.user.Name, Reason: strings.TrimSpace(f.Reason)}
	if kind.Name != "resolve" {
		return f, nil
	}
	status, err := strconv.Atoi(strings.TrimSpace(f.Status))
	if err != nil || status != 0 && (status < 200 || status > 599) { // 1xx is not an answer
		return f, badInput("Status", "must be a number from 200 to 599, or 0 for none")
	}
	answer := redisidem.Response{Code: status, Body: bytes.ReplaceAll([]byte(f.Body), []byte("\r\n"), []byte("\n"))}
	if f.Type != "" && f.Body != "" {
		answer.Header = map[string][]string{"Content-Type": {f.Type}}
	}
	if f.outcome = redisidem.Finish(answer); f.Leave {
		f.outcome = f.outcome.Leave()
	}
	return f, nil
}

// hit is a key that an act is about.
type hit struct {
	Target string
	ID     string
	Key    *redisidem.KeyInfo
	Err    string // why it cannot be acted on
}

// confirmPage asks whether to act.
type confirmPage struct {
	Kind    actKind
	Form    *actForm
	Hits    []hit // what the act will hit
	Misses  []hit // what it will not
	Note    string
	Problem string
	Reasons int // the bound of a reason in bytes
}

// act shows what an act will hit, or does it once it is confirmed.
func (c *Console) act(v *visit) error {
	if err := v.mayAct(); err != nil {
		return err
	}
	kind, ok := actKinds[v.r.PathValue("act")]
	if !ok {
		return errNoPage
	}
	if err := v.parseForm(); err != nil {
		return err
	}
	p, err := c.readTargets(v, kind)
	if err != nil {
		return err
	}
	// A page that was confirmed names its keys.
	if form := v.r.PostForm; form.Has("all") || !form.Has("confirmed") {
		p.Form = &actForm{Status: "200", Type: "application/json"}
		return v.render(http.StatusOK, "confirm", kind.Title, p)
	}
	if p.Form, err = readActForm(v, kind); err == nil {
		var results []result
		if results, err = c.carryOut(v, p); err == nil {
			return c.showResults(v, p, results)
		}
	}
	explained := explain(err)
	if explained.status != http.StatusBadRequest {
		return err
	}
	p.Problem = explained.text
	return v.render(http.StatusBadRequest, "confirm", kind.Title, p)
}

// readTargets reads the keys that the form names, or those that match its filter.
func (c *Console) readTargets(v *visit, kind actKind) (*confirmPage, error) {
	p := &confirmPage{Kind: kind, Reasons: maxReason}
	ctx, form := v.r.Context(), v.r.PostForm
	ofOne := kind.Name == "resolve" || kind.Name == "read"
	if form.Has("all") {
		if ofOne {
			return nil, badInput("all", "must not be there: this act is on one key")
		}
		_, filter, err := readFilter(form)
		if err != nil {
			return nil, err
		}
		if err := v.beginCostly(); err != nil {
			return nil, err
		}
		found, err := c.collect(ctx, filter, "", maxTargets, targetsTime)
		if err != nil {
			return nil, err
		}
		keys := found.Keys[:min(len(found.Keys), maxTargets)]
		if len(keys) < len(found.Keys) || found.cursor != "" {
			p.Note = "These are the first that match, after " + count(found.Records, "record") + ". Repeat the act for the rest."
		}
		if text := found.Unfiltered(); text != "" {
			p.Note = strings.TrimSpace(p.Note + " " + text)
		}
		for _, k := range keys {
			p.Hits = append(p.Hits, hit{Target: newTarget(k).String(), ID: k.ID, Key: k})
		}
		return p, nil
	}
	texts := form["target"]
	switch {
	case len(texts) == 0:
		return nil, badInput("target", "is missing: choose at least one key")
	case len(texts) > maxTargets:
		return nil, badInput("target", "is there "+count(len(texts), "time")+", more than "+strconv.Itoa(maxTargets))
	case ofOne && len(texts) != 1:
		return nil, badInput("target", "must be there once")
	}
	for _, text := range texts {
		t, err := parseTarget(text)
		if err != nil {
			return nil, err
		}
		k, err := t.read(ctx, c.inspector)
		switch {
		case err == nil:
			p.Hits = append(p.Hits, hit{Target: text, ID: t.id, Key: k})
		case errors.Is(err, redisidem.ErrUnavailable), errors.Is(err, redisidem.ErrInvalid), errors.Is(err, redisidem.ErrClosed):
			return nil, err
		default:
			p.Misses = append(p.Misses, hit{ID: t.id, Err: message(err)})
		}
	}
	return p, nil
}

// result is what became of one key.
type result struct {
	ID   string
	Done bool
	Text string
}

// carryOut acts on each key. It returns an error if the form is refused; nothing was done then.
func (c *Console) carryOut(v *visit, p *confirmPage) (results []result, err error) {
	stopped := false
	for i, h := range p.Hits {
		if stopped {
			results = append(results, result{h.ID, false, "Not done, because Redis did not answer before."})
			continue
		}
		err := p.Kind.do(c.inspector, v.r.Context(), h.Key, p.Form)
		if err == nil {
			results = append(results, result{h.ID, true, p.Kind.Done})
			continue
		}
		switch refused := explain(err); {
		case i == 0 && refused.status == http.StatusBadRequest && (len(p.Hits) == 1 || isActField(err)):
			return nil, err
		default:
			stopped = refused.status == http.StatusServiceUnavailable
			results = append(results, result{h.ID, false, refused.text})
		}
	}
	for _, m := range p.Misses {
		results = append(results, result{m.ID, false, m.Err})
	}
	return results, nil
}

// isActField reports whether an error is about what all keys have in common.
func isActField(err error) bool {
	invalid, ok := errors.AsType[*redisidem.InvalidError](err)
	return ok && strings.HasPrefix(invalid.Field, "Act.")
}

// showResults shows what became of the keys. What was done to a single key is shown on its page.
func (c *Console) showResults(v *visit, p *confirmPage, results []result) error {
	done := 0
	for _, r := range results {
		if r.Done {
			done++
		}
	}
	if len(results) == 1 && done == 1 {
		switch p.Kind.Name {
		case "delete":
		case "read":
			return v.render(http.StatusOK, "key", "Key", newKeyPage(v, p.Hits[0].Key, true))
		default:
			v.redirect(v.link("keys/"+results[0].ID, map[string][]string{"done": {p.Kind.Name}}))
			return nil
		}
	}
	status := http.StatusOK
	if done < len(results) {
		status = http.StatusConflict
	}
	return v.render(status, "results", p.Kind.Title, struct {
		Kind    actKind
		Done    int
		Results []result
	}{p.Kind, done, results})
}
