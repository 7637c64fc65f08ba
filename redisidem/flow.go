package redisidem

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The defaults of [FlowConfig], [FlowStage] and [Retry].
const (
	DefaultInterimFor  = 15 * time.Minute
	DefaultMaxAttempts = 10
	DefaultMaxVisits   = 16
	DefaultBackoff     = 100 * time.Millisecond
	DefaultMaxBackoff  = 5 * time.Second
)

// FlowConfig describes a [Flow]. Name, Version and Stages are required. The zero value of every
// other field means its default.
type FlowConfig struct {
	// Name and Version identify the flow. A key remembers the flow that works on it, and only that
	// flow can continue it. Change the version when a process with the new stages must not continue
	// the work that the old stages began. Keep the old flow in the program until its keys are
	// finished.
	//
	// Name has 1 to 64 letters, digits, dots, dashes and underscores. Version is at least 1.
	Name    string
	Version int

	// Stages are in the order in which they run, unless an outcome names another recovery point.
	// The first stage starts at Started.
	Stages []FlowStage

	// RecoverAfter makes the flow's keys recoverable: a [Completer] continues a key when its last
	// run ended, or its lease lapsed, that long ago. Choose it longer than the pauses between a
	// client's retries.
	//
	// The delay doubles with each attempt at a stage, up to 64 times RecoverAfter. It never exceeds
	// half of Config.Retention, because the key would expire. At least 1 ms. Zero: only clients
	// continue the keys.
	RecoverAfter time.Duration

	// InterimFor is how long a Completer leaves a key alone after an interim answer, because the
	// caller is expected back. Choose it shorter than Config.Retention, because otherwise the key
	// expires first. At least 1 ms. Default: 15 min.
	InterimFor time.Duration

	// MaxAttempts is how many attempts at one stage are made, including the attempts of clients,
	// before a Completer makes the key a dead letter. Default: 10.
	//
	// A Completer also gives up a key:
	//
	//   - whose stages return to each other without end (ErrNoProgress);
	//   - that still gets interim answers when it is older than a lease, InterimFor and
	//     Config.Retention together;
	//   - that had only NothingDone for that long;
	//   - whose record it could not read MaxAttempts times;
	//   - that it found MaxAttempts times at a version or a recovery point that none of its flows
	//     has. MaxAttempts and RecoverAfter are those of the newest version in that case.
	//
	// A requeued key starts again from zero.
	MaxAttempts int
}

// Flow is an operation made of stages. It is immutable and safe for concurrent use. Make one with
// [NewFlow], and run it with [Scope.WorkFlow] or [Scope.DoFlow].
type Flow struct {
	cfg    FlowConfig
	id     string // name/version
	stages map[string]*FlowStage
	order  map[string]int
	words  string // the argument of the claim script

	compensates bool // at least one stage has a Compensate
}

var flowName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// NewFlow makes a flow. It returns an [*InvalidError] if the description is wrong: for an empty or
// repeated recovery point, and for a value out of bounds. A stage that cannot be reached, or cannot
// reach Finished, is wrong as well.
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

// connected checks that each stage can be reached from Started and can reach Finished.
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

// String returns the flow as keys remember it: name/version.
func (f *Flow) String() string { return f.id }

// Config returns a copy of the flow's description with its defaults filled in.
func (f *Flow) Config() FlowConfig {
	cfg := f.cfg
	cfg.Stages = slices.Clone(cfg.Stages)
	for i := range cfg.Stages {
		cfg.Stages[i].Next = slices.Clone(cfg.Stages[i].Next)
	}
	return cfg
}

// recoverable reports whether the flow's keys are in a due index. It reports false for a nil flow.
func (f *Flow) recoverable() bool { return f != nil && f.cfg.RecoverAfter > 0 }

// undoes reports whether a commit of the stage at that point can be undone.
func (f *Flow) undoes(point string) bool {
	return f != nil && f.stages[point] != nil && f.stages[point].Compensate != nil
}
