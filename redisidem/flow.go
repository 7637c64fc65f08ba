package redisidem

import (
	"slices"
	"strconv"
	"strings"
)

// Flow is an operation made of stages. It is immutable and safe for concurrent use. Make one with
// [NewFlow], and run it with [Scope.WorkFlow] or [Scope.DoFlow].
type Flow struct {
	cfg    FlowConfig
	id     string // name/version
	stages map[string]*FlowStage
	order  map[string]int
	words  string // the argument of the claim script

	earlier map[string]succession // by name/version

	compensates bool // at least one stage has a Compensate
	returnless  bool // at least one stage is a point of no return
}

// NewFlow makes a flow. It returns an [*InvalidError] if the description is wrong: for an empty or
// repeated recovery point, and for a value out of bounds. A stage that cannot be reached, or cannot
// reach Finished, is wrong as well.
func NewFlow(cfg FlowConfig) (*Flow, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	f := &Flow{
		cfg: cfg, id: cfg.Name + "/" + strconv.Itoa(cfg.Version),
		stages: make(map[string]*FlowStage), order: make(map[string]int),
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
		f.returnless = f.returnless || s.NoReturn
		words.WriteString(s.Point + "\n")
	}
	f.words = words.String()
	if err := f.checkExhausted(); err != nil {
		return nil, err
	}
	if err := f.setEarlier(); err != nil {
		return nil, err
	}
	if err := f.connected(); err != nil {
		return nil, err
	}
	return f, nil
}

// connected checks that each stage can be reached from Started and can reach Finished. With Adopt a
// stage can be one that only keys of an earlier version come to. With Compensate it can be one that
// is only there to undo the commits of adopted keys.
func (f *Flow) connected() error {
	for i := range f.cfg.Stages {
		for _, to := range f.cfg.Stages[i].Next {
			if to != Finished && f.stages[to] == nil {
				return invalid("FlowConfig.Stages["+strconv.Itoa(i)+"].Next", "names no stage's recovery point: %q", to)
			}
		}
	}
	reached := map[string]bool{Started: true, f.cfg.Exhausted.Stage: true}
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
		case !reached[s.Point] && !f.adopts() && s.Compensate == nil:
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
	cfg.Earlier = slices.Clone(cfg.Earlier)
	return cfg
}

// recoverable reports whether the flow's keys are in a due index. It reports false for a nil flow.
func (f *Flow) recoverable() bool { return f != nil && f.cfg.RecoverAfter > 0 }

// undoes reports whether a commit of the stage at that point can be undone.
func (f *Flow) undoes(point string) bool {
	return f != nil && f.stages[point] != nil && f.stages[point].Compensate != nil
}
