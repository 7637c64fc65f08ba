package scenario

import (
	"context"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/load"
)

// finished is the number of finished keys that are replayed. finishedSlow replaces it on the
// embedded server, which creates them slowly.
const finished, finishedSlow = 1000, 50

func (s Subject) finished() uint64 {
	if s.Slow {
		return finishedSlow
	}
	return finished
}

var replay = Scenario{
	Name: "replay", Title: "Replay from Redis",
	About:   "Each operation repeats one of 1000 finished requests (of 50 on the embedded server), and gets the stored response.",
	Kinds:   []string{"redislock", "redisidem-auto", "redisidem", "redislock-auto", "redsync", "rueidislock", "gofiber", "medusa-sql", "redisidem-sql"},
	Callers: 64, Sized: true,
	Prepare: prepareReplay,
}

var replayCopy = Scenario{
	Name: "replay-copy", Title: "Replay from the process's copies",
	About:   "The same with local copies of finished records: no round trip at all.",
	Kinds:   []string{"redislock", "redisidem", "redisidem-cache"},
	Callers: 2,
	Prepare: func(ctx context.Context, s Subject) (load.Operation, func() error, error) {
		op, end, err := prepareReplay(ctx, s)
		if err != nil || s.Kind.Name != "redisidem-cache" {
			return op, end, err
		}
		// The service drops copies made before it listened for deletions. The second round makes
		// the copies.
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		for n := range s.finished() {
			if err := again(ctx, s.Contender, request("done", 0, n), s.Body); err != nil {
				return nil, nil, err
			}
		}
		return op, end, nil
	},
}

func prepareReplay(ctx context.Context, s Subject) (load.Operation, func() error, error) {
	for n := range s.finished() {
		if err := execute(ctx, s.Contender, request("done", 0, n), s.Body); err != nil {
			return nil, nil, err
		}
	}
	keys := s.finished()
	return func(ctx context.Context, caller int, n uint64) (time.Duration, error) {
		return 0, again(ctx, s.Contender, request("done", 0, mix(caller, n)%keys), s.Body)
	}, nothing, nil
}
