package console

import (
	"context"
	"net/http"
	"strings"

	"github.com/redisidem/redisidem/redisidem"
)

// flowAct is a kind of act on a flow.
type flowAct struct {
	Name, Title, Done string
	Warning           string // what the user should know before
	do                func(in *redisidem.Inspector, ctx context.Context, p *flowActPage, act redisidem.Act) error
}

// flowActs are the acts on flows by their names.
var flowActs = map[string]flowAct{
	"pause": {
		"pause", "Pause", "paused",
		"Completers begin no run of the flow until it is resumed. A run that has begun goes on to its end. Keys that wait cost no attempt.",
		func(in *redisidem.Inspector, ctx context.Context, p *flowActPage, act redisidem.Act) error {
			return in.Pause(ctx, p.Flow, p.Clients, act)
		},
	},
	"resume": {
		"resume", "Resume", "resumed",
		"Completers continue the flow's keys, all that are overdue among them.",
		func(in *redisidem.Inspector, ctx context.Context, p *flowActPage, act redisidem.Act) error {
			return in.Resume(ctx, p.Flow, act)
		},
	},
}

// flowActPage asks whether to act on a flow.
type flowActPage struct {
	Kind    flowAct
	Flow    string // the name of a flow, or name/version; empty until it is chosen
	Clients bool
	Reason  string
	Reasons int // the bound of a reason in bytes
	Problem string

	Pause *redisidem.Pause     // the one that is in force
	Index *redisidem.FlowIndex // nil if it was not read
}

// newFlowAct returns the page of an act, if the user may act.
func newFlowAct(v *visit) (*flowActPage, error) {
	if err := v.mayAct(); err != nil {
		return nil, err
	}
	kind, ok := flowActs[v.r.PathValue("act")]
	if !ok {
		return nil, errNoPage
	}
	return &flowActPage{Kind: kind, Reasons: maxReason}, nil
}

// showFlowAct asks for a flow, or shows what an act on it will hit.
func (c *Console) showFlowAct(v *visit) error {
	p, err := newFlowAct(v)
	if err != nil {
		return err
	}
	if p.Flow = strings.TrimSpace(v.r.URL.Query().Get("flow")); p.Flow == "" {
		return v.render(http.StatusOK, "flowact", p.Kind.Title, p)
	}
	if err := p.look(v); err != nil {
		return p.refuse(v, err)
	}
	p.Clients = p.Pause != nil && p.Pause.Clients
	if p.Kind.Name == "resume" && p.Pause == nil {
		return redisidem.ErrNotPaused
	}
	return v.render(http.StatusOK, "flowact", p.Kind.Title+" "+shown(p.Flow), p)
}

// look reads the flow's index and its pause.
func (p *flowActPage) look(v *visit) error {
	if err := v.beginCostly(); err != nil {
		return err
	}
	ctx, in := v.r.Context(), v.console.inspector
	name, _, _ := strings.Cut(p.Flow, "/")
	indexes, err := in.FlowIndexes(ctx, name)
	if err != nil {
		return err
	}
	p.Index = new(redisidem.FlowIndex)
	for _, index := range indexes {
		if index.Name == name {
			p.Index = &index
		}
	}
	pauses, err := in.Pauses(ctx)
	for _, pause := range pauses {
		if pause.Flow == p.Flow {
			p.Pause = &pause
		}
	}
	return err
}

// actOnFlow pauses or resumes a flow.
func (c *Console) actOnFlow(v *visit) error {
	p, err := newFlowAct(v)
	if err != nil {
		return err
	}
	if err := v.parseForm(); err != nil {
		return err
	}
	form := v.r.PostForm
	p.Flow, p.Reason, p.Clients = strings.TrimSpace(form.Get("flow")), form.Get("reason"), form.Has("clients")
	act := redisidem.Act{Actor: v.user.Name, Reason: strings.TrimSpace(p.Reason)}
	if err := p.Kind.do(c.inspector, v.r.Context(), p, act); err != nil {
		return p.refuse(v, err)
	}
	v.redirect(v.link("flows", map[string][]string{"done": {p.Kind.Name}}))
	return nil
}

// refuse shows the page again if the input was bad.
func (p *flowActPage) refuse(v *visit, err error) error {
	explained := explain(err)
	if explained.status != http.StatusBadRequest {
		return err
	}
	p.Problem = explained.text
	if p.Index == nil && p.Flow != "" {
		_ = p.look(v) // what cannot be read, such as a name that no flow has, is left out
	}
	return v.render(http.StatusBadRequest, "flowact", p.Kind.Title, p)
}
