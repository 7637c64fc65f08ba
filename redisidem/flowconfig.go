package redisidem

import (
	"regexp"
	"slices"
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
	// the work that the old stages began, and name the old one in Earlier until its keys are
	// finished.
	//
	// Name has 1 to 64 letters, digits, dots, dashes and underscores. Version is at least 1.
	Name    string
	Version int

	// Earlier are versions of the flow whose keys this program still carries on. New keys begin
	// with this version. A key of an earlier version goes on in that version, or is adopted by this
	// one: see [EarlierVersion]. A call of WorkFlow or DoFlow needs one more round trip for a key
	// of an earlier version, and one for the adoption. Keys of this version need none more. A
	// [Completer] that has this flow runs its earlier versions, too. Nil: keys of other versions
	// are refused with a [*FlowError].
	Earlier []EarlierVersion

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

	// Deadline is how long the work on a key may take since the key was created, by the server's
	// clock. A key that is older is failed: its committed stages are compensated, and it finishes
	// with the answer of FailWith. The context of a stage that is running then ends, with
	// ErrDeadline as its cause. The stage may still return an outcome, which is committed and then
	// undone, or which finishes the key. After an error of the stage the flow is failed at once.
	//
	// A client's call looks at the deadline, and so does a Completer, within 30 s and an Interval
	// of it. The deadline does not apply after the point of no return ([FlowStage].NoReturn), nor
	// to dead letters until they are requeued. At least 1 ms. Zero: no deadline.
	Deadline time.Duration

	// FailWith returns the answer of a key that is failed by the flow and not by one of its stages.
	// The cause matches [ErrDeadline], [ErrCanceled] or [ErrExhausted]. It gets the stage at which
	// the flow fails, before anything is undone, and may be called more than once for a key. Nil:
	// an answer with status 504 after the deadline, 409 after Cancel and 500 otherwise, and a
	// problem document (RFC 9457).
	FailWith func(st *Stage, cause error) Response

	// Exhausted says what a Completer does with a key that has used up MaxAttempts at a stage. The
	// zero value: it becomes a dead letter.
	Exhausted Exhausted

	// MaxAttempts is how many attempts at one stage are made, including the attempts of clients,
	// before a Completer makes the key a dead letter, or does what Exhausted says. Default: 10.
	//
	// A Completer also makes a key a dead letter:
	//
	//   - whose stages return to each other without end (ErrNoProgress);
	//   - that still gets interim answers when it is older than a lease, InterimFor and
	//     Config.Retention together, and than Deadline;
	//   - that had only NothingDone for that long, and for 80 times RecoverAfter;
	//   - whose record it could not read MaxAttempts times;
	//   - that it found MaxAttempts times at a version or a recovery point that none of its flows
	//     has. MaxAttempts and RecoverAfter are those of the newest version in that case.
	//
	// A requeued key starts again from zero.
	MaxAttempts int

	// Pausable lets operators pause the flow for clients: see [Inspector.Pause]. Before a call of
	// WorkFlow or DoFlow claims a key, it then looks whether the flow is paused, in an answer that
	// the process reads from Redis at most once a second for all its flows. False: calls do not
	// look, and only completers can be paused.
	Pausable bool
}

var flowName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// complete fills in the defaults and checks the bounds, except for those of the stages.
func (c *FlowConfig) complete() error {
	def(&c.InterimFor, DefaultInterimFor)
	def(&c.MaxAttempts, DefaultMaxAttempts)
	c.Stages = slices.Clone(c.Stages)
	c.Earlier = slices.Clone(c.Earlier)
	switch {
	case !flowName.MatchString(c.Name):
		return invalid("FlowConfig.Name", "must be 1 to 64 letters, digits, dots, dashes and underscores: %q", c.Name)
	case c.Version < 1:
		return invalid("FlowConfig.Version", "must be at least 1: %d", c.Version)
	case len(c.Stages) == 0:
		return invalid("FlowConfig.Stages", "must not be empty")
	case c.Stages[0].Point != Started:
		return invalid("FlowConfig.Stages[0].Point", "must be %q, where each key begins: %q", Started, c.Stages[0].Point)
	case c.RecoverAfter != 0 && (c.RecoverAfter < time.Millisecond || c.RecoverAfter > maxDuration):
		return invalid("FlowConfig.RecoverAfter", "must be between 1ms and %v, or zero: %v", maxDuration, c.RecoverAfter)
	case c.InterimFor < time.Millisecond || c.InterimFor > maxDuration:
		return invalid("FlowConfig.InterimFor", "must be between 1ms and %v: %v", maxDuration, c.InterimFor)
	case c.Deadline != 0 && (c.Deadline < time.Millisecond || c.Deadline > maxDuration):
		return invalid("FlowConfig.Deadline", "must be between 1ms and %v, or zero: %v", maxDuration, c.Deadline)
	case c.MaxAttempts < 1:
		return invalid("FlowConfig.MaxAttempts", "must be at least 1: %d", c.MaxAttempts)
	}
	return nil
}

// complete fills in the defaults of one stage and checks it. Of the other stages it looks only at
// the earlier ones, for a repeated point.
func (s *FlowStage) complete(field string, f *Flow) error {
	def(&s.MaxVisits, DefaultMaxVisits)
	def(&s.Retry.Attempts, 1)
	def(&s.Retry.Backoff, DefaultBackoff)
	def(&s.Retry.MaxBackoff, max(DefaultMaxBackoff, s.Retry.Backoff))
	s.Next = slices.Clone(s.Next)
	switch {
	case s.Point == "":
		return invalid(field+".Point", "must not be empty")
	case s.Point == Finished || strings.HasPrefix(s.Point, compensating) || strings.HasPrefix(s.Point, adopting) || strings.Contains(s.Point, "\n"):
		return invalid(field+".Point", "must not be %q, nor begin with %q or %q, nor have a line break: %q", Finished, compensating, adopting, s.Point)
	case f.stages[s.Point] != nil:
		return invalid(field+".Point", "is already the point of an earlier stage: %q", s.Point)
	case s.Work == nil:
		return invalid(field+".Work", "must not be nil")
	case s.Next != nil && len(s.Next) == 0:
		return invalid(field+".Next", "must not be empty; nil stands for the following stage, or Finished for the last one")
	case s.CompensateFailed && s.Compensate == nil:
		return invalid(field+".CompensateFailed", "must not be set without Compensate")
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
