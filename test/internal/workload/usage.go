package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
	"github.com/redisidem/redisidem/test/internal/history"
)

// usage is a Use in progress. Its callbacks run one after the other.
type usage struct {
	worker *Worker
	Use

	last   history.Event // the last callback that began
	open   bool          // the outcome of last is not reported yet
	gaveUp bool
}

var errGaveUp = errors.New("gave up")

// usageContext is the context key under which a flow's stages find their usage.
type usageContext struct{}

// single is the callback of a key with one stage.
func (u *usage) single(ctx context.Context, st *redisidem.Stage) (history.Chain, error) {
	return u.stage(ctx, st)
}

// work is a stage of a key with several stages.
func (u *usage) work(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	chain, err := u.stage(ctx, st)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	outcome := redisidem.Finish(redisidem.JSON(200, chain))
	if i := int(st.Key().Revision); i < len(stages)-1 {
		outcome = redisidem.Advance(stages[i+1]).WithState(chain)
	}
	return outcome.WithEffects(effect.IncrBy(st.ShardKey(Counter+st.Key().Value), 1).Expire(time.Hour)), nil
}

// Counter is the prefix of the counters of commits, which effects increment. The key's value
// follows. Keys with one stage have no counter.
const Counter = "commits-of:"

// Counted reports whether the commits of a key are counted.
func Counted(value string) bool { return kind(value) != single }

// stage is a run of a callback. It returns the chain to store.
func (u *usage) stage(ctx context.Context, st *redisidem.Stage) (history.Chain, error) {
	u.kept()
	w := u.worker
	var seen history.Chain
	if err := st.State(&seen); err != nil && !errors.Is(err, redisidem.ErrNoState) {
		return "", err
	}
	u.last = history.Event{
		Kind: history.Began, Worker: w.Name, Key: st.Key().Value, Revision: st.Key().Revision, Fence: st.Fence(),
		Attempt: st.Attempt(), Token: fmt.Sprintf("%s/%d", w.Name, w.tokens.Add(1)), Text: string(seen),
	}
	u.open = true
	w.Tell(u.last)
	w.Stay(ctx, u.Dwell, u.last)
	u.last.Lost = errors.Is(context.Cause(ctx), redisidem.ErrLeaseLost)
	if u.Fails || u.last.Lost && u.last.Fence%2 == 0 {
		u.gaveUp = true
		return "", errGaveUp
	}
	return seen.Add(u.last.Token), nil
}

// kept reports that the previous callback of the same call was committed. Otherwise the flow would
// not have reached the next one.
func (u *usage) kept() {
	if u.open {
		u.worker.Tell(u.last.As(history.Committed))
	}
	u.open = false
}

// returned handles the result of a call on a key with several stages.
func (u *usage) returned(key *redisidem.Key, err error) (*redisidem.Key, error) {
	if u.open && err != nil && !u.gaveUp && key.Revision > u.last.Revision && errors.Is(err, redisidem.ErrLeaseLost) {
		u.kept() // the lease was lost after the commit
	}
	u.failed(err)
	if err == nil && key.Answered() {
		u.answered(AnswerOf(key))
	}
	return key, err
}

// AnswerOf returns the chain in a key's answer. For an answer without a chain it returns a text
// that differs from every chain.
func AnswerOf(key *redisidem.Key) string {
	var answer string
	if key.Response.IsZero() {
		return "no answer"
	}
	if err := json.Unmarshal(key.Response.Body, &answer); err != nil {
		return fmt.Sprintf("no answer: %q", key.Response.Body)
	}
	return answer
}

func (u *usage) answered(answer string) {
	u.worker.Tell(history.Event{Kind: history.Answered, Worker: u.worker.Name, Key: u.Key, Text: answer})
}

// failed records the error of a call.
func (u *usage) failed(err error) {
	expected := err == nil
	for _, target := range []error{
		errGaveUp, redisidem.ErrLocked, redisidem.ErrLeaseLost, redisidem.ErrOutcomeUnknown, redisidem.ErrUnavailable,
	} {
		expected = expected || errors.Is(err, target)
	}
	if !expected {
		u.worker.Tell(history.Event{Kind: history.Failed, Worker: u.worker.Name, Key: u.Key, Text: err.Error()})
	}
	if !u.open {
		return
	}
	u.open = false
	kind := history.Unknown
	switch {
	case u.gaveUp:
		kind = history.GaveUp
	case err == nil:
		kind = history.Committed
	case errors.Is(err, redisidem.ErrFenced):
		kind = history.Fenced
	}
	u.worker.Tell(u.last.As(kind))
}

// RecordOf returns the stored state of a key.
func RecordOf(key *redisidem.Key) history.Record {
	record := history.Record{Key: key.Value, Finished: key.Finished()}
	if key.Finished() {
		record.Answer = history.Chain(AnswerOf(key))
	}
	for _, e := range key.Journal {
		record.Journal = append(record.Journal, history.Commit{Fence: e.Fence, Attempt: e.Attempt})
	}
	return record
}
