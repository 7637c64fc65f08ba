package console

import (
	"context"
	"net/http"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// overview is what the first page shows of all keys.
type overview struct {
	At      time.Time // of the numbers, by this machine's clock
	Stats   *redisidem.Stats
	Problem string // why newer numbers could not be read
	States  []stateCount
	Trends  []trend

	Activity *activityView // nil without Config.Activity
}

// stateCount is how many keys are in a state.
type stateCount struct {
	State   redisidem.KeyState
	Meaning string
	redisidem.Estimate
	Bar bar
}

// meanings say what each state means for an operator.
var meanings = map[redisidem.KeyState]string{
	redisidem.KeyUnreadable:  "the record cannot be read",
	redisidem.KeyFinished:    "retries get the stored answer",
	redisidem.KeyInFlight:    "a worker has the lease",
	redisidem.KeyDead:        "a completer gave it up; requeue or resolve it",
	redisidem.KeyAbandoned:   "its worker is gone; the next attempt may begin",
	redisidem.KeyInterim:     "it has an interim answer and waits for its client",
	redisidem.KeyInterrupted: "what the last attempt did is unknown; it waits for a retry or a decision",
	redisidem.KeyIdle:        "no work is under way",
}

// Attention is how many keys may need an operator.
func (o *overview) Attention() int64 { return attention(o.Stats) }

func attention(s *redisidem.Stats) (n int64) {
	for _, state := range []redisidem.KeyState{redisidem.KeyInterrupted, redisidem.KeyAbandoned, redisidem.KeyUnreadable, redisidem.KeyDead} {
		n += s.States[state].Count
	}
	return n
}

func overdue(s *redisidem.Stats) (n int64) {
	for _, f := range s.Flows {
		n += f.Overdue
	}
	return n
}

// overviewReader reads the overview, and remembers what it has read.
type overviewReader struct {
	inspector *redisidem.Inspector
	last      overview
	history   history
}

// read reads the numbers of Redis. If Redis does not answer, it returns those from before with the
// problem.
func (r *overviewReader) read(ctx context.Context) (overview, error) {
	stats, err := r.inspector.Stats(ctx)
	if ctx.Err() != nil {
		return overview{}, ctx.Err()
	}
	if err != nil {
		r.last.Problem = message(err)
		return r.last, nil
	}
	r.history.add(stats)
	r.last = overview{At: time.Now(), Stats: stats, Trends: r.history.trends()}
	var bars []int64
	for _, state := range redisidem.KeyStates() {
		e := stats.States[state]
		r.last.States = append(r.last.States, stateCount{State: state, Meaning: meanings[state], Estimate: e})
		bars = append(bars, e.Count)
	}
	for i, b := range newBars(bars) {
		r.last.States[i].Bar = b
	}
	return r.last, nil
}

// checked is what a check of Redis said.
type checked struct {
	At       time.Time
	Findings []redisidem.Finding
	Problem  string
}

func (c *Console) readCheck(ctx context.Context) (checked, error) {
	report, err := c.cfg.Check(ctx)
	if ctx.Err() != nil {
		return checked{}, ctx.Err()
	}
	if err != nil {
		return checked{At: time.Now(), Problem: message(err)}, nil
	}
	return checked{At: time.Now(), Findings: report.Findings}, nil
}

// Worst is the worst verdict, and good without findings.
func (c *checked) Worst() redisidem.Verdict {
	worst := redisidem.VerdictGood
	for _, f := range c.Findings {
		worst = max(worst, f.Verdict)
	}
	return worst
}

// overviewNow returns the numbers of Redis, which may be remembered, and those of this process as
// they are now.
func (c *Console) overviewNow(ctx context.Context) (overview, error) {
	o, err := c.overview.get(ctx)
	if err == nil && c.cfg.Activity != nil {
		o.Activity = c.cfg.Activity.view()
	}
	return o, err
}

// showOverview shows the first page.
func (c *Console) showOverview(v *visit) error {
	o, err := c.overviewNow(v.r.Context())
	if err != nil {
		return err
	}
	content := struct {
		Overview *overview
		Check    *checked
		Refresh  time.Duration
	}{Overview: &o, Refresh: c.cfg.Refresh}
	if c.cfg.Check != nil {
		check, err := c.check.get(v.r.Context())
		if err != nil {
			return err
		}
		content.Check = &check
	}
	return v.render(http.StatusOK, "overview", "Overview", content)
}
