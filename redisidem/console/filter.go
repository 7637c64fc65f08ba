package console

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// filterForm is the form of a list's filter, as its user has filled it in.
type filterForm struct {
	States                       []stateChoice
	Scope, Flow, Older, Attempts string
	Failure                      string
}

// stateChoice is a box for a state.
type stateChoice struct {
	State   redisidem.KeyState
	Checked bool
}

// readFilter reads a filter from a form. With an error, the form still has what was filled in.
func readFilter(values url.Values) (form filterForm, f redisidem.Filter, err error) {
	form = filterForm{Scope: values.Get("scope"), Flow: strings.TrimSpace(values.Get("flow")), Older: strings.TrimSpace(values.Get("older"))}
	form.Failure = values.Get("error")
	form.Attempts = strings.TrimSpace(values.Get("attempts"))
	f = redisidem.Filter{Scope: form.Scope, Flow: form.Flow, Failure: form.Failure}
	chosen := make(map[string]bool)
	for _, name := range values["state"] {
		chosen[name] = true
	}
	for _, state := range redisidem.KeyStates() {
		form.States = append(form.States, stateChoice{state, chosen[state.String()]})
		if chosen[state.String()] {
			f.States = append(f.States, state)
			delete(chosen, state.String())
		}
	}
	for name := range chosen {
		return form, f, badInput("State", strconv.Quote(name)+" is not a state")
	}
	if form.Older != "" {
		if f.OlderThan, err = time.ParseDuration(form.Older); err != nil || f.OlderThan < 0 {
			return form, f, badInput("Older than", "must be a duration such as 90s, 15m or 48h")
		}
	}
	if form.Attempts != "" {
		if f.Attempts, err = strconv.Atoi(form.Attempts); err != nil || f.Attempts < 0 {
			return form, f, badInput("Attempts", "must be a number from 0")
		}
	}
	return form, f, nil
}

// query returns the form as the query of a URL.
func (f *filterForm) query() url.Values {
	values := make(url.Values)
	for _, s := range f.States {
		if s.Checked {
			values.Add("state", s.State.String())
		}
	}
	for name, value := range map[string]string{"scope": f.Scope, "flow": f.Flow, "older": f.Older, "attempts": f.Attempts, "error": f.Failure} {
		if value != "" {
			values.Set(name, value)
		}
	}
	return values
}
