package redisidem

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redisidem/redisidem/redisidem/internal/backoff"
	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// The defaults of [FlowConfig], [FlowStage] and [Retry].
const (
	DefaultInterimFor  = 15 * time.Minute
	DefaultMaxAttempts = 10
	DefaultMaxVisits   = 16
	DefaultBackoff     = 100 * time.Millisecond
	DefaultMaxBackoff  = 5 * time.Second
)

// FlowConfig describes a [Flow]. The zero value of a field means its default, where there is one.
type FlowConfig struct {
	// Name and Version tell flows apart: a key remembers the one that works on it, and no other
	// will. Change the version when a process with the new stages must not carry on what one with
	// the old stages began; keep the old flow in the program until its keys are finished. Name is
	// made of letters, digits, dots, dashes and underscores, at most 64. Version is at least 1.
	Name    string
	Version int

	// Stages are in the order in which they run, unless their outcomes say otherwise. The first
	// begins at Started.
	Stages []FlowStage

	// RecoverAfter makes the flow's keys recoverable: a [Completer] carries a key on when its last
	// run ended, or its lease lapsed, so long ago. Clients that retry should have come back by
	// then. It doubles with each attempt of a stage, up to 64 times as long, but never beyond half
	// of Config.Retention, since the key would expire. At least 1 ms. Zero: keys are left to their
	// clients.
	RecoverAfter time.Duration

	// InterimFor is how long a Completer leaves a key alone whose caller got an interim answer, and
	// is expected back. Shorter than Config.Retention, or the key has expired by then. Default: 15
	// min.
	InterimFor time.Duration

	// MaxAttempts is how many attempts of one stage a Completer makes, those of clients included,
	// before it gives the key up as a dead letter. It also gives up a key whose stages go round in
	// circles (ErrNoProgress), one that still gets interim answers when it is older than a lease,
	// InterimFor and its retention together, one that only had NothingDone for so long, one whose
	// record it cannot read after as many attempts, and one that it finds as often at a version or
	// a recovery point that none of its flows has: the newest version's MaxAttempts and
	// RecoverAfter count there. A key that was requeued has all of it again. Default: 10.
	MaxAttempts int
}

// FlowStage is one stage of a [Flow].
type FlowStage struct {
	// Point is the recovery point that the stage starts at.
	Point string

	// Work is the stage's work. It should end with Next, Finish, Fail or Interim.
	Work StageFunc

	// Next are the recovery points that Work may advance to; a stage that may run again at once, to
	// work off a long list bit by bit, names its own. Finish, Fail and Interim (at this stage's
	// point, an earlier stage's or one of Next) are always allowed. Nil: the point of the stage
	// behind it, Finished for the last one.
	Next []string

	// Timeout bounds each run of Work, Reconcile and Compensate: their context ends then. Zero:
	// only the lease's own bound, Config.MaxHold.
	Timeout time.Duration

	// Retry says what happens after an error. The zero value: the error ends the run.
	Retry Retry

	// MaxVisits bounds how often one run of the flow may come to this stage from another one, so
	// that stages which advance to each other for ever are stopped with ErrNoProgress. A stage that
	// names itself, to work off a list bit by bit, may do so as often as it wants: Config.MaxHold
	// bounds the run. Default: 16.
	MaxVisits int

	// Reconcile is asked instead of Work when an earlier attempt of this stage began and was not
	// committed, in this process or in one that died: did it happen? It returns the outcome if so,
	// ErrNothingDone if not, upon which Work runs, and any other error if it cannot tell: Run then
	// returns it with ErrOutcomeUnknown, and the key stays as it is. A panic is such an error. Nil:
	// Work runs again, which can ask for its attempt, its fence and its outbound key.
	Reconcile StageFunc

	// Compensate undoes what the stage has done, after a later stage failed for good. It runs once
	// for each commit of the stage, interim ones included, and again if it fails or its process
	// dies: it must be harmless the second time. [Stage.Compensates] returns that commit. The
	// journal of such a flow's keys remembers 1024 commits: a key that has made more fails with
	// ErrDamaged before anything is undone. Nil: nothing is to be undone.
	Compensate func(ctx context.Context, st *Stage) error

	// NoReturn makes the stage the point of no return once it is committed: neither it nor what
	// came before it is compensated any more.
	NoReturn bool
}

// Retry says what happens when a stage returns an error, while the lease is held.
type Retry struct {
	// Attempts is how often Work runs at most. Zero and 1: once.
	Attempts int
	// Backoff is the pause before the second run. It doubles up to MaxBackoff, and half of it is
	// jitter. Defaults: 100 ms and 5 s.
	Backoff, MaxBackoff time.Duration
	// If reports whether an error is worth another run. Nil: all but ErrOutcomeUnknown from a stage
	// without Reconcile.
	If func(error) bool
}

// Flow is a whole operation made of stages. It is immutable and safe for concurrent use. Run one
// with [Scope.WorkFlow] or [Scope.DoFlow].
type Flow struct {
	cfg    FlowConfig
	id     string // name/version
	stages map[string]*FlowStage
	order  map[string]int
	words  string // the argument of the claim script

	compensates bool // some stage has a Compensate
}

// compensating opens the recovery points of keys that are being compensated: behind it is the
// revision to undo next.
const compensating = "compensate:"

var flowName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// NewFlow makes a flow. What is wrong with its description is an [*InvalidError]: an empty or
// doubled recovery point, a stage that none leads to, a stage from which no way leads to Finished,
// a value out of bounds.
func NewFlow(cfg FlowConfig) (*Flow, error) {
	def(&cfg.InterimFor, DefaultInterimFor)
	def(&cfg.MaxAttempts, DefaultMaxAttempts)
	cfg.Stages = slices.Clone(cfg.Stages)
	f := &Flow{
		cfg: cfg, id: cfg.Name + "/" + strconv.Itoa(cfg.Version),
		stages: make(map[string]*FlowStage), order: make(map[string]int),
	}
	switch {
	case !flowName.MatchString(cfg.Name):
		return nil, invalid("FlowConfig.Name", "must be 1 to 64 letters, digits, dots, dashes and underscores: %q", cfg.Name)
	case cfg.Version < 1:
		return nil, invalid("FlowConfig.Version", "must be at least 1: %d", cfg.Version)
	case len(cfg.Stages) == 0:
		return nil, invalid("FlowConfig.Stages", "must not be empty")
	case cfg.Stages[0].Point != Started:
		return nil, invalid("FlowConfig.Stages[0].Point", "must be %q, where each key begins: %q", Started, cfg.Stages[0].Point)
	case cfg.RecoverAfter != 0 && (cfg.RecoverAfter < time.Millisecond || cfg.RecoverAfter > maxDuration):
		return nil, invalid("FlowConfig.RecoverAfter", "must be between 1ms and %v, or zero: %v", maxDuration, cfg.RecoverAfter)
	case cfg.InterimFor < time.Millisecond || cfg.InterimFor > maxDuration:
		return nil, invalid("FlowConfig.InterimFor", "must be between 1ms and %v: %v", maxDuration, cfg.InterimFor)
	case cfg.MaxAttempts < 1:
		return nil, invalid("FlowConfig.MaxAttempts", "must be at least 1: %d", cfg.MaxAttempts)
	}
	var words strings.Builder
	words.WriteString(f.id + "\n")
	for i := range cfg.Stages {
		s := &cfg.Stages[i]
		field := "FlowConfig.Stages[" + strconv.Itoa(i) + "]"
		if err := s.complete(field, f); err != nil {
			return nil, err
		}
		if s.Next == nil {
			s.Next = []string{Finished}
			if i+1 < len(cfg.Stages) {
				s.Next[0] = cfg.Stages[i+1].Point
			}
		}
		f.stages[s.Point], f.order[s.Point] = s, i
		f.compensates = f.compensates || s.Compensate != nil
		words.WriteString(s.Point + "\n")
	}
	f.words = words.String()
	if err := f.connected(); err != nil {
		return nil, err
	}
	return f, nil
}

// complete checks one stage by itself, and fills in its defaults.
func (s *FlowStage) complete(field string, f *Flow) error {
	def(&s.MaxVisits, DefaultMaxVisits)
	def(&s.Retry.Attempts, 1)
	def(&s.Retry.Backoff, DefaultBackoff)
	def(&s.Retry.MaxBackoff, max(DefaultMaxBackoff, s.Retry.Backoff))
	s.Next = slices.Clone(s.Next)
	switch {
	case s.Point == "":
		return invalid(field+".Point", "must not be empty")
	case s.Point == Finished || strings.HasPrefix(s.Point, compensating) || strings.Contains(s.Point, "\n"):
		return invalid(field+".Point", "must not be %q, nor begin with %q, nor have a line break: %q", Finished, compensating, s.Point)
	case f.stages[s.Point] != nil:
		return invalid(field+".Point", "is that of an earlier stage, too: %q", s.Point)
	case s.Work == nil:
		return invalid(field+".Work", "must not be nil")
	case s.Next != nil && len(s.Next) == 0:
		return invalid(field+".Next", "must not be empty; nil stands for the stage behind it")
	case s.Timeout < 0:
		return invalid(field+".Timeout", "must not be negative: %v", s.Timeout)
	case s.MaxVisits < 1:
		return invalid(field+".MaxVisits", "must be at least 1: %d", s.MaxVisits)
	case s.Retry.Attempts < 1:
		return invalid(field+".Retry.Attempts", "must not be negative: %d", s.Retry.Attempts)
	case s.Retry.Backoff < 0 || s.Retry.MaxBackoff < s.Retry.Backoff:
		return invalid(field+".Retry.Backoff", "must be between 0 and MaxBackoff (%v): %v", s.Retry.MaxBackoff, s.Retry.Backoff)
	}
	return nil
}

// connected checks that each stage can be reached and can reach the end.
func (f *Flow) connected() error {
	for i := range f.cfg.Stages {
		for _, to := range f.cfg.Stages[i].Next {
			if to != Finished && f.stages[to] == nil {
				return invalid("FlowConfig.Stages["+strconv.Itoa(i)+"].Next", "names no stage's recovery point: %q", to)
			}
		}
	}
	reached := map[string]bool{Started: true}
	ending := map[string]bool{Finished: true}
	for range f.cfg.Stages {
		for i := range f.cfg.Stages {
			s := &f.cfg.Stages[i]
			for _, to := range s.Next {
				reached[to] = reached[to] || reached[s.Point]
				ending[s.Point] = ending[s.Point] || ending[to]
			}
		}
	}
	for i := range f.cfg.Stages {
		switch s := &f.cfg.Stages[i]; {
		case !reached[s.Point]:
			return invalid("FlowConfig.Stages["+strconv.Itoa(i)+"]", "is reached from no stage: %q", s.Point)
		case !ending[s.Point]:
			return invalid("FlowConfig.Stages["+strconv.Itoa(i)+"]", "has no way to %q: %q", Finished, s.Point)
		}
	}
	return nil
}

// String returns the flow's name and version, as keys remember them: name/version.
func (f *Flow) String() string { return f.id }

// Config returns the flow's description, defaults filled in.
func (f *Flow) Config() FlowConfig {
	cfg := f.cfg
	cfg.Stages = slices.Clone(cfg.Stages)
	for i := range cfg.Stages {
		cfg.Stages[i].Next = slices.Clone(cfg.Stages[i].Next)
	}
	return cfg
}

// recoverable reports whether the flow's keys are in a due index. A nil flow's are not.
func (f *Flow) recoverable() bool { return f != nil && f.cfg.RecoverAfter > 0 }

// undoes reports whether a commit of the stage at that point can be undone.
func (f *Flow) undoes(point string) bool {
	return f != nil && f.stages[point] != nil && f.stages[point].Compensate != nil
}

// recoverAfter is RecoverAfter with jitter, so that keys that were abandoned together do not become
// due together. It is bounded by half of the retention, as the scripts bound what they make of it.
func (f *Flow) recoverAfter(retention time.Duration) time.Duration {
	d := f.cfg.RecoverAfter
	return max(min(backoff.Between(d, d+d/4), retention/2), time.Millisecond)
}

// recovery is when a completer may carry a key on. It is zero for keys of a nil flow.
func (f *Flow) recovery(retention time.Duration) protocol.Recovery {
	if !f.recoverable() {
		return protocol.Recovery{}
	}
	return protocol.Recovery{Flow: f.cfg.Name, After: f.recoverAfter(retention)}
}
