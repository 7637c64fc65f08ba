package contender

import (
	"context"
	"errors"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

// Stages is the number of stages of a request for [Staged].
const Stages = 4

// Staged is a contender that can also run a request in stages. Each stage is stored, so that a
// retry continues after it.
type Staged interface {
	// Flow executes the request in [Stages] stages, or replays its response. Only the last stage
	// does work.
	Flow(ctx context.Context, r Request, last Work) (response []byte, replayed bool, err error)
}

var (
	_ Staged = (*libraryContender)(nil)
	_ Staged = (*handwritten)(nil)
)

// points are the recovery points of a request in stages.
var points = [Stages]string{redisidem.Started, "tax_lines_created", "payment_authorized", "order_created"}

// lastWork is the context key of the work of a flow's last stage.
type lastWork struct{}

// newFlow creates the flow of every request.
func newFlow() (*redisidem.Flow, error) {
	cfg := redisidem.FlowConfig{Name: "bench", Version: 1}
	for _, point := range points {
		cfg.Stages = append(cfg.Stages, redisidem.FlowStage{
			Point: point,
			Work:  func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) { return redisidem.Next(), nil },
		})
	}
	cfg.Stages[Stages-1].Work = func(ctx context.Context, _ *redisidem.Stage) (redisidem.Outcome, error) {
		work, ok := ctx.Value(lastWork{}).(Work)
		if !ok {
			return redisidem.Outcome{}, errors.New("the last stage has no work")
		}
		body, err := work(ctx)
		return redisidem.Finish(redisidem.Response{Code: 200, Body: body}), err
	}
	return redisidem.NewFlow(cfg)
}

// Flow implements [Staged].
func (g *libraryContender) Flow(ctx context.Context, r Request, last Work) (response []byte, replayed bool, err error) {
	return answer(g.scope.DoFlow(context.WithValue(ctx, lastWork{}, last), r.Key,
		redisidem.Request{Method: r.Method, Path: r.Path, Params: r.Params}, g.flow))
}

// advance stores that a stage is done.
var advance = redis.NewScript(`
if redis.call('HGET', KEYS[1], 'recovery_point') == 'finished' then
  return 0
end
redis.call('HSET', KEYS[1], 'recovery_point', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1`)

// Flow implements [Staged]. Each stage is stored when it is done, under one lock.
func (g *handwritten) Flow(ctx context.Context, r Request, last Work) (response []byte, replayed bool, err error) {
	return g.Do(ctx, r, func(ctx context.Context) ([]byte, error) {
		for _, point := range points[1:] {
			stored, err := advance.Run(ctx, g.store, []string{g.record(r)}, point, strconv.FormatInt(retention.Milliseconds(), 10)).Int()
			if err != nil {
				return nil, err
			}
			if stored != 1 {
				return nil, errors.New("another worker was faster")
			}
		}
		return last(ctx)
	})
}
