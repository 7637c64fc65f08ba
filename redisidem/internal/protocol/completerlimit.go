package protocol

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/lua"
)

// Admission is the permission to work on a key of a flow, of which only a number may be worked on
// at once.
type Admission struct {
	Flow  string // its name
	Scope string // as ScopePart
	// PerScope and PerFlow are the numbers; 0 for no limit.
	PerScope, PerFlow int
	For               time.Duration // how long it counts
}

// NewAdmit makes the call that asks for an admission. Run again, it makes the admission count for
// the full time again.
func (c *Client) NewAdmit(a Admission) Call {
	call := newCall(lua.CompleterLimit, NewToken(), RunningKeys(c.namespace, a.Flow))
	call.add(a.Scope, a.PerScope, a.PerFlow, a.For.Milliseconds())
	return call
}

// FullFlow reports, from the reply FULL to a call of NewAdmit, whether the limit of the flow is
// reached and not only that of the scope.
func (r Reply) FullFlow() bool { return r.number(0) == "1" }

// EndAdmission ends the admission that a call of NewAdmit asked for. ctx must have a deadline.
func (c *Client) EndAdmission(ctx context.Context, a Admission, call Call) error {
	key := RunningKeys(c.namespace, a.Flow)
	return Repeat(ctx, func(ctx context.Context) error {
		return c.send(ctx, redis.NewIntCmd(ctx, "zrem", key, a.Scope+" "+call.nonce))
	})
}
